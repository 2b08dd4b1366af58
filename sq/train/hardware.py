"""The trainer settings held against this machine and the stage, before anything is loaded; where and in which numbers
this process computes.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from sq.core.cpu import cpu_has_bf16
from sq.core.errors import ConfigError
from sq.models.parity import fp32_products
from sq.train.config import Precision, TrainerConfig
from sq.train.stage import Optimizer, StageConfig
from sq.train.token_stage import TokenStage

if TYPE_CHECKING:
    from lightning.pytorch.strategies import DeepSpeedStrategy


def checked_trainer(trainer: TrainerConfig, stage: StageConfig) -> TrainerConfig:
    """The trainer with `precision=auto` replaced by what this hardware is fastest in.

    Raises:
        ConfigError: for what this machine or stage cannot do, before weights are loaded.
    """
    trainer = resolve_precision(trainer)
    _check_optimizer(stage.optimizer)
    if stage.optimizer is not Optimizer.ADAMW and trainer.strategy == "fsdp":
        raise ConfigError(
            f"stage.optimizer={stage.optimizer.value} cannot work on FSDP's shards (bitsandbytes knows none); use "
            "stage.optimizer=adamw, whose state FSDP spreads over the processes, or trainer.strategy=deepspeed or ddp"
        )
    if trainer.checkpointed_layers < 1 and not trainer.gradient_checkpointing:
        raise ConfigError(
            f"trainer.checkpointed_layers={trainer.checkpointed_layers} is a share of the layers that "
            "trainer.gradient_checkpointing=true computes again; set that too"
        )
    if trainer.lora.quantize and trainer.strategy in ("fsdp", "deepspeed"):
        raise ConfigError(
            f"trainer.lora.quantize=true with trainer.strategy={trainer.strategy}: weights in 4 bit are packed "
            "integers with tables beside them, which shards would tear apart; use trainer.strategy=ddp, or "
            "trainer.lora.quantize=false"
        )
    if trainer.strategy == "deepspeed":
        if trainer.precision is Precision.BF16:
            raise ConfigError(
                "trainer.precision=bf16 with trainer.strategy=deepspeed: our fp32 masters would be copies of weights "
                "that ZeRO-3 has in shards; use trainer.precision=bf16_mixed, or trainer.strategy=fsdp"
            )
        deepspeed_strategy()  # which refuses where DeepSpeed is not installed
    if trainer.export == "best" and not stage.validation:
        raise ConfigError(
            "trainer.export=best goes by the loss on held-out rows, and stage.validation=0 holds out none; set "
            "stage.validation=0.02, or trainer.export=last"
        )
    if trainer.head in ("liger", "cce") and not is_cross_entropy(stage):
        smoothed = " with stage.label_smoothing" if isinstance(stage, TokenStage) else ""
        raise ConfigError(
            f"trainer.head={trainer.head} is for cross-entropy; stage={stage.name}{smoothed} needs trainer.head=auto"
        )
    if stage.needs_reference and trainer.lora.dropout:
        raise ConfigError(
            f"trainer.lora.dropout={trainer.lora.dropout} must be 0 with stage={stage.name}: it compares "
            "log-probabilities with those of a reference"
        )
    return trainer


def is_cross_entropy(stage: StageConfig) -> bool:
    """Whether kernels of others can compute its loss."""
    return isinstance(stage, TokenStage) and not stage.label_smoothing


def _check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimiser whose package is not there."""
    if optimizer is Optimizer.ADAMW:
        return
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"stage.optimizer={optimizer.value} needs bitsandbytes ({error}): pip install 'bitsandbytes>=0.50', or use "
            "stage.optimizer=adamw"
        ) from error


def resolve_precision(trainer: TrainerConfig) -> TrainerConfig:
    """The trainer with a precision that is not `auto`."""
    device = device_of(trainer)
    if trainer.precision is not Precision.AUTO:
        return trainer
    able = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()
    masters = trainer.strategy != "deepspeed" and not trainer.lora.quantize  # 4-bit weights stay as they are
    chosen = (Precision.BF16 if masters else Precision.BF16_MIXED) if able else Precision.FP32
    return replace(trainer, precision=chosen)


def device_of(trainer: TrainerConfig) -> torch.device:
    """Where this process computes."""
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch sees no GPU here; use trainer.accelerator=cpu")
    if trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    if local >= torch.cuda.device_count():
        raise ConfigError(f"trainer.devices={trainer.devices}, but there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", local)


def device_name(trainer: TrainerConfig) -> str:
    """The kind of device this process computes on."""
    device = device_of(trainer)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def tf32_products(trainer: TrainerConfig) -> AbstractContextManager[None]:
    """A GPU's TF32 for products of what is left in fp32, or of all where fp32 was asked for."""
    return fp32_products("high") if device_of(trainer).type == "cuda" else nullcontext()


def deepspeed_strategy() -> DeepSpeedStrategy:
    """ZeRO-3, which by itself adds gradients up in bf16."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.strategies import DeepSpeedStrategy

    try:
        zero = DeepSpeedStrategy(stage=3)
    except (ImportError, MisconfigurationException) as error:
        raise ConfigError(
            "trainer.strategy=deepspeed needs DeepSpeed 0.16 or later: pip install -U deepspeed, or use "
            "trainer.strategy=fsdp"
        ) from error
    assert isinstance(zero.config, dict)
    zero.config |= {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    return zero
