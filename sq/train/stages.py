"""The configuration of the training stages: the optimiser's numbers, the size of a step, and what each stage adds.

Light, so that a wrong override is told before torch is imported. The paper's settings stand in `conf/stage/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sq.core.config import setting


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Optimizer(Enum):
    """AdamW, and what its state costs: 8 bytes a parameter, 2 in 8 bit, or 8 that may be paged to the CPU's memory."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"
    PAGED_ADAMW_32BIT = "paged_adamw_32bit"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every training stage has."""

    name: str = setting(help="stage name")
    lr: float = setting(gt=0, help="peak learning rate")
    epochs: float = setting(1, gt=0, help="passes over the data")
    max_steps: int | None = setting(None, ge=1, help="stop after so many optimiser steps")
    optimizer: Optimizer = setting(Optimizer.ADAMW, help="adamw, adamw_8bit or paged_adamw_32bit (bitsandbytes)")
    schedule: Schedule = setting(Schedule.COSINE, help="cosine, linear or constant")
    warmup: float = setting(0.03, ge=0, le=1, help="share of the steps in which the learning rate rises")
    warmup_steps: int | None = setting(None, ge=0, help="the same as a number of steps, in place of the share")
    weight_decay: float = setting(0.0, ge=0, help="of matrices; biases and norms have none")
    beta2: float = setting(0.999, gt=0, lt=1, help="AdamW's second-moment decay")
    grad_clip: float = setting(1.0, ge=0, help="largest gradient norm; 0 for none")
    pack_tokens: int = setting(2048, ge=8, help="tokens in a pack, on one device at a time")
    batch_packs: int | None = setting(None, ge=1, help="packs in an optimiser step, over all devices; default 1")
    batch_rows: int | None = setting(None, ge=1, help="about so many rows (pairs) a step, in place of batch_packs")
    share_prefix: bool = setting(True, help="compute the prompt that all rows begin with once per pack")
    validation: float = setting(
        0.02, ge=0, lt=1, help="share of all rows held out, by seed and question, whatever data.limit"
    )

    def __post_init__(self) -> None:
        if self.batch_packs is not None and self.batch_rows is not None:
            raise ValueError(
                f"batch_packs={self.batch_packs} and batch_rows={self.batch_rows} are both given; set "
                "one of them to null"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainStage(StageConfig):
    """Next-token prediction on the domain's text, from random weights: how the tiny base is made."""

    documents: int = setting(100_000, ge=1, help="documents of the domain's corpus")


@dataclass(frozen=True, kw_only=True)
class QFTStage(StageConfig):
    """Question fine-tuning: loss on the question and the end token only (paper, section 2.1)."""


@dataclass(frozen=True, kw_only=True)
class QPOStage(StageConfig):
    """Question preference optimisation: DPO without a prompt over pairs of questions (paper, section 2.2)."""

    beta: float = setting(0.1, gt=0, help="how strongly the model is held to where it began")


@dataclass(frozen=True, kw_only=True)
class DifficultyStage(StageConfig):
    """Regression of fail rates on the last token's hidden state (paper, section 2.3)."""

    certainty_weights: bool = setting(False, help="labels from more samples count for more")
    head_lr: float | None = setting(None, gt=0, help="learning rate of the linear head; default: lr")


class Objective(Enum):
    """What a reward model learns of graded solutions."""

    CORRECTNESS = "correctness"
    """Of each solution by itself whether it is right: binary cross-entropy."""
    PREFERENCE = "preference"
    """Of a right and a wrong solution to one question which is which: Bradley and Terry."""
    BOTH = "both"
    """Both of the same pairs."""


@dataclass(frozen=True, kw_only=True)
class RewardStage(StageConfig):
    """A reward model from a solver's own graded solutions (ours; the paper takes InternLM2-7B-Reward)."""

    objective: Objective = setting(Objective.CORRECTNESS, help="correctness, preference (pairs of a question) or both")
    pairs: int = setting(4, ge=1, help="preference, both: most pairs of a right and a wrong solution to a question")
    head_lr: float | None = setting(None, gt=0, help="learning rate of the linear head; default: lr")


@dataclass(frozen=True, kw_only=True)
class SFTStage(StageConfig):
    """Fine-tuning on questions with solutions; loss on the solution only (paper, section 3.3)."""
