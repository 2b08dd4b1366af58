"""What every stage measures, in one table: each metric's name, meaning, unit, format, and which way it is better.

Stages only compute: a mapping from names to numbers, which goes to their own files and to MLflow as it is. What they
print, the report, `sq compare` and the tables of docs/training.md and docs/evaluation.md are made of this table. What a
filter of somebody's own adds is kept and logged too, and printed nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Better(Enum):
    """Which way a metric is better, if either."""

    UP = "more"
    DOWN = "less"
    NEITHER = "-"


FORMATS = {"share": ".1%", "tokens": ",.0f", "tokens/s": ",.0f", "GiB": ".1f"}
"""How values are formatted, by unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number that is measured."""

    name: str
    """As MLflow has it after `train/`, `val/`, or a benchmark's and a grader's name; `*` stands for what differs."""
    about: str = ""
    """What it is, in the documentation."""
    unit: str = ""
    better: Better = Better.NEITHER
    label: str = ""
    """What it is called in printed tables and in the report; of a stage of synthesis, none: not in the report."""
    spec: str = ""
    """How its value is formatted, if not as its unit says."""
    text: str = ""
    """Of synthesis, as the stage's last line has it, with {value}, and {part} for the `*`; none: not printed."""
    least: float | None = None
    """Smaller values are not printed."""
    unless: str = ""
    """A metric beside which this one means nothing."""
    repeats: bool = False
    """Whether it says in other words what another one says: the report's table of trainings leaves it out."""

    def format(self, value: float) -> str:
        """The value as it is printed."""
        return f"{value:{self.spec or FORMATS.get(self.unit, '.3f')}}"

    def sentence(self, metrics: Mapping[str, Any], name: str, part: str = "") -> str:
        """The text with the value, and with its interval where there is one."""
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({self.format(low)} to {self.format(high)})"
        return self.text.format(value=f"{self.format(metrics[name])}{interval}", part=part)


def _metric(name: str, about: str, unit: str = "", better: Better = Better.NEITHER, **more: Any) -> Metric:
    return Metric(name=name, about=about, unit=unit, better=better, **more)


def _share(name: str, better: Better = Better.NEITHER, text: str = "", label: str = "", **more: Any) -> Metric:
    return Metric(name=name, unit="share", better=better, text=text, label=label, **more)


def _number(name: str, spec: str = "", text: str = "", better: Better = Better.NEITHER, **more: Any) -> Metric:
    return Metric(name=name, spec=spec, text=text, better=better, **more)


TRAINING = (
    _metric("loss", "what the stage minimises; with `_before`: of held-out rows before the first step, with "
            "`_exported`: of the checkpoint that is exported", better=Better.DOWN, spec=".4f", repeats=True),
    _metric("lr", "the rate that the last step was taken with", spec="g"),
    _metric("grad_norm", "of the last step, before it is clipped"),
    _metric("tokens", "tokens of the plan, those of prompts too", spec=",.0f", repeats=True),
    _metric("tokens_per_s", "over all processes", "tokens/s", Better.UP),
    _metric("memory_gib", "peak on the first GPU", "GiB", Better.DOWN),
    _metric("mfu", "of the card's dense bf16 peak: six FLOPs a token and trained weight, four where it is frozen, the "
            "head at supervised positions only", "share", Better.UP, spec=".0%"),
    _metric("perplexity", "pretrain, QFT, SFT: e to the loss", better=Better.DOWN, repeats=True),
    _metric("token_accuracy", "pretrain, QFT, SFT: supervised tokens that come first", "share", Better.UP),
    _metric("accuracy", "QPO: pairs whose chosen side has the higher reward; reward: solutions judged right", "share",
            Better.UP),
    _metric("margin", "QPO: reward of the chosen less that of the rejected", "nats", Better.UP),
    _metric("reward_*", "QPO: β times the log of π over π_ref, of the chosen and of the rejected", "nats",
            repeats=True),
    _metric("logp_*", "QPO: log-probability of either side", "nats", repeats=True),
    _metric("tokens_*", "QPO: mean length of either side", "tokens", repeats=True),
    _metric("kl", "QPO: mean of log π_ref - log π over rejected questions, which were sampled from the reference, so "
            "that it estimates KL(π_ref ‖ π)", "nats", Better.DOWN),
    _metric("nll", "QPO: the SFT loss on the chosen side (`stage.nll`)", "nats", Better.DOWN),
    _metric("mae", "difficulty: mean absolute error", better=Better.DOWN),
    _metric("spearman", "difficulty: rank correlation with the labels", better=Better.UP),
    _metric("kendall", "difficulty: τ-b with the labels", better=Better.UP),
    _metric("calibration", "difficulty: error over ten bins", better=Better.DOWN),
    _metric("auroc", "reward: over solutions", better=Better.UP),
    _metric("pairwise", "reward: pairs of the same question of which the right one scores more", "share", Better.UP),
)  # fmt: skip
EVALUATION = (
    _metric("accuracy", "pass@1: the mean over problems of the share of right answers", "share", Better.UP),
    _metric("accuracy_*", "the same within a group: `accuracy_level_5`, `_topic_`, `_source_`, `_steps_`", "share",
            Better.UP),
    _metric("avg_at_*", "the same as `accuracy`, named by its n answers a problem where there are several: avg@16 of "
            "AIME24 is `aime24/avg_at_16`", "share", Better.UP),
    _metric("pass_at_*", "the chance that one of k is right at least, unbiased (Chen et al. 2021)", "share", Better.UP),
    _metric("maj_at_*", "the answer with the most votes is right; answers vote together where the strict grader holds "
            "them for equal, as in selection ([synthesis.md](synthesis.md)); a domain's by its own vote, programs by "
            "their text; never by the reference", "share", Better.UP),
    _metric("best_of_*", "the answer with the highest reward is right", "share", Better.UP),
    _metric("cut_off", "answers ended by the token limit", "share", Better.DOWN),
    _metric("failed", "not answered by the engine", "share", Better.DOWN),
    _metric("unparsed", "no answer found", "share", Better.DOWN, label="no answer"),
    _metric("timeout", "not decided in time", "share", Better.DOWN),
    _metric("unverifiable", "the reference is prose", "share", Better.DOWN),
    _metric("tokens", "mean length of an answer", "tokens"),
    _metric("problems", "problems graded", spec=",.0f"),
    _metric("left_out", "problems without an answer", better=Better.DOWN),
    _metric("disagreements", "answers on which graders differ", better=Better.DOWN),
)  # fmt: skip


