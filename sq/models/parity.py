"""The parity gate: packed and unpacked training must be the same computation, in loss and in gradients (SPEC §3).

Packing fails silently where a model lets packed rows see each other or numbers their positions through: training goes
on, and learns something else. The gate runs a few rows through the model's own forward, one by one, with eager
attention and plain cross-entropy, and then as a pack, with and without a shared prefix, and compares.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from sq.core.errors import SqError
from sq.models.attention import Attention, Kernel
from sq.models.pack import Pack, TokenSequence
from sq.models.packed_forward import pack_loss

COPY_LIMIT = 1_000_000_000
"""Parameters up to which a model in half precision is checked as an fp32 copy."""
GRADIENT_LIMIT = 1_000_000_000
"""Parameters up to which every gradient is compared; beyond, those of vectors (norms, biases), found in every layer."""
HALF_RTOL = 0.05
"""Tolerance where the check has to run in half precision. Gradients are off by 0.01 by rounding, by 0.08 where
positions behind a shared prefix are one too far, and by 0.25 at least where rows see each other (docs/training.md)."""
NOISE = 2.0
"""How much further off than by rounding alone gradients may be in half precision, where that is more than HALF_RTOL:
at a low loss they cancel over rows and leave rounding, and experts change. Packing was 0.2 to 1.2 times as far off."""
LEAK = 0.01
"""Far below what a leak does to a loss or its gradient."""
SINGLE = 100.0
"""How much further off than the whole gradient a single parameter's may be: rounding gathers in the small ones of deep
models (9e-6 was seen in 30 layers), while a leak changes all of them by their own size."""


class ParityError(SqError):
    """Packed training would not be the same as unpacked: the run must not start."""


@dataclass(frozen=True, kw_only=True)
class ParityCheck:
    """One way of packing, compared with rows one by one."""

    name: str
    loss: float
    expected: float
    loss_error: float
    gradient_error: float
    """‖g − g′‖ / ‖g‖ over all compared parameters."""
    worst: str
    """The parameter whose own gradient is furthest off, relative to its norm, and by how much."""
    worst_error: float


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What the gate found."""

    checks: tuple[ParityCheck, ...]
    rtol: float
    dtype: str
    rows: int
    kernel: str
    noise: ParityCheck | None = None
    """In half precision: how far rounding alone puts the unpacked rows off."""

    @property
    def passed(self) -> bool:
        """Whether every check is within its tolerance; NaN is not."""
        return all(self._holds(check, self.tolerance(check)) for check in self.checks)

    def tolerance(self, check: ParityCheck) -> float:
        """The tolerance, and what fp32 cannot tell of a small loss: it rounds a probability near one, and the
        gradient is what is missing to one, about the loss. Never so much that a leak would pass."""
        rounding = torch.finfo(torch.float32).eps / max(check.expected, 1e-6)
        return self.rtol + min(rounding, LEAK)

    def _holds(self, check: ParityCheck, rtol: float) -> bool:
        gradient, worst = rtol, min(SINGLE * rtol, 0.5)
        if self.noise is not None:
            gradient = max(gradient, NOISE * self.noise.gradient_error)
            worst = max(worst, NOISE * self.noise.worst_error)
        return check.loss_error <= rtol and check.gradient_error <= gradient and check.worst_error <= worst

    def describe(self) -> str:
        """The outcome in a few lines."""
        head = f"parity of packed and unpacked training {'holds' if self.passed else 'FAILS'}"
        lines = [f"{head} ({self.kernel} attention, {self.rows} rows, {self.dtype}, tolerance {self.rtol:g})"]
        for c in (*self.checks, *([self.noise] if self.noise else [])):
            lines.append(
                f"  {c.name}: loss {c.loss:.6f}, unpacked {c.expected:.6f} (off by {c.loss_error:.1e}); "
                f"gradients off by {c.gradient_error:.1e}, at most {c.worst_error:.1e} in {c.worst}"
            )
        return "\n".join(lines)

    def require(self) -> None:
        """Raise `ParityError` if a check failed."""
        if not self.passed:
            raise ParityError(
                f"{self.describe()}\nRows of a pack see each other, or their positions are wrong, on this model with "
                "this kernel. Train it with attention=unpacked, or with another attention, or with share_prefix=false "
                "if only the shared prefix fails."
            )


def check_parity(
    model: PreTrainedModel,
    rows: Sequence[TokenSequence],
    attention: Attention,
    collate: Callable[..., Pack],
    *,
    prefix: int = 0,
    rtol: float = 1e-5,
) -> ParityReport:
    """Compare packed with unpacked training on `rows`; the model is left as it was.

    Args:
        model: already switched to its attention by `choose_attention`.
        rows: two at least (one cannot leak into another); a handful is enough.
        attention: what `choose_attention` returned.
        collate: makes a pack of rows (`sq.data.collate.collate`).
        prefix: how many opening tokens the rows share; 0 leaves prefix sharing out of the check.
        rtol: tolerance of loss and gradients in fp32.
    """
    if len(rows) < 2:
        raise ParityError(f"the parity check needs at least two rows, got {len(rows)}")
    # A regression's rows have no targets; here all their own tokens are.
    rows = [
        row if row.start < len(row.ids) else TokenSequence(row.ids, min(max(prefix, 1), len(row.ids) - 1))
        for row in rows
    ]
    with fp32_products("highest"), _prepared(model, attention) as (subject, exact):
        params = _compared(subject)
        with _eager(subject):
            expected = _loss_and_gradients(lambda: _plain_loss(subject, rows), params)
            noise = None if exact else _noise(subject, rows, params, expected)
        ways = [("packed", 0)]
        if prefix and attention.shares_prefix:
            ways.append((f"packed, prefix of {prefix} tokens shared", prefix))
        checks = []
        for name, shared in ways:
            pack = collate(rows, prefix=shared).to(next(iter(params.values())).device)
            found = _loss_and_gradients(lambda pack=pack: _packed_loss(subject, pack, attention), params)  # type: ignore[misc]
            checks.append(_compare(name, found, expected))
        dtype = str(next(iter(params.values())).dtype).removeprefix("torch.")
    return ParityReport(
        checks=tuple(checks),
        rtol=rtol if exact else max(rtol, HALF_RTOL),
        dtype=dtype,
        rows=len(rows),
        kernel=attention.kernel.value,
        noise=noise,
    )


