"""The training itself: packs and steps planned, the Trainer made, run, and its weights written."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError
from sq.core.tracking import Run
from sq.data.module import PackLoader, PackPlan, follow_plan, plan_packs
from sq.models.attention import Attention
from sq.models.load import export
from sq.models.regressor import NOTE, REWARD_NOTE, export_regressor
from sq.train import setup
from sq.train.base import BaseModule
from sq.train.cache import cache_directory, references_key
from sq.train.checkpoints import Checkpoints, best_checkpoint, checkpoints, step_of
from sq.train.config import TrainJob
from sq.train.difficulty import DifficultyModule
from sq.train.launch import precision, rank, strategy
from sq.train.pretrain import PretrainModule
from sq.train.progress import TrainingProgress, validate
from sq.train.qft import QFTModule
from sq.train.qpo import QPOModule
from sq.train.record import update_record
from sq.train.reference import References
from sq.train.reward import RewardModule
from sq.train.rows import TrainingRows
from sq.train.sft import SFTModule
from sq.train.stages import DifficultyStage, PretrainStage, QFTStage, QPOStage, RewardStage, SFTStage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)
MODULES: dict[type, type[BaseModule]] = {
    PretrainStage: PretrainModule,
    QFTStage: QFTModule,
    QPOStage: QPOModule,
    DifficultyStage: DifficultyModule,
    RewardStage: RewardModule,
    SFTStage: SFTModule,
}


def train(
    job: TrainJob,
    tokenizer: PreTrainedTokenizerFast,
    chat: ChatFormat,
    data: TrainingRows,
    weights: str,
    run: Run,
    planned: Mapping[str, int] | None,
) -> dict[str, float]:
    """Train on `data`, write `model/`, and return the final figures. A stopped run goes on as `planned`."""
    _quiet()
    if job.trainer.threads:
        torch.set_num_threads(job.trainer.threads)
    L.seed_everything(job.seed, verbose=False)
    model, stored = setup.load(job, tokenizer)
    setup.check_context(model, data)
    attention = setup.set_up_attention(job, model)
    plan, loader, held_out = _loaders(job, data, setup.prefix_of(data, attention), planned)
    if rank() == 0:
        update_record(Path(job.output_dir), plan=plan.record())
    module = MODULES[type(job.stage)](job, model, attention, data, loader.steps)
    loader.divisor, loader.keep_last = module.divisor, module.keep_last
    if held_out is not None:
        held_out.keep_last = module.keep_last
    if job.trainer.parity_check:
        setup.check_parity_gate(model, data.train, attention, plan.prefix)
    if job.trainer.compile:
        model.base_model.compile(dynamic=True)
    setup.print_plan(job, model, data, plan, loader.steps, attention, module.head_choice)
    references = _reference_path(job, data, plan, weights, attention)
    watch = TrainingProgress(run, every=job.trainer.log_every, steps=loader.steps)
    end = _FinalValidation(job, held_out, run)
    _run(job, module, loader, held_out, references, [end, watch], run)
    run.metrics(end.metrics, step=loader.steps)
    for name, rows in module.tables().items():
        run.table(name, rows)
    if end.state is not None:
        _write(job, module, end.state, tokenizer, chat, stored, run)
    return watch.final | end.metrics | {"train/tokens": _tokens(plan, loader)}


def _tokens(plan: PackPlan, loader: PackLoader) -> float:
    """Tokens computed from the first step to the last, whichever process or attempt did it."""
    return plan.packing.tokens * loader.length / len(plan.packing.packs)


def _run(
    job: TrainJob,
    module: BaseModule,
    loader: PackLoader,
    held_out: PackLoader | None,
    references: Path,
    callbacks: list[Callback],
    run: Run,
) -> None:
    """Train from the last checkpoint, or from the beginning, to the end."""

    def look(trainer: L.Trainer, module: Any) -> dict[str, float]:
        metrics = validate(trainer, module, held_out)
        run.metrics(metrics, step=trainer.global_step)
        return metrics

    directory = Path(job.output_dir) / "checkpoints"
    last = max(checkpoints(directory), default=None, key=step_of)
    if last is not None:
        loader.first_step = step_of(last)
        log.info("continuing from step %d of %d", loader.first_step, loader.steps)
    callbacks = [*callbacks, Checkpoints(directory, job.trainer, look)]
    if isinstance(module, QPOModule):
        both = {"train": loader} if held_out is None else {"train": loader, "val": held_out}
        callbacks.insert(0, References(both, references))
    callbacks.insert(0, _StopOnSignal())  # before references are computed, which takes a while
    trainer = _trainer(job, loader, callbacks)
    try:
        trainer.fit(module, loader, ckpt_path=None if last is None else str(last), weights_only=False)
    except SystemExit as error:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit
            raise KeyboardInterrupt from error
        raise
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # the next job of a sweep makes its own


class _StopOnSignal(Callback):
    """SIGTERM stops a run as it would without Lightning, whose handler has all processes meet, wherever each of them
    is: told to one of two, it makes both wait for ever. What is lost is done again from the last checkpoint."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class _FinalValidation(Callback):
    """A look at held-out rows before the first step and after the last, while all processes are there; the weights."""

    def __init__(self, job: TrainJob, held_out: PackLoader | None, run: Run) -> None:
        self.job, self.held_out, self.run = job, held_out, run
        self.before: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.state: Mapping[str, Tensor] | None = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.global_step == 0 and self.held_out is not None:
            self.before = validate(trainer, module, self.held_out)
            self.run.metrics(self.before, step=0)
            log.info("held-out rows before the first step: loss %.4f", self.before["val/loss"])

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        self.metrics = validate(trainer, module, self.held_out)
        self.metrics |= {f"{name}_before": value for name, value in self.before.items() if name == "val/loss"}
        state = gathered(trainer, module)
        best = best_checkpoint(Path(self.job.output_dir) / "checkpoints")
        if trainer.is_global_zero:
            if self.job.trainer.export == "best" and best is not None and best[1] < self.metrics["val/loss"]:
                log.info("exporting %s, the best on held-out rows (%.4f)", best[0].name, best[1])
                state = _state_in(best[0])
                self.metrics["val/loss_exported"] = best[1]
            self.state = state


