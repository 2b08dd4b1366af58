"""The language-model head at supervised positions, chunk by chunk, with log-softmax in fp32.

The loss and the gradients of states and weight are taken in one pass, while a chunk's logits are at hand: each token's
gradient is known up to one factor from above. A loss over rows (QPO's, of pairs) is a sum over them, so a chunk is as
many whole pairs as there is room for, and their share of the loss is known with them; logits are made again only for a
pair that alone is too long. Soft-capping (Gemma 2), scaling (Cohere, Granite) and a bias are honoured; a head that is
no plain linear layer (LoRA, quantised) goes through checkpointing. Kernels of others (`sq/models/fused.py`) may take
the cross-entropy's place on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from sq.models.fused import HeadKernel, fused_cross_entropy
from sq.models.losses import sum_by_owner

CHUNK_ELEMENTS = 1 << 24
"""Logits held at a time: 64 MiB in fp32."""
WHOLE_ELEMENTS = 1 << 26
"""Logits of rows that belong together and are held whole, though longer than a chunk: 256 MiB in fp32."""
WORDS = 1 << 10
"""Words of the vocabulary whose logits a CPU makes at a time."""
SLICE = 1 << 13
"""Words of the vocabulary whose weight gradient is added up at a time in half precision."""

RowsLoss = Callable[[Tensor, slice], Tensor]
"""Log-probabilities of the rows in a slice to their share of a loss that is a sum over groups of rows."""
PieceLoss = Callable[[Tensor, int], Tensor]
"""Log-probabilities of the targets in the piece of this number to its share of the loss."""


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
        pieces = [slice(i, min(i + self.chunk, len(targets))) for i in range(0, len(targets), self.chunk)]
        total, _, right = self._loss(states, _Work(self, targets, pieces, self._dtype(states), None))
        return total, right

    def rows_loss(
        self, states: Tensor, targets: Tensor, owners: Tensor, count: int, loss: RowsLoss, *, group: int = 1
    ) -> tuple[Tensor, Tensor]:
        """`loss`, a sum over groups of `group` rows side by side, and the rows' log-probabilities without gradients."""
        if type(self.module) is not nn.Linear:
            rows = sum_by_owner(self._by_checkpoint(states, targets)[0], owners, count)
            return loss(rows, slice(0, count)), rows.detach()
        pieces, members = self._pieces(torch.bincount(owners, minlength=count).tolist(), group)

        def of_piece(logps: Tensor, number: int) -> Tensor:
            rows = members[number]
            return loss(sum_by_owner(logps, owners[pieces[number]] - rows.start, rows.stop - rows.start), rows)

        total, logps, _ = self._loss(states, _Work(self, targets, pieces, self._dtype(states), of_piece))
        return total, sum_by_owner(logps, owners, count)

    def _loss(self, states: Tensor, work: _Work) -> tuple[Tensor, Tensor, Tensor]:
        module, graded = self.module, torch.is_grad_enabled()
        found: tuple[Tensor, Tensor, Tensor] = _Loss.apply(states, module.weight, module.bias, work, graded)  # type: ignore[no-untyped-call]
        return found

    def _pieces(self, lengths: Sequence[int], group: int) -> tuple[list[slice], list[slice]]:
        """The targets of whole groups of rows, a chunk's worth at a time (one group at least), and which rows."""
        pieces: list[slice] = []
        rows: list[slice] = []
        done = 0
        for first in range(0, len(lengths), group):
            size = sum(lengths[first : first + group])
            if pieces and done + size - pieces[-1].start <= self.chunk:
                pieces[-1], rows[-1] = slice(pieces[-1].start, done + size), slice(rows[-1].start, first + group)
            else:
                pieces.append(slice(done, done + size))
                rows.append(slice(first, first + group))
            done += size
        return pieces, rows

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


@dataclass(frozen=True)
class _Work:
    """What is computed: the loss of each piece of the targets; without a `loss` their cross-entropy."""

    head: Head
    targets: Tensor
    pieces: list[slice]
    dtype: torch.dtype
    loss: PieceLoss | None

    def cut(self, piece: slice) -> list[slice]:
        """The piece, or its chunks where it is too long to hold its logits at once."""
        size = piece.stop - piece.start
        if size <= self.head.chunk or size * self.head.vocabulary <= WHOLE_ELEMENTS:
            return [piece]
        starts = range(piece.start, piece.stop, self.head.chunk)
        return [slice(start, min(start + self.head.chunk, piece.stop)) for start in starts]

    def loss_of(self, logps: Tensor, number: int, graded: bool) -> tuple[Tensor, Tensor | None]:
        """The piece's loss, and its slope for each target's log-probability; none where that is -1."""
        if self.loss is None:
            return -logps.sum(), None
        if not graded:
            return self.loss(logps, number), None
        with torch.enable_grad():
            leaf = logps.detach().requires_grad_()
            total = self.loss(leaf, number)
        (slope,) = torch.autograd.grad(total, leaf)
        return total.detach(), slope


