"""The metrics of every stage of synthesis, known in one place: name, how it is printed, what the report calls it.

A stage only computes them: a mapping from names to numbers, which goes to figures.json and to MLflow as it is. What a
filter of somebody's own adds is kept and logged too, and printed nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number that a stage measures."""

    name: str
    """In figures.json and in MLflow; a `*` stands for what the run names: a generator, a benchmark."""
    text: str = ""
    """As the stage's last line has it, with {value}, and {part} for what the `*` stands for; none: not printed."""
    about: str = ""
    """What the report calls it in its table of shares; none: it is not there."""
    spec: str = ".1%"
    """How its value is formatted."""
    least: float | None = None
    """Smaller values are not printed."""
    unless: str = ""
    """A metric beside which this one means nothing."""

    def sentence(self, metrics: Mapping[str, Any], name: str, part: str = "") -> str:
        """The text with the value, and with its interval where there is one."""
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({low:{self.spec}} to {high:{self.spec}})"
        return self.text.format(value=f"{metrics[name]:{self.spec}}{interval}", part=part)


ORACLE = (
    Metric(name="oracle/solvable", text="{value} solvable by the oracle", about="solvable by the oracle"),
    Metric(name="oracle/steps", text="{value} steps", spec=".2f"),
)
METRICS: dict[str, tuple[Metric, ...]] = {
    "questions": (
        Metric(name="rows/*", text="{value} of {part}", spec=",.0f"),
        *ORACLE,
        Metric(name="repeated", text="{value} the same as an earlier one", spec=",.0f", least=1),
        Metric(name="repeated_by_seed", text="{value} expected because the engine takes seeds for equal", spec=",.1f",
               least=0.05),
    ),
    "rewrite": (
        Metric(name="pairs/*", text="{value} {part}", spec=",.0f"),
        Metric(name="words/chosen", text="{value} words chosen", spec=".0f"),
        Metric(name="words/rejected", text="{value} rejected", spec=".0f"),
        Metric(name="oracle/chosen_solvable", text="by the oracle {value} of the chosen solvable",
               about="chosen questions that the oracle calls solvable"),
        Metric(name="oracle/rejected_solvable", text="{value} of the rejected",
               about="rejected questions that the oracle calls solvable"),
    ),
    "fail_rate": (
        Metric(name="fail_rate", text="mean fail rate {value}", about="mean fail rate of the solver"),
        Metric(name="interval_width"),
        Metric(name="solutions", text="{value} solutions", spec=",.0f"),
        Metric(name="tokens"),
        Metric(name="tokens_saved", text="{value} tokens saved", spec=",.0f", least=1),
        Metric(name="tokens_saved_share", text="{value} of all, by stopping early", spec=".0%", least=0.001),
    ),
    "filter": (
        *ORACLE,
        Metric(name="verdicts/*", text="the judge said {part} to {value}", spec=",.0f"),
        Metric(name="oracle/judge_precision", text="of the questions that the judge removed, the oracle calls {value} "
               "unsolvable", about="judge: of what it removed, unsolvable by the oracle"),
        Metric(name="oracle/judge_recall", text="of those that the oracle calls unsolvable, the judge removed {value}",
               about="judge: of what the oracle calls unsolvable, removed"),
        Metric(name="oracle/judge_wrongly_removed", text="of those that it calls solvable, the judge removed {value}",
               about="judge: of what the oracle calls solvable, removed"),
        Metric(name="judge/planted", text="measured on {value} questions", spec=",.0f"),
        Metric(name="judge/asked"),
        Metric(name="judge/unparsable"),
        Metric(name="judge/recall", text="the judge removes {value} of questions spoiled on purpose",
               about="judge: removed of questions spoiled on purpose"),
        Metric(name="judge/wrongly_removed", text="the judge removes {value} of the same questions unspoiled, which "
               "the exact oracle calls solvable", unless="judge/precision",
               about="judge: removed of the same questions unspoiled, which the exact oracle calls solvable"),
        Metric(name="judge/removed_as_they_came", text="the judge removes {value} of the same questions unspoiled, of "
               "which some may be unsolvable", unless="judge/precision",
               about="judge: removed of the same questions unspoiled, of which some may be unsolvable"),
        Metric(name="overlap/*/clean", text="{part} {value} clean", spec=".2%"),
    ),
    "answers": (
        Metric(name="answered", text="{value} with a final answer", about="answers with a final answer"),
        Metric(name="cut_off", text="{value} cut off", about="answers cut off at the limit"),
        Metric(name="correct", text="{value} right where a reference tells", about="answers that are right"),
        Metric(name="tokens"),
    ),
    "select": (
        Metric(name="correct/chosen", text="{value} of the chosen are right", about="selected answers that are right"),
        Metric(name="correct/random", text="{value} of all candidates", about="all candidates that are right"),
        Metric(name="agreement", text="{value} of the tests that came with candidates are passed by most of them"),
    ),
}  # fmt: skip
"""By stage, in the order in which they are printed. An earlier sq wrote judge/precision, which took every question for
solvable as it came."""


def metrics_of(stage: str, metrics: Mapping[str, Any]) -> Iterator[tuple[Metric, str, str]]:
    """Each metric of the stage that there is: with its name, and what the `*` stands for."""
    for metric in METRICS.get(stage, ()):
        pattern = re.compile(re.escape(metric.name).replace(r"\*", "(.+)"))
        for name in metrics:
            if (match := pattern.fullmatch(name)) and metric.unless not in metrics:
                yield metric, name, match[1] if match.groups() else ""


def format_metrics(stage: str, metrics: Mapping[str, Any]) -> str:
    """The metrics as the stage's last line has them."""
    return ", ".join(
        metric.sentence(metrics, name, part)
        for metric, name, part in metrics_of(stage, metrics)
        if metric.text and (metric.least is None or metrics[name] >= metric.least)
    )


def shares(stage: str, metrics: Mapping[str, Any]) -> list[tuple[Metric, float, float | None, float | None]]:
    """The metrics that the report has in its table: each with its value and its interval, where it has one."""
    return [
        (metric, float(metrics[name]), metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
        for metric, name, _ in metrics_of(stage, metrics)
        if metric.about and isinstance(metrics[name], int | float)
    ]
