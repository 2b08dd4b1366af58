"""The paper's cost table (ScaleQuest, arXiv 2410.18693, Table 4) beside a forecast, each difference taken apart.

Its GPU hours are of A100s with 40 GB at 1.29 dollars; its parts add up to its total. With the lengths that a forecast
supposes, a row's hours say at what rate the paper's code worked, so a difference is one of tokens or one of rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sq.recipe.assumptions import AssumptionsConfig
from sq.recipe.cost import Cost, Work

TOTAL_HOURS, TOTAL_DOLLARS = 522.9, 680.8
RECIPE = "scalequest-math"


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of the table: its phase and work there, and the tokens it stands for by the same lengths as ours."""

    phase: str
    what: str
    samples: str
    hours: float
    dollars: float
    tokens: Callable[[AssumptionsConfig], float]
    why: str


ROWS = (
    PaperRow(
        phase="QFT", what="train on questions", samples="15K x 2", hours=3.9, dollars=5.0,
        tokens=lambda a: 2 * 15_000 * (a.seed or a.question),
        why="packs of 256 tokens on eight GPUs there; full packs with a shared prefix here, so most is loading",
    ),
    PaperRow(
        phase="QPO", what="generate questions", samples="10K x 2", hours=0.4, dollars=0.5,
        tokens=lambda a: 20_000 * a.question, why="as for the questions below, and loading the model",
    ),
    PaperRow(
        phase="QPO", what="improve into pairs", samples="10K x 2", hours=0.0, dollars=6.2,
        tokens=lambda a: 20_000 * a.rewrite, why="GPT-4o-mini there; an open model on one's own devices costs hours",
    ),
    PaperRow(
        phase="QPO", what="train on pairs", samples="10K x 2", hours=6.6, dollars=8.5,
        tokens=lambda a: 2 * 20_000 * (a.question + 1),
        why="padded pairs and a second model for the reference there; packed pairs, reference computed once, here",
    ),
    PaperRow(
        phase="questions", what="generate questions", samples="2M", hours=38.4, dollars=49.5,
        tokens=lambda a: 2e6 * a.question, why="a third of the rate of its own answers: short texts left it waiting",
    ),
    PaperRow(
        phase="filter", what="judge solvability, score difficulty", samples="2M", hours=110.6, dollars=142.7,
        tokens=lambda a: 2e6 * a.judge,
        why="here only what has passed the language filter is judged, and only what is judged solvable is scored",
    ),
    PaperRow(
        phase="answers", what="answer, 5 each", samples="1M x 5", hours=251.0, dollars=323.8,
        tokens=lambda a: 5e6 * a.answer, why="five requests of one answer there, one request of five here: one prefill",
    ),
    PaperRow(
        phase="reward", what="score answers", samples="1M x 5", hours=112.0, dollars=144.5,
        tokens=lambda a: 5e6 * (a.question + a.instruction + a.answer), why="one row at a time there, batches here",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PaperComparison:
    """A row of the paper's beside what the forecast has in its place."""

    row: PaperRow
    hours: float
    dollars: float
    tokens_there: float
    tokens_here: float

    @property
    def rates(self) -> tuple[float, float]:
        """Tokens in a second, there and here; 0 where no device is at work."""
        there = self.tokens_there / (self.row.hours * 3600) if self.row.hours else 0.0
        return there, self.tokens_here / (self.hours * 3600) if self.hours else 0.0

    @property
    def explained(self) -> str:
        """The difference in words."""
        there, here = self.rates
        tokens = f"{_short(self.tokens_there)} tokens there, {_short(self.tokens_here)} here"
        rates = f"; {_short(there)} a second there, {_short(here)} here" if there and here else ""
        return f"{tokens}{rates}. {self.row.why[0].upper()}{self.row.why[1:]}."


def compare_with_paper(costs: Sequence[Cost], assume: AssumptionsConfig) -> tuple[list[PaperComparison], list[Cost]]:
    """Every row of the paper's table with its counterpart, and what the table does not have."""
    left = list(costs)
    found = []
    for row in ROWS:
        own = [one for one in left if _same(row, one)]
        left = [one for one in left if one not in own]
        found.append(
            PaperComparison(
                row=row,
                hours=sum(one.hours for one in own),
                dollars=sum(one.price for one in own),
                tokens_there=row.tokens(assume),
                tokens_here=sum(_tokens(one) for one in own),
            )
        )
    return found, left


def _same(row: PaperRow, one: Cost) -> bool:
    if row.phase == "filter":
        return one.stage.phase == "filter" and one.stage.what in ("judge solvability", "score difficulty")
    if row.phase != one.stage.phase:
        return False
    if row.phase in ("answers", "reward"):
        return one.stage.work is not Work.TRAIN
    return row.what == one.stage.what


def _tokens(one: Cost) -> float:
    """The tokens that a row's rate is about: generated ones; where only reading or training is done, those."""
    if one.stage.what == "score difficulty":
        return 0.0  # a small part of the row, whose rate is the judge's
    return one.tokens_out or one.tokens_in


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "K")):
        if value >= size:
            return f"{value / (1e3 if unit == 'K' else size):.3g}{unit}"
    return f"{value:,.0f}"
