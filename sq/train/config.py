"""The configuration of training: data, adapters, hardware, and the job that ties them to a stage and a model.

Kept apart from the LightningModules because those import torch and lightning, and a wrong override must be reported in
under two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.data.sources import SourceConfig, check_there
from sq.domains.base import DomainConfig
from sq.models.load import ModelConfig
from sq.train.stage import StageConfig


class Precision(Enum):
    """The arithmetic of training."""

    FP32 = "32-true"
    BF16_MIXED = "bf16-mixed"
    BF16 = "bf16-true"
    AUTO = "auto"


class TooLong(Enum):
    """What becomes of a row longer than the limit. Either way it is counted and logged."""

    REJECT = "reject"
    TRUNCATE = "truncate"


@dataclass(frozen=True, kw_only=True)
class DataConfig(SourceConfig):
    """Where the rows come from, and how long they may be."""

    too_long: TooLong = setting(TooLong.REJECT, help="rows above the limit: reject (counted) or truncate (counted)")
    max_tokens: int | None = setting(None, ge=2, help="limit of a row; default: the pack's, or the model's context")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters in place of full fine-tuning; merged into the weights on export. Needs peft."""

    rank: int = setting(0, ge=0, help="0: full fine-tuning")
    alpha: int = setting(32, ge=1, help="their scale, over the rank")
    dropout: float = setting(0.0, ge=0, lt=1, help="must stay 0 in QPO")
    targets: list[str] = setting([], help="names of linear layers; all but the head when empty")
    quantize: bool = setting(False, help="QLoRA: hold the frozen weights in 4 bit. Needs bitsandbytes")

    def __post_init__(self) -> None:
        if self.quantize and not self.rank:
            raise ValueError("quantize=true trains nothing without adapters; set rank=16 or so")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Hardware and habits of the run; Lightning's Trainer is made from it."""

    accelerator: str = setting("auto", choices=("auto", "cpu", "gpu"))
    devices: int = setting(1, ge=1, help="processes on each node, one GPU each")
    nodes: int = setting(1, ge=1, help="machines; start the same command on each with torchrun or srun")
    strategy: str = setting("auto", choices=("auto", "ddp", "fsdp", "deepspeed"))
    precision: Precision = setting(
        Precision.FP32,
        help="fp32, bf16_mixed, bf16 (weights too; fp32 masters are kept), or auto: bf16 where the hardware has it, "
        "else fp32",
    )
    attention: str = setting("auto", choices=("auto", "sdpa", "flash", "flex", "unpacked"))
    head: str = setting(
        "auto",
        choices=("auto", "chunked", "liger", "cce"),
        help="the head's cross-entropy: ours in chunks, or Liger's or cut-cross-entropy's kernel (GPU, installed)",
    )
    parity_check: bool | None = setting(
        None,
        help="first show that packed = unpacked on this model, else refuse to train; default: once for each "
        "model, kernel and version",
    )
    gradient_checkpointing: bool = setting(False, help="recompute activations: less memory, a third more work")
    checkpointed_layers: float = setting(
        1.0, gt=0, le=1, help="share of the layers that gradient_checkpointing=true is for: 0.5 is half of both"
    )
    compile: bool | None = setting(None, help="torch.compile the model's layers; default: with a GPU's attention")
    reduce_once: bool | None = setting(
        None,
        help="FSDP: reduce gradients once a step and not after every pack, for 4 bytes a trained parameter more on "
        "each GPU; default: where that is at most a quarter of its memory",
    )
    threads: int | None = setting(None, ge=1, help="CPU threads of torch; default: torch's own choice")
    lora: LoraConfig = field(default_factory=LoraConfig)
    checkpoint_every: int = setting(
        500, ge=1, help="optimiser steps between checkpoints, with a validation before each"
    )
    checkpoint_minutes: float = setting(
        15, gt=0, help="minutes between them at most, without a validation; SIGUSR1 asks for one, SIGTERM for the last"
    )
    keep_checkpoints: int = setting(1, ge=1, help="how many of them stay, beside the best")
    export: str = setting(
        "last", choices=("last", "best"), help="which weights: the last, or the best on held-out rows"
    )
    log_every: int = setting(10, ge=1, help="optimiser steps between logged figures")
    cache: str | None = setting(
        None, help="directory for tokenised rows and reference log-probs, to share over a sweep"
    )

    @property
    def world(self) -> int:
        """Processes of the whole training."""
        return self.devices * self.nodes


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training run: a model, a stage, data, and where the result goes."""

    stage: StageConfig
    model: ModelConfig
    domain: DomainConfig
    data: DataConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    output_dir: str = setting(help="where the model goes")
    seed: int = setting(0, ge=0, help="random seed: the same one gives the same rows and weights")

    def run(self) -> Path:
        """Train by so many processes, export, and return where the model is."""
        check_there(self.data)
        from sq.train.launch import environment_kept, processes

        with environment_kept(), processes(self.trainer, self):
            from sq.train.fit import fit

            return fit(self)
