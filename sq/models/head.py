"""The language-model head at supervised positions, chunk by chunk, with log-softmax in fp32.

Two ways, by what is known in the forward pass. Cross-entropy: each token's gradient is known up to one factor, so the
gradients of states and weight are taken at once and logits are made once. Log-probabilities: the gradient waits for
the loss above; what is small is kept for it, else logits are made again in the backward pass. Soft-capping (Gemma 2),
scaling (Cohere, Granite) and a bias are honoured; a head that is no plain linear layer (LoRA, quantised) goes through
checkpointing. Kernels of others (`sq/models/fused.py`) may take the cross-entropy's place on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from sq.models.fused import HeadKernel, fused_cross_entropy

CHUNK_ELEMENTS = 1 << 24
"""Logits held at a time: 64 MiB in fp32."""
KEPT_ELEMENTS = 1 << 26
"""Log-probabilities kept for the backward pass at most: 256 MiB in fp32."""
WORDS = 1 << 10
"""Words of the vocabulary whose logits a CPU makes at a time."""
SLICE = 1 << 13
"""Words of the vocabulary whose weight gradient is added up at a time in half precision."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A model's head: states to logits, times `scale`, capped at ±`cap`."""

    module: nn.Module
    vocabulary: int
    scale: float = 1.0
    cap: float | None = None
    kernel: HeadKernel = HeadKernel.CHUNKED

    def cross_entropy(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cross-entropy summed over [S, H] states and [S] targets, and how many predictions are right.

        The kernels of others, used where gradients are wanted, do not tell the latter.
        """
        if self.kernel is not HeadKernel.CHUNKED and torch.is_grad_enabled():
            return self._by_kernel(states, targets), None
        if type(self.module) is not nn.Linear:
            logps, right = self._by_checkpoint(states, targets)
            return -logps.sum(), right
        module, dtype, graded = self.module, self._dtype(states), torch.is_grad_enabled()
        inputs = (states, module.weight, module.bias, targets, self, dtype, graded)
        total, right = _CrossEntropy.apply(*inputs)  # type: ignore[no-untyped-call]
        return total, right

    def logps(self, states: Tensor, targets: Tensor) -> Tensor:
        """[S] log-probability of each target."""
        if type(self.module) is not nn.Linear:
            return self._by_checkpoint(states, targets)[0]
        module, dtype = self.module, self._dtype(states)
        kept = torch.is_grad_enabled() and self.cap is None and len(targets) * self.vocabulary <= KEPT_ELEMENTS
        logps: Tensor = _Logps.apply(states, module.weight, module.bias, targets, self, dtype, kept)  # type: ignore[no-untyped-call]
        return logps

    @property
    def chunk(self) -> int:
        """Positions per chunk."""
        return max(16, CHUNK_ELEMENTS // self.vocabulary)

    def _dtype(self, states: Tensor) -> torch.dtype:
        kind = states.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype

    def _by_kernel(self, states: Tensor, targets: Tensor) -> Tensor:
        module, dtype = self.module, self._dtype(states)
        assert isinstance(module, nn.Linear)
        bias = None if module.bias is None else module.bias.to(dtype)
        inputs = (states * self.scale if self.scale != 1.0 else states).to(dtype)
        bias = bias if bias is None or self.scale == 1.0 else bias * self.scale
        with torch.autocast(states.device.type, enabled=False):
            return fused_cross_entropy(self.kernel, inputs, module.weight.to(dtype), targets, bias, self.cap)

    def _by_checkpoint(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        def part(piece: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.module(piece).float() * self.scale
            if self.cap is not None:
                logits = torch.tanh(logits / self.cap) * self.cap
            logps = logits.log_softmax(-1)
            return _at(logps, wanted), _right(logps.detach(), wanted)

        pairs = zip(states.split(self.chunk), targets.split(self.chunk), strict=True)
        done = [checkpoint(part, piece, wanted, use_reentrant=False) for piece, wanted in pairs]
        return torch.cat([logps for logps, _ in done]), torch.stack([right for _, right in done]).sum()


def head_of(model: PreTrainedModel, kernel: HeadKernel = HeadKernel.CHUNKED) -> Head:
    """The head of `model`, with what its config says is done to logits."""
    config = model.config.get_text_config()
    known = config.to_dict()
    return Head(
        module=model.get_output_embeddings(),
        vocabulary=config.vocab_size,
        scale=float(known.get("logit_scale") or 1.0) / float(known.get("logits_scaling") or 1.0),
        cap=known.get("final_logit_softcapping") or None,
        kernel=kernel,
    )


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradients, up to the factor from above, are ready when the forward pass ends."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        dtype: torch.dtype,
        graded: bool,
    ) -> tuple[Tensor, Tensor]:
        grads = _Gradients(states, weight, bias, dtype, [graded and need for need in ctx.needs_input_grad[:3]])
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        right = torch.zeros((), dtype=torch.long, device=states.device)
        for part in range(0, len(targets), head.chunk):
            here = slice(part, part + head.chunk)
            wanted = targets[here]
            logps, slope = grads.logps(here, head)
            total -= _at(logps, wanted).sum()
            right += _right(logps, wanted)
            grads.add(here, logps, wanted, slope, None, head.scale)
        ctx.grads = grads.of(states, weight, bias)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        grads = ctx.grads
        if grads is None:
            raise RuntimeError("backward through the head's cross-entropy runs once; its gradients have been used")
        ctx.grads = None
        if not bool(upstream[0] == 1.0):
            for grad in grads:
                if grad is not None:
                    grad.mul_(upstream[0])
        return (*grads, None, None, None, None)


class _Logps(torch.autograd.Function):
    """Log-probabilities of targets; a chunk's are kept for its gradient, or its logits made again."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        dtype: torch.dtype,
        kept: bool,
    ) -> Tensor:
        ctx.save_for_backward(states, weight, bias, targets)
        ctx.head, ctx.dtype, ctx.kept = head, dtype, []
        made = _Gradients(states, weight, bias, dtype, [False, False, False])
        found = []
        for part in range(0, len(targets), head.chunk):
            here = slice(part, part + head.chunk)
            logps, _ = made.logps(here, head)
            found.append(_at(logps, targets[here]))
            if kept:
                ctx.kept.append(logps)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        states, weight, bias, targets = ctx.saved_tensors
        grads = _Gradients(states, weight, bias, ctx.dtype, ctx.needs_input_grad[:3])
        kept, ctx.kept = iter(ctx.kept), []  # used up: a second backward pass makes its own
        for part in range(0, len(targets), ctx.head.chunk):
            here = slice(part, part + ctx.head.chunk)
            logps, slope = next(kept, None), None
            if logps is None:
                logps, slope = grads.logps(here, ctx.head)
            grads.add(here, logps, targets[here], slope, -upstream[0][here, None], ctx.head.scale)
        return (*grads.of(states, weight, bias), None, None, None, None)


