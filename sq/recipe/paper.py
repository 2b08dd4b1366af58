"""The paper's cost table (ScaleQuest, arXiv 2410.18693, Table 4) by phase, beside a forecast.

Its GPU hours are of A100s with 40 GB at 1.29 dollars; its parts add up to its total.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sq.recipe.cost import Cost

RECIPE = "scalequest-math"
TOTAL_HOURS, TOTAL_DOLLARS = 522.9, 680.8


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A phase of the table, and why a forecast of it differs."""

    phase: str
    what: str
    samples: str
    paper_hours: float
    paper_price: float
    why: str


ROWS = (
    PaperRow(phase="QFT", what="train on questions", samples="15K x 2", paper_hours=3.9, paper_price=5.0,
             why="there packs of 256 tokens on eight GPUs; here full packs, so most is loading"),
    PaperRow(phase="QPO", what="questions, pairs, train on pairs", samples="10K x 2", paper_hours=7.0, paper_price=15.2,
             why="there padded pairs and a second model for the reference; here packed pairs, reference computed once"),
    PaperRow(phase="questions", what="generate questions", samples="2M", paper_hours=38.4, paper_price=49.5,
             why="there 868 tokens a second, a third of the rate of its own answers: short texts left it waiting"),
    PaperRow(phase="filter", what="judge solvability, score difficulty", samples="2M", paper_hours=110.6,
             paper_price=142.7, why="here only what passed the language filter is judged, what is solvable scored"),
    PaperRow(phase="answers", what="answer, 5 each", samples="1M x 5", paper_hours=251.0, paper_price=323.8,
             why="there five requests of one answer; here one request of five, whose prompt is read once"),
    PaperRow(phase="reward", what="score answers", samples="1M x 5", paper_hours=112.0, paper_price=144.5,
             why="there one row at a time; here batches"),
)  # fmt: skip


def beside_the_paper(costs: Sequence[Cost]) -> dict[str, Any]:
    """Every row of the paper's table with the forecast of that phase, and the phases that the table does not have."""
    rows = [
        {
            **asdict(row),
            "gpu_hours": sum(one.hours for one in costs if one.stage.phase == row.phase),
            "price": sum(one.price for one in costs if one.stage.phase == row.phase),
        }
        for row in ROWS
    ]
    phases = [row.phase for row in ROWS]
    return {
        "total_hours": TOTAL_HOURS,
        "total_price": TOTAL_DOLLARS,
        "hours": sum(row["gpu_hours"] for row in rows),
        "price": sum(row["price"] for row in rows),
        "rows": rows,
        "not_in_it": list(dict.fromkeys(one.stage.phase for one in costs if one.stage.phase not in phases)),
    }