_ORACLE = (
    _share("oracle/solvable", Better.UP, "{value} solvable by the oracle", "solvable by the oracle"),
    _number("oracle/steps", ".2f", "{value} steps"),
)
SYNTHESIS: dict[str, tuple[Metric, ...]] = {
    "questions": (
        _number("rows/*", ",.0f", "{value} of {part}"),
        *_ORACLE,
        _number("operation/*", ",.0f", "{value} by {part}"),
        _share("oracle/solvable/*", Better.UP, "{value} of {part} solvable"),
        _share("distinct_3grams", Better.UP, "{value} of the runs of 3 words distinct",
               "distinct among all runs of 3 words, of the first 10,000 questions"),
        _number("repeated", ",.0f", "{value} the same as an earlier one", Better.DOWN, least=1),
        _number("repeated_by_seed", ",.1f", "{value} expected because the engine takes seeds for equal", least=0.05),
    ),
    "annotate": (
        _number("concepts", ",.0f", "{value} different concepts"),
        _number("topics", ",.0f", "{value} topics"),
        _number("rated_difficulty", ".1f", "mean difficulty {value} of 100"),
    ),
    "rewrite": (
        _number("pairs/*", ",.0f", "{value} {part}"),
        _number("words/chosen", ".0f", "{value} words chosen"),
        _number("words/rejected", ".0f", "{value} rejected"),
        _share("oracle/chosen_solvable", Better.UP, "by the oracle {value} of the chosen solvable",
               "chosen questions that the oracle calls solvable"),
        _share("oracle/rejected_solvable", text="{value} of the rejected",
               label="rejected questions that the oracle calls solvable"),
    ),
    "fail_rate": (
        _share("fail_rate", text="mean fail rate {value}", label="mean fail rate of the solver"),
        _share("interval_width", Better.DOWN),
        _number("solutions", ",.0f", "{value} solutions"),
        _number("tokens"),
        _number("tokens_saved", ",.0f", "{value} tokens saved", Better.UP, least=1),
        _share("tokens_saved_share", Better.UP, "{value} of all, by stopping early", spec=".0%", least=0.001),
    ),
    "filter": (
        *_ORACLE,
        _number("verdicts/*", ",.0f", "the judge said {part} to {value}"),
        _share("oracle/judge_precision", Better.UP, "of the questions that the judge removed, the oracle calls {value} "
               "unsolvable", "judge: of what it removed, unsolvable by the oracle"),
        _share("oracle/judge_kept_solvable", Better.UP, "of those that it let pass {value} solvable",
               "judge: of what it let pass, at the run's own mix, solvable by the oracle"),
        _share("oracle/judge_recall", Better.UP, "of those that the oracle calls unsolvable, the judge removed {value}",
               "judge: of what the oracle calls unsolvable, removed"),
        _share("oracle/judge_wrongly_removed", Better.DOWN, "of those that it calls solvable, the judge removed "
               "{value}", "judge: of what the oracle calls solvable, removed"),
        _number("judge/planted", ",.0f", "measured on {value} questions"),
        _number("judge/asked"),
        _number("judge/unparsable", better=Better.DOWN),
        _share("judge/recall", Better.UP, "the judge removes {value} of questions spoiled on purpose",
               "judge: removed of questions spoiled on purpose"),
        _share("judge/wrongly_removed", Better.DOWN, "the judge removes {value} of the same questions unspoiled, which "
               "the exact oracle calls solvable", "judge: removed of the same questions unspoiled, which the exact "
               "oracle calls solvable", unless="judge/precision"),
        _share("judge/removed_as_they_came", text="the judge removes {value} of the same questions unspoiled, of "
               "which some may be unsolvable", label="judge: removed of the same questions unspoiled, of which some "
               "may be unsolvable", unless="judge/precision"),
        _share("pass_rate/mean", text="mean pass rate {value}", label="mean pass rate of the solver"),
        _number("pass_rate/samples", ",.0f", "{value} samples"),
        _number("pass_rate/tokens_saved", ",.0f", "{value} tokens saved", Better.UP, least=1),
        _share("pass_rate/tokens_saved_share", Better.UP, "{value} of all, by stopping early", spec=".0%", least=0.001),
        _number("balanced_away", ",.0f", "{value} left out so that languages have equal shares", Better.DOWN),
        _number("language/*", ",.0f", "{value} questions in {part}"),
        _number("diversity/density", ".1f", "a question has {value} like it, itself among them"),
        _number("diversity/density_kept", ".1f", "one that stays {value}"),
        _number("raking/gap", ".2f", "words are {value} away from the seeds' proportions", Better.DOWN),
        _number("raking/gap_kept", ".2f", "of what is drawn {value}", Better.DOWN),
        _share("overlap/*/clean", Better.UP, "{part} {value} clean", spec=".2%"),
    ),
    "answers": (
        _share("answered", Better.UP, "{value} with a final answer", "answers with a final answer"),
        _share("cut_off", Better.DOWN, "{value} cut off", "answers cut off at the limit"),
        _share("correct", Better.UP, "{value} right where a reference tells", "answers that are right"),
        _number("tokens"),
    ),
    "select": (
        _share("correct/chosen", Better.UP, "of the chosen {value} are right where a reference tells",
               "selected answers that are right"),
        _share("correct/random", Better.UP, "{value} of all candidates", "all candidates that are right"),
        _share("agreement", Better.UP, "{value} of the tests that came with candidates are passed by most of them"),
    ),
}  # fmt: skip
"""By stage, in the order in which they are printed. An earlier sq wrote judge/precision, which took every question for
solvable as it came."""


