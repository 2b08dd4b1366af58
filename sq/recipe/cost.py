"""What a stage costs on a device: tokens, seconds, hours, dollars, from counts and lengths alone.

A stage reads prompts (2 FLOPs a parameter and token at a share of the peak), generates (tokens a second, scaled by
active parameters), scores (reads only) or trains (6 FLOPs). What all prompts begin with is read once, as prefix caching
and prefix sharing do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import ceil

from sq.recipe.hardware import HardwareConfig


class Use(Enum):
    """What a stage does with its model."""

    GENERATE = "generate"
    SCORE = "score"
    TRAIN = "train"
    API = "api"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class PlanStage:
    """One thing that a stage does to its rows."""

    name: str
    phase: str
    what: str
    use: Use
    model: str = ""
    parameters: float = 0.0
    """Billion active parameters."""
    rows: float
    window: int = 1
    """Rows that are one item of the stage's ledger."""
    samples: float = 1.0
    """Completions, or texts scored or trained on, for each row."""
    shared: float = 0.0
    """Tokens that all rows' prompts begin with."""
    prompt: float = 0.0
    """Further tokens of a row's prompts; for scoring and training, of each text."""
    output: float = 0.0
    """Tokens of a completion."""
    epochs: float = 1.0
    forward_only: float = 0.0
    """Passes over the data without a backward pass, such as QPO's reference."""
    recompute: bool = False
    step_tokens: float = 0.0
    """Tokens of an optimiser step; it is one pass over the data where that has fewer. At least one step is done."""
    most_steps: int | None = None
    """Where training ends, whatever the rows."""
    kept: float = 0.0
    api: tuple[float, float] = (0.0, 0.0)
    """Dollars for a token in and a token out."""
    filter_rows: float = 2000.0
    first: bool = True
    """False: the process is there already, from what the stage did before."""
    note: str = ""

    @property
    def items(self) -> float:
        """What its ledger will count."""
        return ceil(self.rows / self.window) if self.window > 1 else self.rows


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A stage's forecast."""

    stage: PlanStage
    tokens_in: float
    tokens_out: float
    busy: float
    """Seconds of one device, without the start."""
    start: float
    """Seconds until the stage's processes work."""
    gpus: int
    hours: float
    """Device hours: the work, and the start of every device; none where a machine with GPUs does not need them."""
    price: float
    ratio: float | None = None
    """What earlier runs here took over what the table says, by which all else is multiplied."""

    @property
    def seconds(self) -> float:
        """On the wall."""
        return self.busy / self.gpus + self.start


def cost(stage: PlanStage, hardware: HardwareConfig, gpus: int = 1) -> Cost:
    """The forecast of one stage on so many devices."""
    texts = stage.rows * stage.samples
    read = hardware.prefill_seconds(stage.parameters)
    tokens_in, tokens_out, busy, start = 0.0, 0.0, 0.0, hardware.start_engine
    if stage.use is Use.NONE:
        busy, start = stage.rows / stage.filter_rows, hardware.start_other
    elif stage.use is Use.TRAIN:
        tokens_in, start = _trained_on(stage, texts * stage.prompt), hardware.start_train
        busy = tokens_in * hardware.train_seconds(
            stage.parameters, forward_only=stage.forward_only, recompute=stage.recompute
        )
    elif stage.use is Use.SCORE:
        tokens_in, busy = texts * (stage.shared + stage.prompt), texts * stage.prompt * read
    else:
        tokens_in, tokens_out = stage.rows * (stage.shared + stage.prompt), texts * stage.output
        busy = stage.rows * stage.prompt * read + tokens_out * hardware.decode_seconds(stage.parameters)
    if stage.use is Use.API:
        busy = start = 0.0
    if stage.use in (Use.API, Use.NONE):
        gpus = 1
    if not stage.first:
        start = max(0.0, start - hardware.start_other)
    needs_device = stage.use not in (Use.NONE, Use.API) or not hardware.gpu
    hours = (busy + start * gpus) / 3600 if needs_device else 0.0
    asked = tokens_in * stage.api[0] + tokens_out * stage.api[1] if stage.use is Use.API else 0.0
    return Cost(
        stage=stage, tokens_in=tokens_in, tokens_out=tokens_out, busy=busy, start=start, gpus=gpus, hours=hours,
        price=hours * hardware.price + asked,
    )  # fmt: skip


def measured(one: Cost, ratio: float | None, hourly: float) -> Cost:
    """The forecast by what this machine took before; the same where that is not known."""
    if ratio is None:
        return one
    hours = one.hours * ratio
    return replace(
        one, busy=one.busy * ratio, start=one.start * ratio, hours=hours,
        price=one.price + (hours - one.hours) * hourly, ratio=ratio,
    )  # fmt: skip


def _trained_on(stage: PlanStage, once: float) -> float:
    """Tokens that training reads, of which one pass over the data has `once`."""
    step = min(stage.step_tokens, once)
    tokens = max(once * stage.epochs, step)
    return min(tokens, stage.most_steps * step) if stage.most_steps else tokens
