"""What can be switched on: the parity gate, adapters, checkpointing, other precisions; and what stops a run."""

import json
import math
import re
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sq.core.errors import SqError
from sq.models import packed_forward
from sq.models.adapters import Adapters, add_adapters, quantized_arguments
from sq.models.attention import choose_attention
from sq.models.load import ModelConfig, load_model
from sq.models.parity import ParityError, fp32_products
from sq.train import hardware, model, module
from sq.train.config import Precision
from sq.train.fit import fit
from sq.train.qft import QFTStage

SHORT = (
    "data.limit=24",
    "stage.lr=0.01",
    "stage.max_steps=3",
    "stage.batch_packs=2",
    "stage.epochs=3",
    "stage.validation=0.1",
)


def metrics(job):
    return json.loads(Path(job.output_dir, "train.json").read_text())["figures"]


def test_the_parity_gate_passes_on_a_sound_model_and_says_so(job, caplog):
    with caplog.at_level("INFO"):
        fit(job("qft", *SHORT, "trainer.parity_check=true"))
    assert re.search(r"parity of packed and unpacked training holds .*tolerance 1e-05", caplog.text)
    assert "prefix of 4 tokens shared" in caplog.text


def test_the_parity_gate_runs_once_for_a_model_and_a_kernel(job, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SQ_CACHE", str(tmp_path / "cache"))
    seen, own = [], model.check_parity
    monkeypatch.setattr(model, "check_parity", lambda *args, **kwargs: seen.append(1) or own(*args, **kwargs))
    words = (*SHORT, "trainer.parity_check=null", "stage.max_steps=1")
    for number, more in enumerate(([], [], ["stage.share_prefix=false"], ["trainer.parity_check=true"])):
        fit(job("qft", *words, *more, f"output_dir={tmp_path / str(number)}"))
    assert len(seen) == 3, "once, once without a shared prefix, and where it was asked for"
    monkeypatch.setattr(model, "check_parity", lambda *args, **kwargs: pytest.fail("checked again"))
    fit(job("qft", *words, f"output_dir={tmp_path / 'again'}"))


def test_the_parity_gate_takes_rows_of_all_lengths_from_one_reading():
    lengths = np.random.default_rng(0).permutation(1_000_000)
    assert [lengths[i] for i in model._spread(lengths)] == [0, 200_000, 400_000, 599_999, 799_999, 999_999]
    assert len(model._spread(lengths[:1])) == 1 and len(model._spread(lengths[:4])) == 4


def test_the_parity_gate_knows_what_it_was_passed_by(tiny_model, monkeypatch):
    def passed(cast=None, rank=0, quantized=None, **config):
        loaded = load_model(ModelConfig(name="tiny", path=str(tiny_model), **config), **(quantized or {}))
        if cast is not None:
            loaded = loaded.to(cast)
        if rank:
            add_adapters(loaded, Adapters(rank=rank, alpha=2, dropout=0.0, targets=[]))
        return model._parity_passed(loaded, choose_attention(loaded), True, "weights")

    kept = [passed(), passed(cast=torch.bfloat16), passed(positions=1024), passed(rank=2)]
    if find_spec("bitsandbytes"):
        kept.append(passed(quantized=quantized_arguments(torch.bfloat16)))
    monkeypatch.setattr(model, "version", lambda name: "another" if name == "flash-attn" else version(name))
    kept.append(passed())
    assert len(set(kept)) == len(kept)
    assert passed() == kept[-1]


def test_a_model_on_which_rows_see_each_other_is_refused(job, monkeypatch, tmp_path):
    from sq.models import layout

    own = layout._attend

    def sees_all(q, k, v, rule):
        return own(q, k.mean(0, keepdim=True).expand_as(k), v, rule)

    monkeypatch.setattr(layout, "_attend", sees_all)
    with pytest.raises(ParityError, match="parity of packed and unpacked training FAILS"):
        fit(job("qft", *SHORT, "trainer.parity_check=true"))
    assert not (tmp_path / "out" / "model").exists()


def test_a_gpus_tf32_is_for_the_training_alone(job, monkeypatch):
    monkeypatch.setattr(hardware, "device_of", lambda trainer: torch.device("cuda"))
    with pytest.raises(KeyboardInterrupt), hardware.tf32_products(job("qft").trainer):
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["trainer.gradient_checkpointing=true"], ["stage.share_prefix=false"], ["trainer.attention=unpacked"]]
)
def test_options_that_do_not_change_the_numbers(job, words, tmp_path):
    plain, other = (
        job("qft", *SHORT, f"output_dir={tmp_path / 'a'}"),
        job("qft", *SHORT, *words, f"output_dir={tmp_path / 'b'}"),
    )
    fit(plain), fit(other)
    if words[0].startswith("trainer.gradient"):
        assert metrics(other)["train/loss"] == pytest.approx(metrics(plain)["train/loss"], rel=1e-6)
    # Without a shared prefix rows fall into other packs, and steps into other rows: close, not the same.
    assert metrics(other)["val/loss"] == pytest.approx(metrics(plain)["val/loss"], rel=0.05)


