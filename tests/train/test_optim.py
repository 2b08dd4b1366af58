"""The optimiser over bf16 weights: fp32 gradients and fp32 masters are AdamW in fp32."""

import copy
import random
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.models.attention import choose_attention
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss
from sq.train import trainer
from sq.train.checkpoints import checkpoints
from sq.train.fit import fit
from sq.train.hardware import checked_trainer
from sq.train.optim import MasterAdamW, make_optimizer, parameter_groups, to_bf16
from sq.train.qft import QFTStage
from sq.train.stage import Optimizer


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).bfloat16()


def gradients(of, step):
    torch.manual_seed(step)
    for parameter in of.parameters():
        parameter.grad = torch.randn(parameter.shape).bfloat16().float()


def masters(of, decay=0.0, **stage):
    made = make_optimizer(parameter_groups(of, decay), QFTStage(name="qft", beta2=0.99, **{"lr": 1e-3} | stage))
    assert isinstance(made, MasterAdamW)
    return made


def test_masters_are_adamw_in_fp32():
    half, full = model(), model().float()
    ours = masters(half, 0.1)
    theirs = torch.optim.AdamW(parameter_groups(full, 0.1), 1e-3, (0.9, 0.99), fused=True)
    for step in range(5):
        gradients(half, step)
        for parameter, other in zip(half.parameters(), full.parameters(), strict=True):
            other.grad = parameter.grad.clone()
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 / (step + 1)
            optimizer.step()
    wanted = [p for group in theirs.param_groups for p in group["params"]]
    for master, expected in zip(ours.masters(), wanted, strict=True):
        torch.testing.assert_close(master, expected, rtol=0, atol=0)
    for group in ours.param_groups:
        for parameter in group["params"]:
            assert parameter.dtype is torch.bfloat16
    assert all(master.grad is None for master in ours.masters())


def test_updates_below_the_resolution_of_bf16_add_up():
    of = nn.Linear(4, 1, bias=False).bfloat16()
    weight = nn.init.ones_(of.weight)
    ours = masters(of, lr=1e-4)
    for _ in range(100):
        weight.grad = torch.ones_like(weight, dtype=torch.float32)
        ours.step()
    assert weight.float().mean().item() == pytest.approx(0.99, abs=0.004)


def test_gradients_of_bf16_weights_add_up_in_fp32(tiny_model):
    """Those of 64 packs against a run in fp32: 0.3% off; added up in bf16 they were 1.1% off."""

    def summed(dtype):
        of = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).to(dtype)
        attention = choose_attention(of)
        make_optimizer(parameter_groups(of, 0.0), QFTStage(name="qft", lr=1e-3))
        draw = random.Random(0)
        for _ in range(64):
            rows = [TokenSequence([draw.randrange(64) for _ in range(60)], 8) for _ in range(2)]
            pack = collate(rows)
            (pack_loss(of, pack, attention).total / (64 * pack.supervised)).backward()
        return torch.cat([p.grad.float().flatten() for p in of.parameters()])

    exact, half = summed(torch.float32), summed(torch.bfloat16)
    assert float((half - exact).norm() / exact.norm()) < 0.005


@pytest.mark.parametrize("export", ["last", "best"])
def test_fp32_weights_trained_in_bf16_are_exported_unrounded(export, job, tiny_model, monkeypatch):
    """The steps are too small to move them, so what is rounded on the way shows."""
    monkeypatch.setattr(trainer, "best_checkpoint", lambda directory: (checkpoints(directory)[-1], -1.0))
    words = ["stage.lr=1e-10", "stage.max_steps=2", "trainer.checkpoint_every=1", "stage.validation=0.1"]
    words += ["trainer.precision=bf16", f"trainer.export={export}"]
    exported = load_file(fit(job("qft", *words, "stage.batch_packs=2")) / "model.safetensors")
    for name, weight in load_file(tiny_model / "model.safetensors").items():
        assert exported[name].dtype is torch.float32
        torch.testing.assert_close(exported[name], weight, rtol=0, atol=1e-8)


def test_weights_alone_are_rounded_to_bf16(tiny_model):
    of = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    frequencies = {name: buffer.clone() for name, buffer in of.named_buffers()}
    to_bf16(of)
    assert all(p.dtype is torch.bfloat16 for p in of.parameters())
    assert frequencies and all(torch.equal(buffer, frequencies[name]) for name, buffer in of.named_buffers())
    assert all(buffer.dtype is torch.float32 for buffer in of.buffers())


@pytest.mark.parametrize(("optimizer", "each"), [("adamw", 18), ("adamw_8bit", 12)])
def test_what_a_parameter_in_bf16_costs(optimizer, each):
    if optimizer != "adamw":
        pytest.importorskip("bitsandbytes", "0.50", reason="bitsandbytes is not installed")
    of = nn.Linear(512, 512, bias=False).bfloat16()
    ours = masters(of, optimizer=Optimizer(optimizer))
    of(torch.randn(2, 512).bfloat16()).sum().backward()
    gradient = of.weight.grad
    ours.step()
    state = [t for held in ours._inner.state.values() for t in held.values() if isinstance(t, torch.Tensor)]
    held = sum(t.nbytes for t in (of.weight, gradient, *ours.masters(), *state))
    assert held / of.weight.numel() == pytest.approx(each, rel=0.02)


def test_a_state_that_was_saved_goes_on_the_same():
    one = model()
    first = masters(one)
    gradients(one, 0)
    first.step()
    two = copy.deepcopy(one)
    second = masters(two)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for of, optimizer in ((one, first), (two, second)):
        gradients(of, 1)
        optimizer.step()
    for ours, theirs in zip(first.masters(), second.masters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_32bit"])
def test_without_bitsandbytes_its_optimisers_are_refused(name, job, monkeypatch):
    node = {"_target_": "sq.train.qft.QFTStage", "name": "qft", "lr": 1e-4, "optimizer": name}
    stage = build(node, QFTStage)
    assert stage.optimizer is Optimizer(name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=rf"stage.optimizer={name} needs bitsandbytes .*pip install 'bitsandbytes"):
        checked_trainer(job("qft").trainer, stage)


def test_plain_weights_have_the_fused_adamw():
    made = make_optimizer(parameter_groups(model().float(), 0.0), QFTStage(name="qft", lr=1e-3))
    assert type(made) is torch.optim.AdamW and made.defaults["fused"]
