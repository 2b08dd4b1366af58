"""bitsandbytes on a CPU: 4-bit weights beside trained adapters, 8-bit and 32-bit AdamW."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sq.models.adapters import quantized_arguments, size
from sq.models.load import ModelConfig, load_model, stored_dtype
from sq.train.fit import fit
from sq.train.optim import make_optimizer
from sq.train.progress import flops_per_token
from sq.train.qft import QFTStage
from sq.train.stage import Optimizer

bnb = pytest.importorskip("bitsandbytes", "0.50", reason="bitsandbytes is not installed")

SHORT = (
    "data.limit=40", "stage.epochs=3", "stage.batch_packs=1", "stage.pack_tokens=256", "stage.lr=0.01",
    "trainer.checkpoint_every=4",
)  # fmt: skip
QLORA = ("trainer.lora.rank=4", "trainer.lora.quantize=true")


@pytest.fixture
def quantized(tiny_model):
    return load_model(ModelConfig(name="t", path=str(tiny_model)), **quantized_arguments(torch.float32))


def test_parameters_in_4_bit_are_counted_by_their_numbers(tiny_model, quantized):
    whole = load_model(ModelConfig(name="t", path=str(tiny_model)))
    assert sum(p.numel() for p in quantized.parameters()) < sum(p.numel() for p in whole.parameters())
    assert sum(size(p) for p in quantized.parameters()) == sum(p.numel() for p in whole.parameters())
    for p in (*whole.parameters(), *quantized.parameters()):
        p.requires_grad_(False)
    assert flops_per_token(quantized) == flops_per_token(whole)


@pytest.mark.parametrize("stage", ["qft", "qpo"])
def test_adapters_beside_4_bit_weights_learn_and_are_merged(stage, job, pairs, tiny_model, tmp_path, caplog):
    source = (f"data.input={pairs}", "stage.batch_rows=null") if stage == "qpo" else ()
    with caplog.at_level("INFO"):
        model = fit(job(stage, *SHORT, *QLORA, *source, "trainer.lora.targets=[q_proj]", "trainer.parity_check=true"))
    told = json.loads((tmp_path / "out" / "train.json").read_text())["figures"]
    first = (
        0.6931 if stage == "qpo" else float(caplog.text.split("before the first step: loss ")[1].split()[0].rstrip(","))
    )
    assert told["val/loss" if stage == "qft" else "train/loss"] < first
    before, after = load_file(tiny_model / "model.safetensors"), load_file(model / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    assert {t.dtype for t in after.values()} == {t.dtype for t in before.values()}
    steps = {name: after[name].float() - before[name].float() for name in changed}
    assert all(torch.linalg.matrix_rank(step, rtol=1e-4) <= 4 for step in steps.values()), "adapters alone were added"


def test_the_format_of_the_weights_is_kept(tiny_model, tmp_path):
    assert stored_dtype(ModelConfig(name="t", path=str(tiny_model))) is torch.float32
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    weights = load_file(half / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in weights.items()}, half / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert stored_dtype(ModelConfig(name="t", path=str(half))) is torch.bfloat16


@pytest.mark.parametrize("kind", [Optimizer.ADAMW_8BIT, Optimizer.PAGED_ADAMW_32BIT])
def test_they_step_as_adamw_does(kind):
    torch.manual_seed(0)
    weight, pulls = torch.nn.Parameter(torch.randn(64, 128)), torch.randn(20, 64, 128)
    plain = copy.deepcopy(weight)
    stage = QFTStage(name="qft", lr=1e-2)
    one = make_optimizer([{"params": [plain], "weight_decay": 0.1}], stage)
    other = make_optimizer([{"params": [weight], "weight_decay": 0.1}], QFTStage(name="qft", lr=1e-2, optimizer=kind))
    start = plain.detach().clone()
    for pull in pulls:
        for p, optimizer in ((plain, one), (weight, other)):
            p.grad = pull.clone()
            optimizer.step()
    off = (weight - plain).norm() / (plain - start).norm()
    assert off < (1e-5 if kind is Optimizer.PAGED_ADAMW_32BIT else 0.05)
