"""The model as it is trained: loaded, cast, with adapters, on its device, with its attention; and what is told."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from sq.core.count import count_noun
from sq.core.cpu import cpu_has_bf16
from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.data.module import PackPlan
from sq.data.tokens import TokenRows
from sq.models.adapters import Adapters, add_adapters, keep_layout, merged, quantized_arguments, size
from sq.models.attention import Attention, Kernel, choose_attention
from sq.models.fused import HeadChoice
from sq.models.load import NEW_TINY, load_model, stored_dtype
from sq.models.parity import check_parity
from sq.models.tiny import make_model
from sq.train.base import warmup_steps
from sq.train.config import Precision, TrainJob
from sq.train.optim import check_optimizer
from sq.train.stages import Optimizer, PretrainStage, QFTStage, SFTStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from sq.train.rows import TrainingRows

log = logging.getLogger(__name__)
PARITY_ROWS = 6


def resolve_precision(job: TrainJob) -> TrainJob:
    """The job with `precision=auto` replaced by what this hardware is fastest in."""
    if job.trainer.precision is not Precision.AUTO:
        return job
    device = device_of(job)
    able = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    masters = job.stage.optimizer is Optimizer.ADAMW and job.trainer.strategy != "deepspeed"
    chosen = (Precision.BF16 if masters else Precision.BF16_MIXED) if able else Precision.FP32
    return replace(job, trainer=replace(job.trainer, precision=chosen))


def check_machine(job: TrainJob) -> None:
    """Refuse what this machine or stage cannot do, before weights are loaded."""
    device_of(job)
    check_optimizer(job.stage)
    if job.stage.optimizer is not Optimizer.ADAMW and job.trainer.strategy == "fsdp":
        raise ConfigError(
            f"stage.optimizer={job.stage.optimizer.value} cannot work on FSDP's shards (bitsandbytes knows none); use "
            "stage.optimizer=adamw, whose state FSDP spreads over the processes, or trainer.strategy=deepspeed or ddp"
        )
    if job.stage.optimizer is not Optimizer.ADAMW and job.trainer.precision is Precision.BF16:
        raise ConfigError(
            f"stage.optimizer={job.stage.optimizer.value} keeps no fp32 copy of bf16 weights, which would round small "
            "updates away; use trainer.precision=bf16_mixed with it"
        )
    if job.trainer.head in ("liger", "cce") and not isinstance(job.stage, PretrainStage | QFTStage | SFTStage):
        raise ConfigError(
            f"trainer.head={job.trainer.head} is for cross-entropy; stage={job.stage.name} needs trainer.head=auto"
        )


def device_of(job: TrainJob) -> torch.device:
    """Where this process computes."""
    wanted = job.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch sees no GPU here; use trainer.accelerator=cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    if local >= torch.cuda.device_count():
        raise ConfigError(f"trainer.devices={job.trainer.devices}, but there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", local)


def load(job: TrainJob, tokenizer: PreTrainedTokenizerFast) -> tuple[PreTrainedModel, torch.dtype]:
    """The model to train, and the number format its weights came in (and go out in)."""
    lora, config = job.trainer.lora, job.model
    if config.path == NEW_TINY:
        model: PreTrainedModel = make_model(tokenizer, job.seed)
        stored = model.dtype
    elif lora.quantize:
        exact = job.trainer.precision is Precision.FP32
        model = load_model(config, **quantized_arguments(torch.float32 if exact else torch.bfloat16))
        keep_layout(model)
        stored = stored_dtype(config)
    else:
        model = load_model(config)
        stored = model.dtype
    if not lora.quantize:
        # FSDP keeps fp32 shards and gathers them in bf16.
        half = job.trainer.precision is Precision.BF16 and job.trainer.strategy != "fsdp"
        model = model.bfloat16() if half else model.float()
    if lora.rank:
        add_adapters(model, adapters(job))
    if job.trainer.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train().to(device_of(job)), stored


def model_to_export(
    job: TrainJob, model: PreTrainedModel, state: Mapping[str, Tensor]
) -> tuple[PreTrainedModel, Mapping[str, Tensor]]:
    """The model and weights to export: adapters are merged into a fresh copy of what they were trained beside."""
    if not job.trainer.lora.rank:
        return model, state
    whole = merged(load_model(job.model, dtype="float32"), state, adapters(job))
    return whole, whole.state_dict()


def adapters(job: TrainJob) -> Adapters:
    """The adapters that the trainer's settings describe."""
    lora = job.trainer.lora
    return Adapters(rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets)