def _state_in(checkpoint: Path) -> Mapping[str, Tensor]:
    """The module's state in a checkpoint of ours; DeepSpeed's is a directory with a part of each process."""
    if checkpoint.is_file():
        state: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
        return state
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # it tells each step
        found: Mapping[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag="checkpoint")
    return found


def gathered(trainer: L.Trainer, module: Any) -> Mapping[str, Tensor]:
    """The module's whole state on the first process, from wherever its shards are. All processes take part."""
    if module.job.trainer.strategy != "deepspeed":
        return trainer.strategy.lightning_module_state_dict()
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(module.parameters()), modifier_rank=None):
        return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _loaders(
    job: TrainJob, data: TrainingRows, prefix: int, planned: Mapping[str, int] | None
) -> tuple[PackPlan, PackLoader, PackLoader | None]:
    stage, world = job.stage, job.trainer.devices * job.trainer.nodes
    if planned and planned["prefix"] > prefix:
        raise ConfigError(
            f"{job.output_dir} was stopped in the midst of its steps, and its packs share a prefix of "
            f"{planned['prefix']} tokens, which the attention of this machine cannot: continue where it was started, "
            "or start again in another output_dir="
        )
    if planned:
        plan = follow_plan(data.train, planned, job.seed)
    else:
        plan = plan_packs(
            data.train, capacity=stage.pack_tokens, seed=job.seed, prefix=prefix,
            batch_packs=stage.batch_packs, batch_rows=stage.batch_rows, world=world,
        )  # fmt: skip
    length = plan.length(stage.epochs, stage.max_steps)
    loader = PackLoader(data.train, plan, length=length, seed=job.seed, divisor=len, world=world)
    if not len(data.held_out):
        return plan, loader, None
    looked_at = plan_packs(data.held_out, capacity=stage.pack_tokens, seed=job.seed, prefix=plan.prefix)
    return plan, loader, PackLoader(data.held_out, looked_at, length=0, seed=job.seed, divisor=len, world=world)


def _trainer(job: TrainJob, loader: PackLoader, callbacks: list[Callback]) -> L.Trainer:
    config = job.trainer
    return L.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy(config),
        **precision(config),
        max_steps=loader.steps,
        max_epochs=1,
        accumulate_grad_batches=loader.accumulate,
        gradient_clip_val=(job.stage.grad_clip or None) if config.strategy == "deepspeed" else None,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        val_check_interval=None,
        num_sanity_val_steps=0,
        default_root_dir=job.output_dir,
    )


def _reference_path(job: TrainJob, data: TrainingRows, plan: PackPlan, weights: str, attention: Attention) -> Path:
    device = setup.device_of(job)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return (
        cache_directory(job)
        / f"reference-{references_key(job, data.digest, weights, plan, attention, name)}.safetensors"
    )


def _write(
    job: TrainJob, module: BaseModule, state: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerFast,
    chat: ChatFormat, stored: torch.dtype, run: Run,
) -> None:  # fmt: skip
    state = {name: _compact(tensor) for name, tensor in state.items()}
    own = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    model, weights = setup.model_to_export(job, module.model, own)
    origin = {"stage": job.stage.name, "base": job.model.path, "run": run.id, "seed": job.seed, "chat": chat.record()}
    target = Path(job.output_dir) / "model"
    if isinstance(module, DifficultyModule | RewardModule):
        note = NOTE if isinstance(module, DifficultyModule) else REWARD_NOTE
        head = {name.removeprefix("head."): tensor for name, tensor in state.items() if name.startswith("head.")}
        export_regressor(model, weights, head, tokenizer, chat, target, dtype=stored, origin=origin, note=note)
    else:
        export(model, tokenizer, target, dtype=str(stored).removeprefix("torch."), origin=origin, state=weights)


def _compact(tensor: Tensor) -> Tensor:
    """In storage of its own size: rows that do not divide evenly among FSDP's processes come with padding behind them,
    which safetensors refuses."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone()


def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "torchmetrics"):
        warnings.filterwarnings("ignore", module=module)
    for message in (".*does not have many workers.*", ".*isinstance.treespec.*", ".*lr_scheduler.step.*"):
        warnings.filterwarnings("ignore", message=message)
