"""The language-model head: log-probabilities of the supervised positions, in fp32, a chunk of them at a time.

Logits of a whole pack would be the largest tensor of training by far. So a chunk's are dropped once its
log-probabilities are taken, and made again for the backward pass. Soft-capping (Gemma 2), scaling (Cohere, Granite) and
a bias are honoured, and a head of any kind (LoRA, quantised) runs as it is. Kernels of others (`sq/models/fused.py`)
may take the cross-entropy's place on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from sq.models.fused import HeadKernel, fused_cross_entropy
from sq.models.losses import token_losses

CHUNK_LOGITS = 1 << 27
"""Logits held at a time, 512 MiB in fp32, where that is enough for `CHUNK` positions."""
CHUNK = 2048
"""Positions in a chunk at least: each chunk adds to the gradient of the whole head, 2 GB of it in a 7B model."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A model's head: states to logits, times `scale`, capped at ±`cap`."""

    module: nn.Module
    chunk: int
    """Positions whose logits are held at a time."""
    scale: float = 1.0
    cap: float | None = None
    kernel: HeadKernel = HeadKernel.CHUNKED

    def cross_entropy(
        self, states: Tensor, targets: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-entropy summed over [S, H] states and [S] targets, and how many predictions are right.

        The kernels of others, used where gradients are wanted, do not tell the latter.
        """
        if self.kernel is not HeadKernel.CHUNKED and torch.is_grad_enabled():
            return self._by_kernel(states, targets), None
        losses, right = self._losses(states, targets, label_smoothing)
        return losses.sum(), right

    def logps(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """[S] log-probabilities of the targets, and how many of them are the most probable token."""
        losses, right = self._losses(states, targets, 0.0)
        return -losses, right

    def _losses(self, states: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        chunks = zip(states.split(self.chunk), targets.split(self.chunk), strict=True)
        parts = [checkpoint(self._losses_of_chunk, *chunk, label_smoothing, use_reentrant=False) for chunk in chunks]
        return torch.cat([losses for losses, _ in parts]), torch.stack([right for _, right in parts]).sum()

    def _losses_of_chunk(self, states: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        kind = states.device.type
        mixed, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # A cast of its own for each chunk: their gradients meet in the fp32 weight, not in a bf16 copy that they share.
        with torch.autocast(kind, dtype=dtype, enabled=mixed, cache_enabled=False):
            logits = self.module(states).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        logps = logits.log_softmax(-1)
        losses = token_losses(logps, targets, label_smoothing)
        return losses, (logps.detach().argmax(-1) == targets).sum()  # the latter is not computed again: it comes last

    def _by_kernel(self, states: Tensor, targets: Tensor) -> Tensor:
        module, kind = self.module, states.device.type
        assert isinstance(module, nn.Linear)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        bias = None if module.bias is None else module.bias.to(dtype) * self.scale
        with torch.autocast(kind, enabled=False):
            inputs, weight = (states * self.scale).to(dtype), module.weight.to(dtype)
            return fused_cross_entropy(self.kernel, inputs, weight, targets, bias, self.cap)


def chunk_of(vocabulary: int) -> int:
    """Positions in a chunk of logits over `vocabulary` tokens."""
    return max(CHUNK, CHUNK_LOGITS // vocabulary)


def head_of(model: PreTrainedModel, kernel: HeadKernel = HeadKernel.CHUNKED) -> Head:
    """The head of `model`, with what its config says is done to logits."""
    known = model.config.get_text_config().to_dict()
    return Head(
        module=model.get_output_embeddings(),
        chunk=chunk_of(known["vocab_size"]),
        scale=float(known.get("logit_scale") or 1.0) / float(known.get("logits_scaling") or 1.0),
        cap=known.get("final_logit_softcapping") or None,
        kernel=kernel,
    )
