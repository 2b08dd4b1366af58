"""The optimiser over bf16 weights: fp32 masters, stepped a part at a time, are AdamW in fp32."""

import copy
import sys

import pytest
import torch
from torch import nn

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.train import optim
from sq.train.optim import MasterAdamW, check_optimizer, make_optimizer, parameter_groups
from sq.train.qft import QFTStage
from sq.train.stage import Optimizer


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).bfloat16()


def gradients(of, step):
    torch.manual_seed(step)
    for parameter in of.parameters():
        parameter.grad = torch.randn(parameter.shape).to(parameter.dtype)


@pytest.mark.parametrize("elements", [1, 100, 1 << 26])
def test_masters_are_adamw_in_fp32_however_they_are_cut(elements, monkeypatch):
    monkeypatch.setattr(optim, "STEP_ELEMENTS", elements)
    half, full = model(), model().float()
    ours = MasterAdamW(parameter_groups(half, 0.1), 1e-3, (0.9, 0.99))
    theirs = torch.optim.AdamW(parameter_groups(full, 0.1), 1e-3, (0.9, 0.99), fused=True)
    for step in range(5):
        gradients(half, step)
        for parameter, other in zip(half.parameters(), full.parameters(), strict=True):
            other.grad = parameter.grad.float()
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
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    ours = MasterAdamW([{"params": [weight], "weight_decay": 0.0}], 1e-4, (0.9, 0.99))
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        ours.step()
    assert weight.float().mean().item() == pytest.approx(0.99, abs=0.004)


def test_a_state_that_was_saved_goes_on_the_same():
    one = model()
    first = MasterAdamW(parameter_groups(one, 0.0), 1e-3, (0.9, 0.99))
    gradients(one, 0)
    first.step()
    two = copy.deepcopy(one)
    second = MasterAdamW(parameter_groups(two, 0.0), 1e-3, (0.9, 0.99))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for of, optimizer in ((one, first), (two, second)):
        gradients(of, 1)
        optimizer.step()
    for ours, theirs in zip(first.masters(), second.masters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_32bit"])
def test_without_bitsandbytes_its_optimisers_are_refused(name, monkeypatch):
    node = {"_target_": "sq.train.qft.QFTStage", "name": "qft", "lr": 1e-4, "optimizer": name}
    stage = build(node, QFTStage)
    assert stage.optimizer is Optimizer(name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=rf"stage.optimizer={name} needs bitsandbytes .*pip install 'bitsandbytes"):
        check_optimizer(stage)


def test_plain_weights_have_the_fused_adamw():
    made = make_optimizer(parameter_groups(model().float(), 0.0), QFTStage(name="qft", lr=1e-3))
    assert type(made) is torch.optim.AdamW and made.defaults["fused"]
