"""Layers that do less, keep less for the backward pass and give the same, on a CPU; on a GPU fused kernels see to it.

Written plainly, a block silu(gate)·up keeps four tensors as wide as itself, a norm two: what can be made again by one
elementwise operation need not be kept. That is a fourth of what a pack of tokens holds, and packs may be as much
longer. Rotary positions take a third of the passes over queries and keys.

Only modules whose code is word for word the one below are changed; a block whose last layer is no plain linear one
(LoRA, quantised) is left as it is.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GATED = "self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))"
NORM = (
    "hidden_states = hidden_states.to(torch.float32)",
    "variance = hidden_states.pow(2).mean(-1, keepdim=True)",
    "hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)",
    "return self.weight * hidden_states.to(input_dtype)",
)
ROTATION = "apply_rotary_pos_emb"
ROTATED = (
    "cos = cos.unsqueeze(unsqueeze_dim)",
    "sin = sin.unsqueeze(unsqueeze_dim)",
    "q_embed = (q * cos) + (rotate_half(q) * sin)",
    "k_embed = (k * cos) + (rotate_half(k) * sin)",
    "return q_embed, k_embed",
)
HALVES = (
    "x1 = x[..., : x.shape[-1] // 2]",
    "x2 = x[..., x.shape[-1] // 2 :]",
    "return torch.cat((-x2, x1), dim=-1)",
)


def make_lean(model: nn.Module) -> int:
    """Change the layers of `model` that are known; how many."""
    changed = 0
    for module in model.modules():
        if _is_gated(module):
            module.forward = MethodType(_gated_forward, module)
        elif _is_norm(module):
            module.forward = MethodType(_norm_forward, module)
        elif _is_rotating(module):
            module.forward = MethodType(_with_our_rotation(type(module).forward), module)
        else:
            continue
        changed += 1
    return changed


@cache
def _with_our_rotation(plain: FunctionType) -> FunctionType:
    """The same function, which calls our rotation: one for all layers of a class, since they are compiled once.

    Its code is an object of its own: what torch.compile makes of it must not be taken for that of the plain one.
    """
    code = plain.__code__.replace(co_name="lean_forward")
    known = {**plain.__globals__, ROTATION: _rotate}
    lean = FunctionType(code, known, code.co_name, plain.__defaults__, plain.__closure__)
    lean.__kwdefaults__ = plain.__kwdefaults__
    return lean


def _is_gated(module: nn.Module) -> bool:
    act, down = getattr(module, "act_fn", None), getattr(module, "down_proj", None)
    silu = isinstance(act, nn.SiLU) or type(act).__name__ == "SiLUActivation"
    return silu and type(down) is nn.Linear and GATED in _code(type(module).forward)


def _is_norm(module: nn.Module) -> bool:
    if not (isinstance(getattr(module, "weight", None), Tensor) and hasattr(module, "variance_epsilon")):
        return False
    return _ends(type(module).forward, NORM)


def _is_rotating(module: nn.Module) -> bool:
    forward = type(module).forward
    if not isinstance(forward, FunctionType) or ROTATION not in forward.__code__.co_names:
        return False
    rotation = inspect.unwrap(forward.__globals__.get(ROTATION) or forward)
    halves = getattr(rotation, "__globals__", {}).get("rotate_half")
    return _ends(rotation, ROTATED) and _ends(halves, HALVES)


def _ends(function: Any, lines: tuple[str, ...]) -> bool:
    return [line.strip() for line in _code(function).splitlines()][-len(lines) :] == list(lines)


def _code(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _gated_forward(module: Any, x: Tensor) -> Tensor:
    down, gate, up = module.down_proj, module.gate_proj(x), module.up_proj(x)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else gate.dtype
    out: Tensor = _Gated.apply(gate, up, down.weight, down.bias, dtype)  # type: ignore[no-untyped-call]
    return out


def _norm_forward(module: Any, hidden_states: Tensor) -> Tensor:
    out: Tensor = _Norm.apply(hidden_states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return out


def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotation.apply(q, cos, sin), _Rotation.apply(k, cos, sin)  # type: ignore[no-untyped-call]


class _Gated(torch.autograd.Function):
    """weight·(silu(gate)·up) + bias, of which gate and up are kept."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(gate, up, weight, bias)
        ctx.dtype = dtype
        with torch.autocast(gate.device.type, enabled=False):
            inner = F.silu(gate).mul_(up)
            return F.linear(inner.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        gate, up, weight, bias = ctx.saved_tensors
        grad, needs, dtype = upstream[0], ctx.needs_input_grad, ctx.dtype
        acted = F.silu(gate)
        of_weight = of_bias = of_gate = of_up = None
        if needs[2]:
            inner = (acted * up).to(dtype)
            of_weight = (grad.flatten(0, -2).t() @ inner.flatten(0, -2)).to(weight.dtype)
            del inner
        if needs[3]:
            of_bias = grad.flatten(0, -2).sum(0).to(bias.dtype)
        if needs[0] or needs[1]:
            slope = (grad @ weight.to(dtype)).to(gate.dtype)
            of_up = acted.mul_(slope)
            of_gate = torch.ops.aten.silu_backward(slope.mul_(up), gate)
        return of_gate, of_up, of_weight, of_bias, None


class _Norm(torch.autograd.Function):
    """weight·x/rms(x), in fp32 but for the last product, of which x and 1/rms are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: D102
        wide = x.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, weight, scale = ctx.saved_tensors
        grad, needs = upstream[0], ctx.needs_input_grad
        unit = x.to(torch.float32) * scale
        of_weight = of_x = None
        if needs[1]:
            of_weight = (grad * unit.to(x.dtype)).flatten(0, -2).sum(0).to(weight.dtype)
        if needs[0]:
            slope = (grad * weight).to(x.dtype).to(torch.float32)
            along = (slope * unit).mean(-1, keepdim=True)
            of_x = slope.addcmul_(unit, along, value=-1).mul_(scale).to(x.dtype)
        return of_x, of_weight, None


class _Rotation(torch.autograd.Function):
    """x·cos + (−x₂, x₁)·sin, of which only cos and sin are kept; their halves may differ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(cos, sin)
        ctx.dtype, half = x.dtype, x.shape[-1] // 2
        out = x * cos
        out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        (grad,), (cos, sin) = upstream, ctx.saved_tensors
        half = grad.shape[-1] // 2
        out = grad * cos
        out[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        out[..., half:].addcmul_(grad[..., :half], sin[..., :half], value=-1)
        return out.to(ctx.dtype), None, None
