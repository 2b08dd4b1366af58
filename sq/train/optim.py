"""AdamW over bf16 weights that keeps fp32 masters, so that small updates are not rounded away.

Weights, activations and gradients are bf16 (the fastest arithmetic of a CPU with avx512_bf16, and of every GPU); only the
optimiser's own copies are fp32. On the tiny model it trains 1.4 times as many tokens a CPU second as bf16 autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class MasterAdamW(torch.optim.Optimizer):
    """AdamW on fp32 copies of the parameters; the parameters themselves hold them rounded."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})
        copies = [
            {**group, "params": [p.detach().float().clone() for p in group["params"]]} for group in self.param_groups
        ]
        self._inner = torch.optim.AdamW(copies, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, inner in zip(self.param_groups, self._inner.param_groups, strict=True):
            inner["lr"] = group["lr"]
            for parameter, master in zip(group["params"], inner["params"], strict=True):
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self._inner.step()
        for group, inner in zip(self.param_groups, self._inner.param_groups, strict=True):
            for parameter, master in zip(group["params"], inner["params"], strict=True):
                parameter.copy_(master)
                master.grad = None
        return loss

    def masters(self) -> list[Tensor]:
        """The fp32 weights, in the order of the parameters."""
        return [p for group in self._inner.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return {"groups": super().state_dict(), "inner": self._inner.state_dict(), "masters": self.masters()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["groups"])
        self._inner.load_state_dict(state_dict["inner"])
        for master, saved in zip(self.masters(), state_dict["masters"], strict=True):
            master.copy_(saved)