Outcome = tuple[float, dict[str, Tensor]]


def _noise(
    model: PreTrainedModel, rows: Sequence[TokenSequence], params: dict[str, Tensor], expected: Outcome
) -> ParityCheck:
    """The unpacked rows again, with all that a module computes up to half a unit in the last place off."""
    draws = torch.Generator(next(iter(params.values())).device).manual_seed(0)

    def rounded(module: torch.nn.Module, args: Any, output: Any) -> Any:
        if not (isinstance(output, Tensor) and output.is_floating_point()):
            return output
        shift = torch.rand(output.shape, generator=draws, device=output.device) - 0.5
        return (output.float() * (1 + shift * torch.finfo(output.dtype).eps)).to(output.dtype)

    hooks = [module.register_forward_hook(rounded) for module in model.modules()]
    try:
        found = _loss_and_gradients(lambda: _plain_loss(model, rows), params)
        return _compare("unpacked, rounded otherwise", found, expected)
    finally:
        for hook in hooks:
            hook.remove()


def _loss_and_gradients(loss_of: Callable[[], Tensor], params: dict[str, Tensor]) -> Outcome:
    """Run, differentiate, and leave no gradient behind."""
    loss = loss_of()
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    named = zip(params.items(), grads, strict=True)
    return loss.item(), {name: torch.zeros_like(p) if g is None else g.detach() for (name, p), g in named}


def _plain_loss(model: PreTrainedModel, rows: Sequence[TokenSequence]) -> Tensor:
    """Mean cross-entropy of the model's own logits, a row at a time."""
    device = next(model.parameters()).device
    total, count = torch.zeros((), device=device), 0
    for row in rows:
        ids, first = torch.tensor(list(row.ids), device=device), max(row.start, 1)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, first - 1 : -1]
        total = total + F.cross_entropy(logits.float(), ids[first:], reduction="sum")
        count += len(ids) - first
    return total / count


def _packed_loss(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    loss = pack_loss(model, pack, attention)
    return loss.total / loss.count


def _compare(name: str, found: Outcome, expected: Outcome) -> ParityCheck:
    (loss, grads), (expected_loss, expected_grads) = found, expected
    norms = {key: float(g.float().norm()) for key, g in expected_grads.items()}
    off = {key: float((grads[key].float() - g.float()).norm()) for key, g in expected_grads.items()}
    whole = math.hypot(*norms.values())
    # Some gradients are zero but for rounding (a key bias without rotation): they are held to a share of the whole's.
    single = {key: _ratio(off[key], max(norms[key], 1e-3 * whole)) for key in off}
    worst = max(single, key=lambda key: single[key])
    return ParityCheck(
        name=name,
        loss=loss,
        expected=expected_loss,
        loss_error=_ratio(abs(loss - expected_loss), abs(expected_loss)),
        gradient_error=_ratio(math.hypot(*off.values()), whole),
        worst=worst,
        worst_error=single[worst],
    )


def _ratio(difference: float, size: float) -> float:
    """`difference` relative to `size`; infinite where either is not a number."""
    ratio = difference / max(size, torch.finfo(torch.float32).tiny)
    return math.inf if math.isnan(ratio) else ratio


def _compared(model: PreTrainedModel) -> dict[str, Tensor]:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ParityError("the parity check needs trainable parameters, and this model has none")
    if sum(p.numel() for p in trained.values()) <= GRADIENT_LIMIT:
        return trained
    return {name: p for name, p in trained.items() if p.dim() <= 1} or trained


@contextmanager
def fp32_products(precision: str) -> Iterator[None]:
    """Products of fp32 matrices in fp32 ("highest") or, on a GPU that has it, TF32 ("high"); then as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _prepared(model: PreTrainedModel, attention: Attention) -> Iterator[tuple[PreTrainedModel, bool]]:
    """The model itself where it is fp32, else an fp32 copy if small enough; without dropout either way.

    FlashAttention has no fp32: there the model itself runs, in half precision. So it does, in the format it computes
    in, where its weights are in 4 bit: they have no other form.
    """
    half = attention.kernel is Kernel.FLASH
    exact = not half and all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point())
    fixed = half or exact or any(not p.is_floating_point() for p in model.parameters())
    if fixed or sum(p.numel() for p in model.parameters()) > COPY_LIMIT:
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
                yield model, exact
        finally:
            for module in training:
                module.training = True
    else:
        yield copy.deepcopy(model).float().eval(), True


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Transformers' written-out attention, which honours all a model asks for; then back to what was set."""
    before: Any = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