def set_up_attention(job: TrainJob, model: PreTrainedModel) -> Attention:
    """Choose the attention over packs.

    Raises:
        ConfigError: rows would run one by one, and in shards: a process with fewer rows would keep the others waiting.
    """
    attention = choose_attention(model, Kernel(job.trainer.attention), share_prefix=job.stage.share_prefix)
    trainer = job.trainer
    if not attention.packs and trainer.strategy in ("fsdp", "deepspeed") and trainer.devices * trainer.nodes > 1:
        raise ConfigError(
            f"trainer.strategy={trainer.strategy} needs packs, and here rows run one by one ({attention.reason}): "
            "processes with different numbers of rows would wait for each other for ever; use trainer.strategy=ddp"
        )
    return attention


def prefix_of(data: TrainingRows, attention: Attention) -> int:
    """How many opening tokens packs share: what all rows, held-out ones too, have in common."""
    if not attention.shares_prefix:
        return 0
    mine = data.train.common_prefix()
    if not len(data.held_out):
        return len(mine)
    other = data.held_out.common_prefix()
    return next((i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))


def check_context(model: PreTrainedModel, data: TrainingRows) -> None:
    """Refuse rows beyond the positions that the model has."""
    positions = int(model.config.get_text_config().to_dict().get("max_position_embeddings") or 0)
    longest = max(data.train.longest, data.held_out.longest)
    if positions and longest > positions:
        raise ConfigError(
            f"the longest row has {longest} tokens, but the model's context is {positions}; set "
            f"data.max_tokens={positions} (longer rows are rejected and counted, or cut with data.too_long=truncate)"
        )


def check_parity_gate(model: PreTrainedModel, rows: TokenRows, attention: Attention, prefix: int) -> None:
    """Refuse to train where packed and unpacked training are not the same on this model."""
    if not attention.packs:
        log.info("parity of packed and unpacked training: rows run one by one, there is nothing to compare")
        return
    order = sorted(range(len(rows)), key=lambda i: rows.lengths[i])
    spread = [order[round(k * (len(order) - 1) / max(1, PARITY_ROWS - 1))] for k in range(PARITY_ROWS)]
    chosen = [row for item in dict.fromkeys(spread) for row in rows.rows(item)]
    report = check_parity(model, chosen, attention, collate, prefix=prefix)
    report.require()
    log.info(report.describe())


def print_plan(
    job: TrainJob,
    model: PreTrainedModel,
    data: TrainingRows,
    plan: PackPlan,
    steps: int,
    attention: Attention,
    head: HeadChoice,
) -> int:
    """Say in one block what is about to happen; returns the number of parameters."""
    total: int = sum(size(p) for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    packing, stage = plan.packing, job.stage
    rows, packs = len(data.train), len(packing.packs)
    world = job.trainer.devices * job.trainer.nodes
    what = "pair" if data.train.segments == 2 else "row"
    shared = f", a prefix of {plan.prefix} tokens computed once per pack" if plan.prefix else ""
    log.info(
        "%s of %s\n  model      %s parameters, %.4g%% trainable, %s on %d %s\n"
        "  data       %s (%s held out) in %s of %s tokens, %.1f%% full\n"
        "  steps      %s of %s (about %s), warm-up %d, peak lr %g, %s, %s\n"
        "  attention  %s%s (%s)\n"
        "  head       %s, at supervised positions only (%s)",
        stage.name, job.model.name, f"{total:,}", 100 * trainable / total, job.trainer.precision.name.lower(), world,
        "device" if world == 1 else f"devices, {job.trainer.strategy}",
        count_noun(rows, what), f"{len(data.held_out):,}", count_noun(packs, "pack"), f"{packing.capacity:,}",
        100 * packing.efficiency, f"{steps:,}", count_noun(plan.batch_packs, "pack"),
        count_noun(round(plan.batch_packs * rows / packs), what), warmup_steps(stage, steps), stage.lr,
        stage.schedule.value, stage.optimizer.value, attention.kernel.value, shared, attention.reason,
        head.kernel.value, head.reason,
    )  # fmt: skip
    return total
