"""FSDP: the model in shards over the processes, a decoder layer at a time, gathered when its turn comes.

PyTorch's `fully_shard`, which runs on GPUs (NCCL) and, for the tests, on CPUs (gloo) alike. The shards are fp32 and the
optimiser works on them; in bf16 the gathered weights are, so nothing below bf16's resolution is lost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sq.core.errors import ConfigError
from sq.train.config import Precision


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
