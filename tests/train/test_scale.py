"""Two processes on this machine: DDP and FSDP give the losses of one process, and export plain weights."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultReduceScatter
from transformers import AutoModelForCausalLM

from sq.core.errors import ConfigError
from sq.models import regressor
from sq.train import trainer
from sq.train.fit import fit
from sq.train.launch import processes
from sq.train.module import TrainingModule

pytestmark = pytest.mark.usefixtures("forked_ranks")
SETTINGS = (
    "data.limit=60", "stage.lr=0.003", "stage.epochs=2", "stage.batch_packs=4", "stage.pack_tokens=192",
    "stage.validation=0.1", "trainer.checkpoint_every=3",
)  # fmt: skip


def trained(job, stage, *words):
    made = job(stage, *words)
    model = made.run()
    with open(f"{made.output_dir}/train.json") as file:
        return model, json.load(file)["figures"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "strategy", "precision"),
    [("qft", "ddp", "fp32"), ("qft", "fsdp", "fp32"), ("qpo", "ddp", "fp32"), ("qpo", "fsdp", "fp32"),
     ("qft", "ddp", "bf16"), ("qft", "fsdp", "bf16")],
)  # fmt: skip
def test_two_processes_train_as_one(stage, strategy, precision, job, pairs, tmp_path, monkeypatch):
    calls, reduce, step = [], DefaultReduceScatter.__call__, TrainingModule.optimizer_step
    monkeypatch.setattr(
        DefaultReduceScatter, "__call__", lambda *args, **more: calls.append("r") or reduce(*args, **more)
    )
    monkeypatch.setattr(
        TrainingModule, "optimizer_step", lambda *args, **more: calls.append("s") or step(*args, **more)
    )
    extra = (f"data.input={pairs}", "stage.batch_rows=null") if stage == "qpo" else ()
    extra += (f"trainer.precision={precision}",)
    alone, metrics = trained(job, stage, *SETTINGS, *extra, f"output_dir={tmp_path / 'one'}")
    words = (
        *SETTINGS,
        *extra,
        "trainer.devices=2",
        f"trainer.strategy={strategy}",
        f"output_dir={tmp_path / strategy}",
    )
    model, found = trained(job, stage, *words)
    for name in ("train/loss", "val/loss", "train/grad_norm"):
        assert found[name] == pytest.approx(metrics[name], rel=2e-4 if precision == "fp32" else 2e-3), name
    if strategy == "fsdp":
        steps = calls.count("s") // 2
        assert calls.count("r") == 3 * steps > 0, "two layers and the rest, once a step of two packs each"
    assert [p.name for p in model.glob("*.safetensors")] == ["model.safetensors"]
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (alone, model))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=2e-4 if precision == "fp32" else 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "strategy"), [("difficulty", "fsdp"), ("reward", "ddp")])
@pytest.mark.parametrize("share", [0.4, 0.08])  # in packs for both processes; in one pack, of which one has none
def test_figures_of_held_out_rows_are_those_of_one_process(share, stage, strategy, job, labels, graded, tmp_path):
    rows = labels if stage == "difficulty" else graded
    given = [f"data.input={rows}", f"stage.validation={share}", "stage.max_steps=3", "stage.pack_tokens=256",
             "stage.batch_packs=2", "stage.batch_rows=null"]  # fmt: skip
    _, alone = trained(job, stage, *given, f"output_dir={tmp_path / 'one'}")
    two = ["trainer.devices=2", f"trainer.strategy={strategy}", f"output_dir={tmp_path / 'two'}"]
    _, found = trained(job, stage, *given, *two)
    names = {"difficulty": ("mae", "spearman", "kendall", "calibration"), "reward": ("auroc", "pairwise", "accuracy")}
    for name in ("loss", "loss_before", *names[stage]):
        assert found[f"val/{name}"] == pytest.approx(alone[f"val/{name}"], rel=1e-3, abs=1e-4, nan_ok=True), name
    assert found["train/loss"] == pytest.approx(alone["train/loss"], rel=1e-3)


@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_a_linear_head_computes_in_fp32_beside_a_model_in_bf16(strategy, job, labels, monkeypatch):
    scores, own = [], regressor.predictions
    monkeypatch.setattr(regressor, "predictions", lambda *args: (scores.append(own(*args)), scores[-1])[1])
    words = ("stage.max_steps=2", "stage.head_lr=0.01", "stage.warmup_steps=0", "stage.validation=0")
    fit(job("difficulty", f"data.input={labels}", *words, "trainer.precision=bf16", f"trainer.strategy={strategy}"))
    assert not torch.equal(scores[-1], scores[-1].bfloat16().float())


def test_several_nodes_need_a_launcher(job):
    with pytest.raises(
        ConfigError, match=r"trainer\.nodes=2: start the same command on every node, with torchrun --nnodes=2"
    ):
        with processes(job("qft", "trainer.nodes=2").trainer, None):
            pass


@pytest.mark.parametrize(("precision", "half"), [("bf16_mixed", {"enabled": True}), ("fp32", None)])
def test_deepspeeds_configuration_as_lightning_assembles_it(precision, half, job, monkeypatch):
    """DeepSpeed's `get_data_types` takes the weights' bf16 to add gradients up where it is told nothing."""
    from lightning.pytorch.strategies import deepspeed

    for name in ("_DEEPSPEED_AVAILABLE", "_DEEPSPEED_GREATER_EQUAL_0_16"):
        monkeypatch.setattr(deepspeed, name, True)
    logger = SimpleNamespace(logger=logging.getLogger("deepspeed"))
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(utils=SimpleNamespace(logging=logger)))
    monkeypatch.setattr("lightning.pytorch.plugins.precision.deepspeed._DEEPSPEED_AVAILABLE", True, raising=False)
    config = job("qft", "trainer.strategy=deepspeed", f"trainer.precision={precision}").trainer
    strategy = trainer.strategy(config)
    (strategy.precision_plugin,) = trainer.precision(config)["plugins"]
    loader = SimpleNamespace(_data_source=SimpleNamespace(is_defined=lambda: False))
    hooks = SimpleNamespace(accumulate_grad_batches=3, gradient_clip_val=1.0, fit_loop=loader, _data_connector=None)
    strategy._lightning_module = SimpleNamespace(trainer=hooks)
    strategy._init_config_if_needed()
    found = strategy.config
    assert found["data_types"] == {"grad_accum_dtype": "fp32"} and found["communication_data_type"] == "fp32"
    assert found["zero_optimization"]["stage"] == 3 and found["zero_allow_untested_optimizer"]
    assert (found["gradient_accumulation_steps"], found["gradient_clipping"]) == (3, 1.0)
    assert found.get("bf16") == half and "fp16" not in found
