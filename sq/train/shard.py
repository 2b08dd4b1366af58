"""Several processes: a whole model on each (DDP), or the model in shards over them, gathered a layer at a time (FSDP).

FSDP is PyTorch's `fully_shard`, which runs on GPUs (NCCL) and, for the tests, on CPUs (gloo) alike. The shards are
fp32 and the optimiser works on them; in bf16 the gathered weights are, so nothing below bf16's resolution is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sq.core.errors import ConfigError
from sq.train.config import Precision


class ReplicaStrategy(DDPStrategy):
    """Lightning's DDP, and for bf16 weights an all-reduce of their fp32 gradients, once a step.

    PyTorch's reducer has buckets of the weights' own type, in which gradients of bf16 weights would be summed in bf16.
    """

    def configure_ddp(self) -> None:
        """Wrap the model in PyTorch's DDP, unless it has weights in half precision."""
        assert self.model is not None
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if all(p.dtype is torch.float32 for p in trained):
            super().configure_ddp()
            return
        for parameter in trained:
            dist.broadcast(parameter.detach(), 0)

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Between the backward pass and what is done with gradients, make them the mean over processes."""
        if isinstance(self.model, DistributedDataParallel):
            return super().optimizer_step(optimizer, closure, model, **kwargs)

        def averaged() -> Any:
            loss = closure()
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            for handle in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
                handle.wait()
            torch._foreach_div_(gradients, self.world_size)
            return loss

        return super().optimizer_step(optimizer, averaged, model, **kwargs)


def shard(root: nn.Module, model: Any, precision: Precision, mesh: Any) -> None:
    """Shard the decoder layers of `model` one by one, and the rest of `root` together."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if isinstance(root, FSDPModule):
        return
    half = None if precision is Precision.FP32 else torch.bfloat16
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(root, mesh=mesh, mp_policy=policy)


def decoder_layers(model: Any) -> list[nn.Module]:
    """The layers that repeat: the longest list of modules in the model."""
    lists: list[nn.ModuleList] = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ConfigError(f"{type(model).__name__} has no list of layers to shard; use trainer=ddp")
    return list(max(lists, key=lambda found: sum(1 for _ in found)))