class _Loss(torch.autograd.Function):
    """A loss of log-probabilities whose gradients, up to the factor from above, are ready when the forward pass ends.

    With it come the log-probabilities of the targets and, of a cross-entropy, how many predictions are right.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, work: _Work, graded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        head, targets = work.head, work.targets
        longest = max((part.stop - part.start for piece in work.pieces for part in work.cut(piece)), default=0)
        needs = [graded and need for need in ctx.needs_input_grad[:3]]
        grads = _Gradients(states, weight, bias, work.dtype, needs, longest)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        right = torch.zeros((), dtype=torch.long, device=states.device)
        found = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        for number, piece in enumerate(work.pieces):
            parts = work.cut(piece)
            for part in parts:
                logps, bend = grads.logps(part, head)
                found[part] = _at(logps, targets[part])
                if work.loss is None:
                    right += _right(logps, targets[part])
            loss, slope = work.loss_of(found[piece], number, graded)
            total += loss
            if not any(needs):
                continue
            for part in parts:
                if len(parts) > 1:
                    logps, bend = grads.logps(part, head)
                factor = None if slope is None else -slope[part.start - piece.start : part.stop - piece.start, None]
                grads.add(part, logps, targets[part], bend, factor, head.scale)
        ctx.grads = grads.of(states, weight, bias)
        ctx.mark_non_differentiable(found, right)
        return total, found, right

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        grads = ctx.grads
        if grads is None:
            raise RuntimeError("backward through the head's loss runs once; its gradients have been used")
        ctx.grads = None
        if not bool(upstream[0] == 1.0):
            for grad in grads:
                if grad is not None:
                    grad.mul_(upstream[0])
        return (*grads, None, None)


class _Gradients:
    """The head's product in `dtype`, and the gradients of states, weight and bias as chunks come in."""

    def __init__(
        self, states: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, needs: list[bool], longest: int
    ) -> None:
        self.inputs, self.weight = states.detach().to(dtype), weight.detach().to(dtype)
        self.offset = None if bias is None else bias.detach().to(dtype)
        full = {"dtype": torch.float32, "device": weight.device}
        sliced = dtype == torch.float32 and weight.device.type == "cpu" and bias is None
        # One place for the logits of every chunk: new pages for each cost more than the softmax.
        self.room = states.new_empty(longest, len(weight), dtype=dtype) if sliced else None
        self.states = torch.empty_like(states) if needs[0] else None
        self.matrix = torch.empty(weight.shape, **full) if needs[1] else None  # type: ignore[call-overload]
        self.vector = torch.zeros(bias.shape, **full) if bias is not None and needs[2] else None  # type: ignore[call-overload]
        self.begun = False

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
        if self.room is None:
            return nn.functional.linear(inputs, self.weight, self.offset)
        # In slices of the vocabulary, which a CPU's cache holds: the same sums, an eighth faster (MKL, AVX2).
        logits = self.room[: len(inputs)]
        for start in range(0, len(self.weight), WORDS):
            words = slice(start, start + WORDS)
            torch.mm(inputs, self.weight[words].t(), out=logits[:, words])
        return logits

    def add(
        self, here: slice, logps: Tensor, wanted: Tensor, slope: Tensor | None, factor: Tensor | None, scale: float
    ) -> None:
        """Take in one chunk's gradient of −log p(target), times `factor` for each target; `logps` is used up."""
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
                self.matrix.addmm_(grad.t(), self.inputs[here], beta=int(self.begun))
            else:
                if not self.begun:
                    self.matrix.zero_()
                # In slices: the product and, on a CPU, its fp32 copy are temporaries as large as the weight.
                for part in range(0, len(self.matrix), SLICE):
                    rows = slice(part, part + SLICE)
                    self.matrix[rows] += grad[:, rows].t() @ self.inputs[here]
            self.begun = True

    def of(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor | None]:
        """The gradients in their tensors' types."""
        if self.matrix is not None and not self.begun:  # there was no target
            self.matrix.zero_()
        pairs = ((self.states, states), (self.matrix, weight), (self.vector, bias))
        return [None if grad is None or of is None else grad.to(of.dtype) for grad, of in pairs]


def _at(logps: Tensor, wanted: Tensor) -> Tensor:
    return logps.gather(1, wanted[:, None])[:, 0]


def _right(logps: Tensor, wanted: Tensor) -> Tensor:
    return (logps.argmax(-1) == wanted).sum()
