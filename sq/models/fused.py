"""The head's cross-entropy by kernels of others, on a GPU where they are installed: Liger and cut-cross-entropy.

Liger adds the head's gradient up in fp32; cut-cross-entropy does so as `cce_kahan_full_c`, which its release 25.1.1
has not: there it skips small terms and rounds each sum. What comes out is the same loss as ours. They are optional:
which is used is chosen once, with the reason, and a kernel that is asked for by name and cannot run is refused. QPO
keeps ours: it needs the log-probability of each row, and they give the sum over all.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sq.core.errors import ConfigError


class HeadKernel(Enum):
    """How the loss of supervised positions is computed from their hidden states."""

    AUTO = "auto"
    CHUNKED = "chunked"
    LIGER = "liger"
    CCE = "cce"


PACKAGES = {
    HeadKernel.LIGER: ("liger_kernel", "liger-kernel", "pip install -U liger-kernel"),
    HeadKernel.CCE: (
        "cut_cross_entropy", "cut-cross-entropy", "install cut-cross-entropy from its sources, apple/ml-cross-entropy",
    ),
}  # fmt: skip
"""Module, name and how to install it, the one that is preferred first."""

CCE_PRESET = "cce_kahan_full_c"
"""Of cut-cross-entropy's: the head's gradient of every token, added up with compensation."""


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The kernel of the head, and why."""

    kernel: HeadKernel
    reason: str


def choose_head(
    model: PreTrainedModel, wanted: HeadKernel = HeadKernel.AUTO, *, half: bool, device: torch.device | None = None
) -> HeadChoice:
    """Choose how the head's cross-entropy is computed for `model`; `half` tells whether that is in half precision, and
    `device` where, if the model is not there yet.

    Raises:
        ConfigError: when a kernel is asked for by name that is not installed or that this model or machine cannot run.
    """
    if wanted is HeadKernel.CHUNKED:
        return HeadChoice(kernel=wanted, reason="asked for")
    device = device or next(model.parameters()).device
    if wanted is HeadKernel.AUTO:
        refusals = {kernel: _obstacle(model, kernel, half, device) for kernel in PACKAGES}
        free = next((kernel for kernel, refusal in refusals.items() if not refusal), None)
        if free is None:
            return HeadChoice(kernel=HeadKernel.CHUNKED, reason="; ".join(dict.fromkeys(refusals.values())))
        return HeadChoice(kernel=free, reason=f"{PACKAGES[free][1]} is installed")
    if refusal := _obstacle(model, wanted, half, device):
        fix = f": {PACKAGES[wanted][2]}, or" if refusal.endswith("is not installed") else ";"
        raise ConfigError(f"trainer.head={wanted.value} cannot be used: {refusal}{fix} use trainer.head=auto")
    return HeadChoice(kernel=wanted, reason="asked for")


def fused_cross_entropy(
    kernel: HeadKernel, states: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, cap: float | None
) -> Tensor:
    """Cross-entropy summed over [S, H] states, whose logits are weight·state + bias, capped at ±`cap`."""
    if kernel is HeadKernel.CCE:
        linear_cross_entropy = importlib.import_module("cut_cross_entropy").linear_cross_entropy
        loss: Tensor = linear_cross_entropy(
            states, weight, targets, bias=bias, softcap=cap, reduction="sum", impl=CCE_PRESET
        )
        return loss.float()
    total: Tensor = _liger(cap)(weight, states, targets, bias)
    return total.float()


def _obstacle(model: PreTrainedModel, kernel: HeadKernel, half: bool, device: torch.device) -> str:
    """Why `kernel` cannot run the head of `model`, or nothing."""
    head: Any = model.get_output_embeddings()
    module, name, _ = PACKAGES[kernel]
    if device.type != "cuda":
        return "no GPU"
    if importlib.util.find_spec(module) is None:
        return f"{name} is not installed"
    if type(head) is not nn.Linear:
        return f"the head is a {type(head).__name__}, and the kernel takes plain linear layers"
    if kernel is HeadKernel.LIGER:
        return _liger_refusal()
    if not half:
        return "cut-cross-entropy's kernels are made for half precision (trainer.precision=bf16)"
    return _cce_refusal()


def _cce_refusal() -> str:
    try:
        names = importlib.import_module("cut_cross_entropy.cce_utils").CCEPresets.names
    except (ImportError, AttributeError):
        names = set()
    return "" if CCE_PRESET in names else f"this cut-cross-entropy has no {CCE_PRESET}, which is exact"


def _liger(cap: float | None) -> Any:
    kind = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss
    return kind(reduction="sum", softcap=cap, accum_dtype=torch.float32)


def _liger_refusal() -> str:
    try:
        _liger(None)
    except (
        TypeError,
        ImportError,
        AttributeError,
    ) as error:  # versions before accum_dtype add a head's gradient up in bf16
        return f"this liger-kernel is too old or broken ({error})"
    return ""
