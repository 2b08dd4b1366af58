"""Several processes: a whole model on each (DDP), or the model in shards over them, gathered a layer at a time (FSDP).

FSDP is PyTorch's `fully_shard`, which runs on GPUs (NCCL) and, for the tests, on CPUs (gloo) alike. The shards are
fp32 and the optimiser works on them; in bf16 the gathered weights are, so nothing below bf16's resolution is lost.
The first process alone reads the weights, and the others have them from it a layer at a time, of which each keeps its
shard: a whole model is in memory once for all processes, in the number format of its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sq.core.errors import ConfigError
from sq.train.config import Precision

REST = "meta.pt"
"""Of a checkpoint in shards, what is in no shard; by this name Lightning knows such a directory."""


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


class ShardStrategy(ModelParallelStrategy):
    """Lightning's strategy for `fully_shard`: checkpoints are shards too, and are written while training goes on.

    They are read by any number of processes, each what it needs of them (`torch.distributed.checkpoint`).
    """

    def __init__(self, world: int, reduce_once: bool | None = None) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=True)
        self._reduce_once = reduce_once
        self._saving: Future[Any] | None = None
        self._saving_group: Any = None

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The shards, where they are."""
        return dict(get_model_state_dict(self._module()))

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The same of the optimiser."""
        return dict(get_optimizer_state_dict(self._module(), getattr(optimizer, "_optimizer", optimizer)))

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Copy this process's shards to memory, and write them from there; `saved` tells when they are."""
        self.saved(wait=True)
        path = Path(self.broadcast(filepath))
        path.mkdir(parents=True, exist_ok=True)
        state = {"state_dict": checkpoint.pop("state_dict"), "optimizer_0": checkpoint.pop("optimizer_states")[0]}
        if self.global_rank == 0:
            torch.save(checkpoint, path / REST)
        if self._saving_group is None:  # of its own: on the training's group its messages would meet those of a step
            self._saving_group = dist.new_group(backend="gloo")
        saving = async_save(state, checkpoint_id=path, process_group=self._saving_group)
        assert isinstance(saving, Future)
        self._saving = saving

    def saved(self, *, wait: bool = False) -> bool:
        """Whether the last checkpoint is written; an error in writing is raised here."""
        if self._saving is None:
            return True
        if not wait and not self._saving.done():
            return False
        saving, self._saving = self._saving, None
        saving.result()
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read this process's shards, and return the rest."""
        path = Path(self.broadcast(checkpoint_path))
        module, optimizer = self._module(), self.optimizers[0]
        self.load_weights(path)
        state = {"optimizer_0": get_optimizer_state_dict(module, optimizer)}
        load(state, checkpoint_id=path)
        set_optimizer_state_dict(module, optimizer, state["optimizer_0"])
        return dict(torch.load(path / REST, weights_only=False))

    def load_weights(self, checkpoint: Path) -> None:
        """Put the weights of a checkpoint in place; with adapters it has only those."""
        saved = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
        held = get_model_state_dict(self._module())
        load(
            {"state_dict": {name: held[name] for name in held if f"state_dict.{name}" in saved}},
            checkpoint_id=checkpoint,
        )

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within the block gradients are added up whole, in fp32, where memory allows; the next after it reduces."""
        root: Any = self._module()
        if self._reduce_once is None:
            # Of one mind: GPUs may differ, and a process that reduces waits for those that do not.
            self._reduce_once = self.reduce_boolean_decision(self._gradients_fit(root))
        root.set_requires_gradient_sync(not self._reduce_once)
        try:
            yield
        finally:
            root.set_requires_gradient_sync(True)

    def _gradients_fit(self, root: nn.Module) -> bool:
        """Whether those of the whole model are at most a quarter of the memory of this process's GPU."""
        if self.root_device.type != "cuda":
            return True
        needed = 4 * sum(p.numel() for p in root.parameters() if p.requires_grad)
        return needed <= torch.cuda.get_device_properties(self.root_device).total_memory / 4

    def _module(self) -> nn.Module:
        assert self.model is not None
        return self.model