def test_adapters_are_trained_alone_and_merged_on_export(job, tiny_model, tmp_path, caplog):
    with caplog.at_level("INFO"):
        exported = fit(job("qft", *SHORT, "trainer.lora.rank=4", "trainer.lora.targets=[q_proj]", "stage.lr=0.05"))
    before, after = load_file(tiny_model / "model.safetensors"), load_file(exported / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-6)}
    assert changed == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    assert re.search(r"[0-9.]+% trainable", caplog.text) and "100% trainable" not in caplog.text
    AutoModelForCausalLM.from_pretrained(exported)


def test_adapters_are_on_every_linear_layer_but_the_head(tiny_model):
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model)
    linear = {name for name, part in loaded.named_modules() if isinstance(part, torch.nn.Linear)}
    add_adapters(loaded, Adapters(rank=2, alpha=2, dropout=0.0, targets=[]))
    adapted = {name.partition(".lora_")[0] for name, p in loaded.named_parameters() if p.requires_grad}
    assert adapted == linear - {"lm_head"} and "lm_head" in linear


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "bf16_mixed"])
@pytest.mark.parametrize("stage", ["qft", "qpo"])
def test_half_precision_trains_and_qpo_still_starts_at_ln_2(job, precision, stage, pairs):
    extra = (f"data.input={pairs}", "stage.batch_rows=null") if stage == "qpo" else ()
    made = job(stage, *SHORT, *extra, f"trainer.precision={precision}")
    fit(made)
    assert math.isfinite(metrics(made)["train/loss"])


@pytest.mark.parametrize(
    ("has_bf16", "words", "chosen"),
    [
        (False, [], Precision.FP32),
        (True, [], Precision.BF16),
        (True, ["trainer.strategy=deepspeed"], Precision.BF16_MIXED),  # keeps its own fp32 masters
        (True, ["trainer.precision=fp32"], Precision.FP32),
        (False, ["trainer.precision=bf16"], Precision.BF16),  # said aloud
    ],
)
def test_precision_auto_is_bf16_where_the_processor_has_it(job, monkeypatch, has_bf16, words, chosen):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: has_bf16)
    made = job("qft", "trainer.accelerator=cpu", "trainer.precision=auto", *words)
    assert hardware.resolve_precision(made.trainer).precision is chosen


@pytest.mark.parametrize(("capability", "chosen"), [(7, Precision.FP32), (8, Precision.BF16)])
def test_precision_auto_is_bf16_where_the_gpu_has_it(job, monkeypatch, capability, chosen):
    monkeypatch.setattr(hardware, "device_of", lambda trainer: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)  # it emulates
    assert hardware.resolve_precision(job("qft", "trainer.precision=auto").trainer).precision is chosen


def test_labels_are_smoothed_in_training_and_not_on_held_out_rows(job, tmp_path):
    words = ("model.path=package:tiny", "stage.max_steps=1", "stage.validation=0.1", "stage.batch_packs=2")
    plain, smoothed = (
        job("sft", *words, f"stage.label_smoothing={e}", f"output_dir={tmp_path / str(e)}") for e in (0, 0.1)
    )
    fit(plain), fit(smoothed)
    assert metrics(smoothed)["train/loss"] > metrics(plain)["train/loss"] + 0.5
    assert metrics(smoothed)["val/loss_before"] == metrics(plain)["val/loss_before"]
    assert "train/perplexity" not in metrics(smoothed) and "val/perplexity" in metrics(smoothed)


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["stage.loss=ipo"], 25.0),
        (["stage.loss=ipo", "stage.length_normalised=true", "stage.beta=1"], 0.25),
        (["stage.loss=hinge"], 1.0),
        (["stage.loss=robust", "stage.label_smoothing=0.1"], math.log(2)),
        (["stage.loss=sigmoid", "stage.length_normalised=true", "stage.beta=2"], math.log(2)),
    ],
)
def test_each_loss_of_qpo_starts_where_it_should_and_falls(job, pairs, words, start):
    made = job("qpo", f"data.input={pairs}", *words, "stage.lr=0.003", "stage.epochs=3", "stage.batch_rows=8",
               "stage.warmup_steps=0", "stage.validation=0.2")  # fmt: skip
    fit(made)
    assert metrics(made)["val/loss_before"] == pytest.approx(start, rel=1e-6)
    assert metrics(made)["train/loss"] < 0.97 * start and metrics(made)["train/accuracy"] > 0.7


