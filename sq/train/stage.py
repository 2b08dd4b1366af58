"""What a training stage is: its settings, how a row becomes tokens, and the loss of a pack.

A stage is a file like `sft.py` and a YAML that names its config in `_target_`; nothing else knows it. Such a file is
light, so that a wrong override is reported before torch is imported: what a loss needs is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sq.core.chat import ChatFormat, SupervisedTokens
from sq.core.config import setting
from sq.data.sources import SourceConfig
from sq.domains.base import Domain

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from sq.data.tokens import TokenRows
    from sq.models.attention import Attention
    from sq.models.fused import HeadChoice
    from sq.models.pack import Pack


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
class RowContext:
    """What a stage may use to make tokens of rows."""

    chat: ChatFormat
    tokenizer: PreTrainedTokenizerFast
    domain: Domain
    source: SourceConfig
    seed: int


class EncodedRow(NamedTuple):
    """A row as tokens: one sequence, or two of a pair (chosen, rejected), and numbers that go with it."""

    sequences: Sequence[SupervisedTokens]
    values: tuple[float, ...] = ()


Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What a stage needs of a row, and how it becomes tokens."""

    need: Collection[str]
    encode: Callable[[dict[str, Any]], EncodedRow]
    """Raises `UnusableRow` for a row that the stage cannot train on."""
    expand: Callable[[Rows], Rows] | None = None
    """What makes several items of a row of the source."""
    generate: Callable[[], Rows] | None = None
    """Where the rows come from if not from `data`."""
    template: str = ""
    """The chat template, where rows are made by it as it stands and not by the chat format."""
    whole: bool = False
    """Whether a row must not be cut to fit."""


class UnusableRow(Exception):
    """A row that a stage cannot train on: a word to count by, and more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class TrainableModel:
    """A model ready to be trained, and the rows to train it on."""

    name: str
    model: PreTrainedModel
    stored: torch.dtype
    """The number format its weights came in, and go out in."""
    half: bool
    """Whether the arithmetic is bf16."""
    attention: Attention
    prefix: int
    """Opening tokens that all rows have in common and packs can share."""
    head: HeadChoice
    """What computes the cross-entropy of tokens."""
    rows: TokenRows


@dataclass(frozen=True, kw_only=True)
class LossInput:
    """A pack, and what belongs to its rows."""

    pack: Pack
    values: Tensor
    """[rows, ...] the numbers that `encode` gave."""
    reference: Tensor | None
    """[rows, sequences] what `StageLoss.reference` gave before training."""
    training: bool
    first_step: bool
    """Whether the weights are still those that training began with."""


@dataclass(frozen=True, kw_only=True)
class PackLoss:
    """The loss of a pack, summed over what `divisor` counts, and what is measured on the way."""

    total: Tensor
    means: Mapping[str, tuple[Tensor, Tensor | float]]
    """Metrics to average, and how much the pack's counts; `loss` is one."""
    held_out: tuple[Tensor, ...] = ()
    """A column each of what metrics need of all held-out rows at once."""


class StageLoss:
    """What a stage minimises. Sums over a pack are divided by `divisor` of the whole optimiser step."""

    keep_last: ClassVar[bool] = False
    """Whether packs keep each row's last token in the input."""
    head: nn.Linear | None = None
    """Parameters beside the model's, which are exported as a sequence classifier's."""
    head_lr: float | None = None
    """Their learning rate, if not the stage's."""
    head_note: ClassVar[str] = ""
    """The file beside the classifier that has the head's bias."""

    def __init__(self, trained: TrainableModel) -> None:
        self.model, self.attention, self.rows = trained.model, trained.attention, trained.rows

    def __call__(self, batch: LossInput) -> PackLoss:
        """The loss of a pack."""
        raise NotImplementedError

    def divisor(self, items: Sequence[int]) -> float:
        """What the loss of these items is divided by: here their number."""
        return float(len(items))

    def reference(self, pack: Pack) -> Tensor:
        """[sequences] what is computed of every pack before training, where the stage `needs_reference`."""
        raise NotImplementedError

    def metrics(self, kind: str, means: dict[str, float], held_out: Tensor | None) -> dict[str, float]:
        """The metrics of "train" or "val": the means, and what follows from them or from all held-out rows."""
        return means

    def tables(self) -> dict[str, list[dict[str, float]]]:
        """What the last validation gave beyond single numbers."""
        return {}


@dataclass(frozen=True, kw_only=True)
class StageConfig(ABC):
    """What every training stage has. The paper's settings are in `conf/stage/`."""

    reads: ClassVar[str] = ""
    """The stage of synthesize.py that makes its rows, where a domain's own seeds will not do."""
    new_weights: ClassVar[bool] = False
    """Whether it can begin with a model that has no weights yet."""
    needs_reference: ClassVar[bool] = False
    """Whether its loss compares with log-probabilities of the model as it was, which are computed first."""
    next_command: ClassVar[str] = "evaluate {benchmarks}{tuned}"
    """What one would do with the weights: an entry script and its overrides, which `fit.py` fills in."""

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

    @abstractmethod
    def encoding(self, context: RowContext) -> Encoding:
        """How rows become tokens."""

    @abstractmethod
    def make_loss(self, trained: TrainableModel) -> StageLoss:
        """The loss of a pack."""

    def new_tokenizer(self, domain: Domain, seed: int) -> PreTrainedTokenizerFast:
        """The tokenizer of a model without weights, where the stage makes `new_weights`."""
        raise NotImplementedError
