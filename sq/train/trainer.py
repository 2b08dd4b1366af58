"""The training itself: Lightning's Trainer made and run, from the last checkpoint or the beginning to the end."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor

from sq.core.tracking import Run
from sq.data.module import PackLoader
from sq.train.checkpoints import Checkpoints, best_checkpoint, last_checkpoint, step_of
from sq.train.config import Precision, TrainerConfig
from sq.train.hardware import deepspeed_strategy
from sq.train.module import TrainingModule
from sq.train.packs import TrainingPacks
from sq.train.progress import TrainingProgress, format_plan, one_step, validate
from sq.train.reference import References
from sq.train.shard import ReplicaStrategy, ShardStrategy

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

log = logging.getLogger(__name__)


Weights = Iterable[tuple[str, Tensor]]


def run_training(
    module: TrainingModule, packs: TrainingPacks, run: Run, references: Path | None, write: Callable[[Weights], None]
) -> dict[str, float]:
    """Train `module` on `packs`, have the first process `write` its weights, and return the last figures.

    `references` is where its reference log-probabilities are, or go to.
    """

    def measure(trainer: L.Trainer, module: Any) -> dict[str, float]:
        metrics = validate(trainer, module, packs.held_out)
        run.metrics(metrics, step=trainer.global_step)
        return metrics

    log.info("%s", format_plan(module, packs))
    if packs.train.steps == 1:
        log.warning("%s", one_step(module, packs))
    loader, directory = packs.train, module.checkpoints
    last = last_checkpoint(directory)
    if last is not None:
        loader.first_step = step_of(last)
        log.info("continuing from step %d of %d", loader.first_step, loader.steps)
    progress = TrainingProgress(run, directory.parent, every=module.config.log_every, steps=loader.steps)
    saving = Checkpoints(directory, module.config, measure)
    end = _FinalValidation(packs.held_out, run, saving, write)
    callbacks: list[Callback] = [_StopOnSignal()]  # before references are computed, which takes a while
    if references is not None:
        callbacks.append(References(packs.loaders(), references))
    callbacks += [end, progress, saving]
    trainer = _trainer(module, loader, callbacks)
    # Several processes would agree before every pack on whether one has got SIGTERM, and wait for the GPU to do so;
    # `Checkpoints` does that, without the GPU.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _no_broadcast  # type: ignore[method-assign]
    if loader.first_step == loader.steps:  # stopped after the last one: Lightning would pass over the end as well
        trainer.fit_loop.run = partial(_run_ends, trainer.fit_loop)  # type: ignore[method-assign]
    try:
        trainer.fit(module, loader, ckpt_path=None if last is None else str(last), weights_only=False)
    except SystemExit as error:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit
            raise KeyboardInterrupt from error
        raise
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # the next job of a sweep makes its own
    run.metrics(end.metrics, step=loader.steps)
    for name, rows in module.loss.tables().items():
        run.table(name, rows)
    return progress.final | end.metrics | {"train/tokens": packs.tokens}


def prepare_process(threads: int | None, seed: int) -> None:
    """Threads and seed of this process, and only those of Lightning's messages that a user can do something about."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "torchmetrics"):
        warnings.filterwarnings("ignore", module=module)
    for message in (".*does not have many workers.*", ".*isinstance.treespec.*", ".*lr_scheduler.step.*"):
        warnings.filterwarnings("ignore", message=message)
    if threads:
        torch.set_num_threads(threads)
    L.seed_everything(seed, verbose=False)


def _no_broadcast() -> None:
    pass


def _run_ends(loop: Any) -> None:
    loop.on_run_start()
    loop.on_run_end()


