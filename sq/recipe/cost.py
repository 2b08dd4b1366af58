"""What a stage costs on a device: tokens, seconds, hours, dollars, from counts and lengths alone.

A stage reads prompts (2 FLOPs a parameter and token at a share of the peak), generates (tokens a second, scaled by
active parameters), scores (reads only) or trains (6 FLOPs). What all prompts begin with is read once, as prefix caching
and prefix sharing do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from sq.recipe.hardware import HardwareConfig


class Work(Enum):
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
    work: Work
    model: str = ""
    parameters: float = 0.0
    """Billion active parameters."""
    rows: float
    samples: float = 1.0
    """Completions, or texts scored or trained on, for each row."""
    shared: float = 0.0
    """Tokens that every prompt begins with."""
    prompt: float = 0.0
    """Further tokens of a row's prompt; for scoring and training, of each text."""
    output: float = 0.0
    """Tokens of a completion."""
    epochs: float = 1.0
    forward_only: float = 0.0
    recompute: bool = False
    step_tokens: float = 0.0
    """Tokens of an optimiser step; it is one pass over the data where that has fewer. At least one step is done."""
    most_steps: int | None = None
    """Where training ends, whatever the rows."""
    kept: float = 0.0
    api: tuple[float, float] = (0.0, 0.0)
    filter_rows: float = 2000.0
    doubtful: float = 0.0
    """Share of the rows that are read and answered a second time, at `output` tokens."""
    second: float = 0.0
    """Tokens of the second completion."""
    first: bool = True
    """False: the process is there already, from what the stage did before."""
    note: str = ""


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
    price: float
    device: bool = True
    """Whether it needs the device: on a machine with GPUs, work without a model does not."""

    @property
    def hours(self) -> float:
        """Device hours: the work, and the start of every device."""
        return (self.busy + self.start * self.gpus) / 3600 if self.device else 0.0

    @property
    def seconds(self) -> float:
        """On the wall."""
        return self.busy / self.gpus + self.start


def cost(stage: PlanStage, hardware: HardwareConfig, gpus: int = 1, *, fp8: bool = False) -> Cost:
    """The forecast of one stage on so many devices."""
    texts = stage.rows * stage.samples
    if stage.work is Work.NONE:
        return _cost(stage, hardware, 1, 0.0, 0.0, stage.rows / stage.filter_rows, hardware.start_other)
    if stage.work is Work.API:
        tokens_in, tokens_out = stage.rows * (stage.shared + stage.prompt), texts * stage.output
        dollars = tokens_in * stage.api[0] + tokens_out * stage.api[1]
        done = _cost(stage, hardware, 1, tokens_in, tokens_out, 0.0, 0.0)
        return replace(done, price=dollars)
    if stage.work is Work.TRAIN:
        tokens = _trained_on(stage, texts * stage.prompt)
        each = hardware.train_seconds(stage.parameters, forward_only=stage.forward_only, recompute=stage.recompute)
        return _cost(stage, hardware, gpus, tokens, 0.0, tokens * each, hardware.start_train)
    read = hardware.prefill_seconds(stage.parameters, fp8=fp8)
    if stage.work is Work.SCORE:
        tokens = texts * (stage.shared + stage.prompt)
        return _cost(stage, hardware, gpus, tokens, 0.0, texts * stage.prompt * read, hardware.start_engine)
    again = 1 + stage.doubtful
    tokens_in = stage.rows * (stage.shared + stage.prompt) * again
    tokens_out = texts * (stage.output + stage.doubtful * stage.second)
    busy = stage.rows * stage.prompt * again * read
    busy += tokens_out * hardware.decode_seconds(stage.parameters, fp8=fp8)
    return _cost(stage, hardware, gpus, tokens_in, tokens_out, busy, hardware.start_engine)


def _trained_on(stage: PlanStage, once: float) -> float:
    """Tokens that training reads, of which one pass over the data has `once`."""
    step = min(stage.step_tokens, once)
    tokens = max(once * stage.epochs, step)
    return min(tokens, stage.most_steps * step) if stage.most_steps else tokens


def _cost(
    stage: PlanStage,
    hardware: HardwareConfig,
    gpus: int,
    tokens_in: float,
    tokens_out: float,
    busy: float,
    start: float,
) -> Cost:
    start = start if stage.first else max(0.0, start - hardware.start_other)
    device = stage.work not in (Work.NONE, Work.API) or not hardware.gpu
    made = Cost(
        stage=stage, tokens_in=tokens_in, tokens_out=tokens_out, busy=busy, start=start, gpus=gpus, price=0.0,
        device=device,
    )  # fmt: skip
    return replace(made, price=made.hours * hardware.price)
