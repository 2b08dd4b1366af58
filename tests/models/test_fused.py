"""The choice of the head's kernel, and that a kernel of others is handed what the model's config asks for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.models import fused
from sq.models.attention import choose_attention
from sq.models.fused import HeadKernel, choose_head
from sq.models.head import Head
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss

Make = Callable[[str], PreTrainedModel]
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


@cpu_only
def test_without_a_gpu_the_head_runs_in_chunks_and_says_why(make_model: Make) -> None:
    choice = choose_head(make_model("llama"), half=True)
    assert (choice.kernel, choice.reason) == (HeadKernel.CHUNKED, "no GPU")


@cpu_only
@pytest.mark.parametrize(
    ("refusal", "fix"),
    [
        ("no GPU", "no GPU; use"),
        ("liger-kernel is not installed", "liger-kernel is not installed: pip install -U liger-kernel, or use"),
    ],
)
def test_a_kernel_asked_for_by_name_is_refused_with_a_mend(
    make_model: Make, monkeypatch: pytest.MonkeyPatch, refusal: str, fix: str
) -> None:
    if refusal != "no GPU":
        monkeypatch.setattr(fused, "_obstacle", lambda *args: refusal)
    with pytest.raises(ConfigError, match=rf"trainer\.head=liger cannot be used: {fix} trainer\.head=auto"):
        choose_head(make_model("llama"), HeadKernel.LIGER, half=True)


@pytest.mark.parametrize(
    ("installed", "half", "kernel", "reason"),
    [
        (("cut_cross_entropy", "liger_kernel"), True, HeadKernel.LIGER, "liger-kernel is installed"),
        (("cut_cross_entropy",), True, HeadKernel.CCE, "cut-cross-entropy is installed"),
        (("cut_cross_entropy",), False, HeadKernel.CHUNKED, "liger-kernel is not installed.*made for half precision"),
        (("liger_kernel",), False, HeadKernel.LIGER, "liger-kernel is installed"),
        ((), True, HeadKernel.CHUNKED, "liger-kernel is not installed; cut-cross-entropy is not installed"),
    ],
)
def test_on_a_gpu_the_choice_is_by_what_is_installed(
    installed: tuple[str, ...], half: bool, kernel: HeadKernel, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = nn.Linear(2, 2)
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    model = SimpleNamespace(get_output_embeddings=lambda: head, parameters=lambda: iter([on_gpu]))
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: name in installed or None)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", _liger())
    presets = SimpleNamespace(names={"cce", "cce_kahan_full_c"})
    monkeypatch.setitem(sys.modules, "cut_cross_entropy.cce_utils", SimpleNamespace(CCEPresets=presets))
    choice = choose_head(model, half=half)  # type: ignore[arg-type]
    assert choice.kernel is kernel
    assert re.search(reason, choice.reason)


def test_a_liger_without_fp32_sums_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(reduction: str, softcap: float | None) -> None:
        raise AssertionError("not reached")

    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", SimpleNamespace(LigerFusedLinearCrossEntropyLoss=old))
    assert "too old" in fused._liger_refusal()


def test_a_cut_cross_entropy_without_exact_sums_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release on PyPI (25.1.1) has neither presets nor a bias."""
    monkeypatch.setitem(sys.modules, "cut_cross_entropy.cce_utils", None)
    assert "this cut-cross-entropy has no cce_kahan_full_c" in fused._cce_refusal()


@pytest.mark.parametrize("kernel", [HeadKernel.CCE, HeadKernel.LIGER])
@pytest.mark.parametrize(("bias", "scale", "cap"), [(False, 1.0, None), (True, 0.5, None), (True, 2.0, 1.5)])
def test_a_kernel_gets_scale_cap_and_bias(
    kernel: HeadKernel, bias: bool, scale: float, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels need a GPU; functions of their signatures, as their documentation has them, stand in."""
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", SimpleNamespace(linear_cross_entropy=_cce))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", _liger())
    torch.manual_seed(0)
    module = nn.Linear(12, 40, bias=bias)
    states, targets = torch.randn(50, 12, requires_grad=True), torch.randint(40, (50,))
    inputs = [states, *module.parameters()]
    ours, _ = Head(module=module, chunk=16, scale=scale, cap=cap).cross_entropy(states, targets)
    theirs, right = Head(module=module, chunk=16, scale=scale, cap=cap, kernel=kernel).cross_entropy(states, targets)
    assert right is None
    torch.testing.assert_close(theirs, ours)
    torch.testing.assert_close(torch.autograd.grad(theirs * 0.3, inputs), torch.autograd.grad(ours * 0.3, inputs))


def test_where_no_gradient_is_wanted_our_head_counts_right_ones(
    make_model: Make, rows: list[TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama").eval()
    attention = choose_attention(model)
    with torch.no_grad():
        assert pack_loss(model, collate(rows), attention, HeadKernel.CCE).correct is not None
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", SimpleNamespace(linear_cross_entropy=_cce))
    assert pack_loss(model, collate(rows), attention, HeadKernel.CCE).correct is None


def _cce(
    e: Tensor, c: Tensor, targets: Tensor, bias: Tensor | None = None, softcap: float | None = None,
    reduction: str = "mean", impl: str = "cce",
) -> Tensor:  # fmt: skip
    assert impl == "cce_kahan_full_c"
    logits = F.linear(e, c, bias)
    logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
    return F.cross_entropy(logits, targets, reduction=reduction)


def _liger() -> SimpleNamespace:
    class LigerFusedLinearCrossEntropyLoss:
        def __init__(self, reduction: str, softcap: float | None, accum_dtype: torch.dtype) -> None:
            assert accum_dtype is torch.float32
            self.reduction, self.softcap = reduction, softcap

        def __call__(self, lin_weight: Tensor, _input: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
            return _cce(_input, lin_weight, target, bias, self.softcap, self.reduction, "cce_kahan_full_c")

    return SimpleNamespace(LigerFusedLinearCrossEntropyLoss=LigerFusedLinearCrossEntropyLoss)