class _StopOnSignal(Callback):
    """Takes away Lightning's handler of SIGTERM, which has all processes meet, wherever each of them is: sent to one
    of two, it makes both wait for ever. `Checkpoints` has a handler of its own, which saves and stops."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class _FinalValidation(Callback):
    """Held-out rows measured before the first step and after the last, while all processes are there; the export."""

    def __init__(
        self, held_out: PackLoader | None, run: Run, saving: Checkpoints, write: Callable[[Weights], None]
    ) -> None:
        self.held_out, self.run, self.saving, self.write = held_out, run, saving, write
        self.before: dict[str, float] = {}
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["before"]

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.global_step == 0 and self.held_out is not None:
            self.before = validate(trainer, module, self.held_out)
            self.run.metrics(self.before, step=0)
            log.info("held-out rows before the first step: loss %.4f", self.before["val/loss"])

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        module.check_finite()
        self.metrics = validate(trainer, module, self.held_out)
        self.metrics |= {f"{name}_before": value for name, value in self.before.items() if name == "val/loss"}
        self.saving.finish(trainer)
        self.saving.stop_if_asked(trainer)
        weights = _weights(module)
        best = trainer.strategy.broadcast(best_checkpoint(module.checkpoints))
        if module.config.export == "best" and best is not None and best[1] < self.metrics["val/loss"]:
            log.info("exporting %s, the best on held-out rows (%.4f)", best[0].name, best[1])
            weights = _weights_in(best[0], trainer, module)
            self.metrics["val/loss_exported"] = best[1]
        if trainer.is_global_zero:
            self.write(weights)
        for _ in weights:  # every process takes part in what the first one writes
            pass


def _weights(module: TrainingModule) -> Iterator[tuple[str, Tensor]]:
    """The module's weights by name, one at a time from wherever their shards are. All processes take part."""
    for name, tensor in (module.state_dict(keep_vars=True) | module.masters()).items():
        if hasattr(tensor, "ds_id"):
            from deepspeed import zero

            with zero.GatheredParameters([tensor], modifier_rank=None):
                yield name, tensor.detach().cpu().clone()
        else:
            yield name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _weights_in(checkpoint: Path, trainer: L.Trainer, module: TrainingModule) -> Iterator[tuple[str, Tensor]]:
    """The same from a checkpoint of ours. FSDP's and DeepSpeed's are directories with a part of each process."""
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)
        return iter(state["state_dict"].items())
    if isinstance(trainer.strategy, ShardStrategy):
        trainer.strategy.load_weights(checkpoint)
        return _weights(module)
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # it tells each step
        return iter(get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag="checkpoint").items())


def _trainer(module: TrainingModule, loader: PackLoader, callbacks: list[Callback]) -> L.Trainer:
    config: TrainerConfig = module.config
    return L.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy(config),
        **precision(config),
        max_steps=loader.steps,
        max_epochs=1,
        accumulate_grad_batches=loader.accumulate,
        gradient_clip_val=(module.stage.grad_clip or None) if config.strategy == "deepspeed" else None,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        val_check_interval=None,
        num_sanity_val_steps=0,
        default_root_dir=module.checkpoints.parent,
    )


def strategy(config: TrainerConfig) -> Strategy | str:
    """Lightning's strategy object."""
    if config.strategy == "fsdp":
        return ShardStrategy(config.world, config.reduce_once)
    if config.strategy == "deepspeed":
        return deepspeed_strategy()
    if config.strategy == "ddp" or config.world > 1:
        return ReplicaStrategy(gradient_as_bucket_view=True)
    return "auto"


def precision(config: TrainerConfig) -> dict[str, Any]:
    """Lightning's arguments that say in which numbers to compute."""
    mixed = config.precision is Precision.BF16_MIXED and config.strategy != "fsdp"
    # With bf16 weights there is nothing left for Lightning to convert: the model is, and the optimiser has masters.
    flag: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if mixed else "32-true"
    if config.strategy != "deepspeed":
        return {"precision": flag}
    from lightning.pytorch.plugins.precision import DeepSpeedPrecision

    class Untouched(DeepSpeedPrecision):
        """DeepSpeed's, but a pack stays as it is: it is frozen, and labels and weights are computed with in fp32."""

        def convert_input(self, data: Any) -> Any:
            return data

    return {"plugins": [Untouched(flag)]}