def shard(
    root: nn.Module, model: Any, head: nn.Module | None, precision: Precision, mesh: Any, device: torch.device
) -> None:
    """Shard the decoder layers of `model` one by one, `head`, which computes in fp32, and the rest of `root`."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if isinstance(root, FSDPModule):
        return
    half = None if precision is Precision.FP32 else torch.bfloat16
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    lay_out_as_first(root)
    parts = [(layer, policy) for layer in decoder_layers(model)]
    for part, own in [*parts, *([] if head is None else [(head, whole)]), (root, policy)]:
        take_from_first(part, device)
        fully_shard(part, mesh=mesh, mp_policy=own)


def lay_out_as_first(root: nn.Module) -> None:
    """Give `root` the ties, the buffers' number formats and what is trained as the first process has them.

    It alone has read the files: they may hold apart what the config ties, or be in another format than it says.

    Raises:
        ConfigError: on every process, where one's tensors have other names or shapes.
    """
    slots = [
        (held, name, f"{prefix}.{name}")
        for prefix, module in root.named_modules()
        for held in (module._parameters, module._buffers)
        for name in held
    ]
    own = [held[name] for held, name, _ in slots]
    seen: dict[int, int] = {}
    layout = [
        None if t is None else (whole, tuple(t.shape), seen.setdefault(id(t), i), t.dtype, t.requires_grad)
        for i, (t, (_, _, whole)) in enumerate(zip(own, slots, strict=True))
    ]
    first: list[Any] = [layout]
    differences: list[str | None] = [None] * dist.get_world_size()
    dist.broadcast_object_list(first, 0)
    dist.all_gather_object(differences, _difference(layout, first[0]))
    if any(differences):
        raise ConfigError(
            "the processes have different models: "
            + "; ".join(f"process {i}: {found}" for i, found in enumerate(differences) if found)
            + ". Give all the same model.path, model.revision and version of transformers"
        )
    for i, ((held, name, _), mine, wanted) in enumerate(zip(slots, layout, first[0], strict=True)):
        tensor = own[i]
        if tensor is None or mine is None or mine == wanted:
            continue
        _, _, group, dtype, trained = wanted
        if group != i:
            own[i] = own[group]
        elif isinstance(tensor, nn.Parameter):
            own[i] = nn.Parameter(tensor.detach().clone(), trained)
        else:
            own[i] = tensor.to(dtype, copy=True)
        held[name] = own[i]


def _difference(own: list[Any], first: list[Any]) -> str | None:
    """The first tensor whose name or shape is not as in the first process; None where all are."""
    for mine, wanted in zip_longest(own, first):
        if (mine and mine[:2]) != (wanted and wanted[:2]):
            mine, wanted = (f"{t[0]} {list(t[1])}" if t else "nothing" for t in (mine, wanted))
            return f"{mine} where process 0 has {wanted}"
    return None


@torch.no_grad()
def take_from_first(part: nn.Module, device: torch.device) -> None:
    """Give `part` the first process's weights, in fp32, and buffers; what is in shards has them. Ties are kept."""
    taken: dict[Tensor, Tensor] = {}
    for module in part.modules():
        for held in (module._parameters, module._buffers):
            for name, own in held.items():
                if own is None or isinstance(own, DTensor):
                    continue
                if own not in taken:
                    weight = isinstance(own, nn.Parameter)
                    tensor = torch.empty(own.shape, dtype=torch.float32 if weight else own.dtype, device=device)
                    if not own.is_meta:
                        tensor.copy_(own)
                    dist.broadcast(tensor, 0)
                    taken[own] = nn.Parameter(tensor, own.requires_grad) if weight else tensor
                held[name] = taken[own]  # type: ignore[assignment]


def decoder_layers(model: Any) -> list[nn.Module]:
    """The layers that repeat: those of the text decoder, else the longest list of modules in the model."""
    layers = getattr(model.get_decoder() if hasattr(model, "get_decoder") else None, "layers", None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if isinstance(layers, nn.ModuleList):
        lists = [layers]
    if not lists:
        raise ConfigError(
            f"{type(model).__name__} has no list of layers, which trainer.strategy=fsdp, "
            "trainer.gradient_checkpointing and trainer.compile work on; use trainer.strategy=ddp or auto, "
            "trainer.gradient_checkpointing=false and "
            "trainer.compile=false"
        )
    return list(max(lists, key=lambda found: sum(1 for _ in found)))