def find_metric(name: str, table: Sequence[Metric] = ()) -> Metric | None:
    """The metric of a name as MLflow has it, in one table or in all; of names that several begin, the one that says
    most.
    """
    if not table:
        named = (metric for stage in SYNTHESIS.values() for metric in stage if _match(metric, name))
        return next(named, None) or find_metric(name, (*TRAINING, *EVALUATION))
    leaf = _leaf(name)
    plain = [metric for metric in table if metric.name == leaf]
    patterns = [metric for metric in table if "*" in metric.name and leaf.startswith(metric.name.removesuffix("*"))]
    return next(iter([*plain, *patterns]), None)


def title(name: str, table: Sequence[Metric] = ()) -> str:
    """What a metric is called in printed tables."""
    metric = find_metric(name, table)
    return metric.label if metric and metric.label else _leaf(name).replace("_", " ")


def format_value(name: str, value: float, table: Sequence[Metric] = ()) -> str:
    """A metric's value as it is printed; one that is in no table has three digits after the point."""
    return (find_metric(name, table) or Metric(name=name)).format(value)


def _leaf(name: str) -> str:
    return re.sub(r"_(before|exported|low|high)$", "", name.rpartition("/")[2])


def _match(metric: Metric, name: str) -> re.Match[str] | None:
    return re.fullmatch(re.escape(metric.name).replace(r"\*", "(.+)"), name)


def metrics_of(stage: str, metrics: Mapping[str, Any]) -> Iterator[tuple[Metric, str, str]]:
    """Each metric of the stage that there is: with its name, and what the `*` stands for."""
    for metric in SYNTHESIS.get(stage, ()):
        for name in metrics:
            if (match := _match(metric, name)) and metric.unless not in metrics:
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
        if metric.label and isinstance(metrics[name], int | float)
    ]


def format_table(table: Sequence[Metric]) -> str:
    """The table as the documentation has it."""
    rows = [f"| `{each.name}` | {each.about} | {each.unit} | {each.better.value} |" for each in table]
    return "\n".join(["| metric | what | unit | better |", "|---|---|---|---|", *rows])
