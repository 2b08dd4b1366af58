"""Is training on this GPU right? Packed against row by row in bf16, for `gpu.py`."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_rows import PREFIX, SHAPES, new_model, rows_of


def parity(device: str, shapes: str) -> dict[str, Any]:
    """Packed against row by row in bf16, on each kernel, beside bf16 row by row against fp32."""
    import torch

    from sq.models.attention import Kernel

    layers = min(2, SHAPES[shapes]["num_hidden_layers"])
    model = new_model(shapes, device, torch.float32, num_hidden_layers=layers, vocab_size=512)
    rows = [row for item in rows_of("sft", 512, 2000, 0.3) for row in item.rows]
    exact = loss_and_gradient(model, rows, Kernel.UNPACKED, 0)
    model = model.bfloat16()
    half = loss_and_gradient(model, rows, Kernel.UNPACKED, 0)
    kernels = (Kernel.FLEX, Kernel.FLASH, Kernel.SDPA) if device == "cuda" else (Kernel.SDPA,)
    found: dict[str, Any] = {"rows": len(rows), "bf16_alone": apart(half, exact)}
    for kernel in kernels:
        for prefix in (0, PREFIX):
            if prefix and kernel is Kernel.FLASH:
                continue
            name = f"{kernel.value}{'_shared' if prefix else ''}"
            found[name] = attempt(lambda k=kernel, p=prefix: apart(loss_and_gradient(model, rows, k, p), exact), device)  # type: ignore[misc]
    return found | {"holds": holds(found, kernels[0].value)}


def holds(found: dict[str, Any], required: str) -> bool:
    """Whether each kernel that runs here is right, and `required` is one of them."""
    ran = {name: v for name, v in found.items() if isinstance(v, dict) and "not_available" not in v}
    bound = 2 * found["bf16_alone"]["gradient"] + 1e-3
    return required in ran and all(v.get("gradient", math.inf) <= bound for v in ran.values())


def loss_and_gradient(model: Any, rows: list[Any], kernel: Any, prefix: int) -> tuple[float, Any]:
    """Mean loss of the rows in one pack, or in a pack each, and the gradient as one vector."""
    import torch

    from sq.data.collate import collate
    from sq.models.attention import Kernel, choose_attention
    from sq.models.packed_forward import pack_loss

    attention = choose_attention(model, kernel, share_prefix=prefix > 0)
    groups = [[row] for row in rows] if kernel is Kernel.UNPACKED else [rows]
    packs = [collate(group, prefix=prefix).to(model.device) for group in groups]
    count, total = sum(pack.supervised for pack in packs), 0.0
    sums = [torch.zeros_like(p, dtype=torch.float32) for p in model.parameters()]
    for pack in packs:
        loss = pack_loss(model, pack, attention).total / count
        for held, gradient in zip(sums, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            held += gradient
        total += float(loss.detach())
    return total, torch.cat([held.flatten() for held in sums])


def apart(found: tuple[float, Any], expected: tuple[float, Any]) -> dict[str, float]:
    """How far off, relative to what is expected."""
    (loss, gradient), (wanted, wanted_gradient) = found, expected
    off = float((gradient - wanted_gradient).norm() / wanted_gradient.norm())
    return {"loss": abs(loss - wanted) / abs(wanted), "gradient": off}


def attempt(run: Callable[[], dict[str, Any]], device: str) -> dict[str, Any]:
    """The result of a case, or what went wrong or is missing here: the next one is run all the same."""
    import torch

    from sq.core.errors import ConfigError

    try:
        return run()
    except ConfigError as error:
        return {"not_available": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    finally:
        gc.collect()
        torch._dynamo.reset()
        if device == "cuda":
            torch.cuda.empty_cache()