class _Gradients:
    """The head's product in `dtype`, and the gradients of states, weight and bias as chunks come in."""

    def __init__(
        self, states: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, needs: list[bool]
    ) -> None:
        self.inputs, self.weight = states.detach().to(dtype), weight.detach().to(dtype)
        self.offset = None if bias is None else bias.detach().to(dtype)
        full = {"dtype": torch.float32, "device": weight.device}
        self.states = torch.empty_like(states) if needs[0] else None
        self.matrix = torch.zeros(weight.shape, **full) if needs[1] else None  # type: ignore[call-overload]
        self.vector = torch.zeros(bias.shape, **full) if bias is not None and needs[2] else None  # type: ignore[call-overload]

    def logps(self, here: slice, head: Head) -> tuple[Tensor, Tensor | None]:
        """[chunk, V] log-probabilities in fp32, and the slope of the cap where there is one."""
        with torch.autocast(self.inputs.device.type, enabled=False):
            logits = self._product(self.inputs[here])
            if head.scale == 1.0 and head.cap is None:
                if logits.dtype == torch.float32 and logits.device.type == "cpu":
                    return torch.log_softmax(logits, -1, out=logits), None  # in place: row by row, read before written
                return torch.log_softmax(logits, -1, dtype=torch.float32), None
            logits = logits.float() * head.scale
            if head.cap is None:
                return logits.log_softmax(-1), None
            bent = torch.tanh(logits / head.cap)
            return (bent * head.cap).log_softmax(-1), 1.0 - bent.square()

    def _product(self, inputs: Tensor) -> Tensor:
        if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or self.offset is not None:
            return nn.functional.linear(inputs, self.weight, self.offset)
        # In slices of the vocabulary, which a CPU's cache holds: the same sums, an eighth faster (MKL, AVX2).
        logits = inputs.new_empty(len(inputs), len(self.weight))
        for start in range(0, len(self.weight), WORDS):
            words = slice(start, start + WORDS)
            torch.mm(inputs, self.weight[words].t(), out=logits[:, words])
        return logits

    def add(
        self, here: slice, logps: Tensor, wanted: Tensor, slope: Tensor | None, factor: Tensor | None, scale: float
    ) -> None:
        """Take in one chunk's gradient of −log p(target), times `factor` for each target; `logps` is used up."""
        if self.states is None and self.matrix is None and self.vector is None:
            return
        grad = logps.exp_()
        grad[torch.arange(len(wanted), device=wanted.device), wanted] -= 1.0
        if factor is not None:
            grad *= factor
        if scale != 1.0:
            grad *= scale
        if slope is not None:
            grad *= slope
        if self.vector is not None:
            self.vector += grad.sum(0)
        grad = grad.to(self.inputs.dtype)
        if self.states is not None:
            self.states[here] = grad @ self.weight
        if self.matrix is not None:
            if grad.dtype == torch.float32:
                self.matrix.addmm_(grad.t(), self.inputs[here])
            else:
                # In slices: the product and, on a CPU, its fp32 copy are temporaries as large as the weight.
                for part in range(0, len(self.matrix), SLICE):
                    rows = slice(part, part + SLICE)
                    self.matrix[rows] += grad[:, rows].t() @ self.inputs[here]

    def of(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor | None]:
        """The gradients in their tensors' types."""
        pairs = ((self.states, states), (self.matrix, weight), (self.vector, bias))
        return [None if grad is None or of is None else grad.to(of.dtype) for grad, of in pairs]


def _at(logps: Tensor, wanted: Tensor) -> Tensor:
    return logps.gather(1, wanted[:, None])[:, 0]


def _right(logps: Tensor, wanted: Tensor) -> Tensor:
    return (logps.argmax(-1) == wanted).sum()