def test_qpo_with_a_share_of_sft_loss_keeps_the_chosen_likely(job, pairs, tmp_path):
    words = (f"data.input={pairs}", "stage.lr=0.003", "stage.epochs=4", "stage.batch_rows=8", "stage.validation=0.2")
    plain, both = (job("qpo", *words, f"stage.nll={n}", f"output_dir={tmp_path / str(n)}") for n in (0, 1))
    fit(plain), fit(both)
    ours, theirs = metrics(both), metrics(plain)
    assert ours["val/logp_chosen"] > theirs["val/logp_chosen"] and "val/nll" not in theirs
    assert ours["val/loss_before"] == pytest.approx(math.log(2) + math.log(1024), abs=0.1)  # a model that knows nothing


def test_a_loss_that_is_no_number_stops_with_step_rows_and_checkpoint(job, monkeypatch, tmp_path):
    own = packed_forward.pack_loss

    def broken(*args):
        out = own(*args)
        return replace(out, total=out.total * math.nan) if seen.append(1) or len(seen) > 5 else out

    seen = []
    monkeypatch.setattr(packed_forward, "pack_loss", broken)
    words = (
        "data.limit=24",
        "stage.batch_packs=1",
        "stage.max_steps=9",
        "stage.epochs=9",
        "trainer.checkpoint_every=2",
    )
    with pytest.raises(
        SqError,
        match=r"the loss is nan at step 5, rows [0-9a-f]{32}.*The last checkpoint, .*step-00000004\.ckpt, is good",
    ):
        fit(job("qft", *words, "stage.validation=0"))
    assert [p.name for p in (tmp_path / "out" / "checkpoints").glob("*.ckpt")] == ["step-00000004.ckpt"]


def test_qpo_refuses_to_start_elsewhere_than_ln_2(job, pairs, monkeypatch):
    from sq.train import qpo

    monkeypatch.setattr(
        qpo, "switch_off_dropout", lambda model: [setattr(m, "attention_dropout", 0.5) for m in model.modules()]
    )
    with pytest.raises(SqError, match=r"QPO starts at a loss of .* instead of 0\.69314718"):
        fit(job("qpo", f"data.input={pairs}", "stage.max_steps=1"))


@pytest.mark.parametrize(
    ("precision", "shift", "refusal"),
    [
        ("fp32", [1e-3, 0.0], r"rounding in float32 explains \(1\.\de-06 for \d+ pairs of \d+ tokens"),
        ("tf32", [1e-3, 0.0], None),
        ("tf32", [5.0, 0.0], r"rounding in TF32 explains \(\d\.\de-0[23] for \d+ pairs of \d+ tokens"),
        ("bf16", [1e-3, 0.0], None),
        ("bf16", [5.0, 0.0], r"rounding in bfloat16 explains \(\d\.\de-0[12] for \d+ pairs of \d+ tokens"),
        ("bf16", [2.0, 2.0], r"log-probabilities are: off by \d\.\de-01 nats .* where 1\.2e-01 is explained"),
        ("bf16", [0.1, 0.1], None),
    ],
)
def test_how_far_from_ln_2_qpo_may_start_depends_on_the_arithmetic(job, pairs, monkeypatch, precision, shift, refusal):
    """References of chosen and rejected sides that are off by so much; by the same in both, the loss does not show."""
    from sq.train import reference

    own = reference._computed
    monkeypatch.setattr(reference, "_computed", lambda *args: own(*args) + torch.tensor(shift))
    tf32 = precision == "tf32"
    made = job("qpo", f"data.input={pairs}", "stage.max_steps=1", f"trainer.precision={'fp32' if tf32 else precision}")
    with (
        fp32_products("high") if tf32 else nullcontext(),
        nullcontext() if refusal is None else pytest.raises(SqError, match=refusal),
    ):
        fit(made)


@pytest.mark.parametrize(("schedule", "end"), [("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)])
def test_the_learning_rate_rises_falls_and_ends_where_it_should(schedule, end):
    from sq.train.stage import Schedule

    stage = QFTStage(name="qft", lr=1.0, warmup=0.1, schedule=Schedule(schedule))
    factors = [module.lr_factor(stage, step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11) and factors[10] == 1.0 and factors[100] == pytest.approx(end, abs=1e-9)
    assert all(a <= b for a, b in zip(factors[:10], factors[1:11], strict=True))
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))
    fixed = QFTStage(name="qft", lr=1.0, warmup_steps=20)
    assert module.lr_factor(fixed, 19, 100) == pytest.approx(20 / 21) and module.lr_factor(fixed, 20, 100) == 1.0
