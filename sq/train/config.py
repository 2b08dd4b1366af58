"""The configuration of training: stages, trainer and the job that ties them together.

Kept apart from the LightningModules because those import torch and lightning, and a wrong override must be told in
under two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.data.sources import SourceConfig
from sq.domains.base import DomainConfig
from sq.models.load import ModelConfig


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(Enum):
    """The arithmetic of training."""

    FP32 = "32-true"
    BF16_MIXED = "bf16-mixed"
    BF16 = "bf16-true"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every training stage has: the optimiser's numbers and the size of a step."""

    name: str = setting(help="stage name")
    lr: float = setting(gt=0, help="peak learning rate")
    epochs: float = setting(1, gt=0, help="passes over the data")
    max_steps: int | None = setting(None, ge=1, help="stop after so many optimiser steps")
    schedule: Schedule = setting(Schedule.COSINE, help="cosine, linear or constant")
    warmup: float = setting(0.03, ge=0, le=1, help="share of the steps in which the learning rate rises")
    weight_decay: float = setting(0.0, ge=0)
    beta2: float = setting(0.999, gt=0, lt=1, help="AdamW's second-moment decay")
    grad_clip: float = setting(1.0, ge=0, help="largest gradient norm; 0 for none")
    pack_tokens: int = setting(2048, ge=8, help="tokens in a pack")
    batch_packs: int = setting(1, ge=1, help="packs in an optimiser step, over all devices")
    validation: float = setting(0.02, ge=0, lt=1, help="share of the rows held out")


@dataclass(frozen=True, kw_only=True)
class PretrainStage(StageConfig):
    """Next-token prediction on the domain's text, from random weights: how the tiny base is made."""

    documents: int = setting(100_000, ge=1, help="documents of the domain's corpus")


@dataclass(frozen=True, kw_only=True)
class SFTStage(StageConfig):
    """Fine-tuning on questions with solutions; loss on the solution only (paper, section 3.3)."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Hardware and habits of the run; Lightning's Trainer is made from it."""

    accelerator: str = setting("auto", choices=("auto", "cpu", "gpu"))
    devices: int = setting(1, ge=1, help="processes on each node")
    nodes: int = setting(1, ge=1)
    strategy: str = setting("auto", help="auto, ddp, fsdp, deepspeed_stage_3: any of Lightning's names")
    precision: Precision = setting(Precision.FP32, help="fp32, bf16_mixed or bf16")
    threads: int | None = setting(None, ge=1, help="CPU threads of torch; default: torch's own choice")
    checkpoint_every: int = setting(500, ge=1, help="optimiser steps between checkpoints")
    keep_checkpoints: int = setting(1, ge=1, help="how many of them stay")
    log_every: int = setting(10, ge=1, help="optimiser steps between logged figures")


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training run: a model, a stage, data, and where the result goes."""

    stage: StageConfig
    model: ModelConfig
    domain: DomainConfig
    data: SourceConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    output_dir: str = setting(help="where the model goes")
    seed: int = setting(0, ge=0, help="random seed: the same one gives the same rows and weights")

    def run(self) -> Path:
        """Train, export, and return where the model is."""
        from sq.train.fit import fit

        return fit(self)
