"""What training and evaluation measure: each metric's name, meaning and unit, and which way it is better.

`sq compare` marks the best by it, and the tables of docs/training.md and docs/evaluation.md are made of it. Stages of
synthesis have theirs in `sq/synth/metrics.py`, with the sentences that they print.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """Which way a metric is better, if either."""

    UP = "more"
    DOWN = "less"
    NEITHER = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number that is measured."""

    name: str
    """As MLflow has it after `train/`, `val/`, or a benchmark's and a grader's name; `*` stands for what differs."""
    about: str
    unit: str = ""
    better: Better = Better.NEITHER


def _metric(name: str, about: str, unit: str = "", better: Better = Better.NEITHER) -> Metric:
    return Metric(name=name, about=about, unit=unit, better=better)


TRAINING = (
    _metric("loss", "what the stage minimises; with `_before`: of held-out rows before the first step, with "
            "`_exported`: of the checkpoint that is exported", better=Better.DOWN),
    _metric("lr", "the rate that the last step was taken with"),
    _metric("grad_norm", "of the last step, before it is clipped"),
    _metric("tokens", "tokens of the plan, those of prompts too"),
    _metric("tokens_per_s", "over all processes", "tokens/s", Better.UP),
    _metric("memory_gib", "peak on the first GPU", "GiB", Better.DOWN),
    _metric("mfu", "of the card's dense bf16 peak: six FLOPs a token and trained weight, four where it is frozen, the "
            "head at supervised positions only", "share", Better.UP),
    _metric("perplexity", "pretrain, QFT, SFT: e to the loss", better=Better.DOWN),
    _metric("token_accuracy", "pretrain, QFT, SFT: supervised tokens that come first", "share", Better.UP),
    _metric("accuracy", "QPO: pairs whose chosen side has the higher reward; reward: solutions judged right", "share",
            Better.UP),
    _metric("margin", "QPO: reward of the chosen less that of the rejected", "nats", Better.UP),
    _metric("reward_*", "QPO: β times the log of π over π_ref, of the chosen and of the rejected", "nats"),
    _metric("logp_*", "QPO: log-probability of either side", "nats"),
    _metric("tokens_*", "QPO: mean length of either side", "tokens"),
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
    _metric("unparsed", "no answer found", "share", Better.DOWN),
    _metric("timeout", "not decided in time", "share", Better.DOWN),
    _metric("unverifiable", "the reference is prose", "share", Better.DOWN),
    _metric("tokens", "mean length of an answer", "tokens"),
    _metric("problems", "problems graded"),
    _metric("left_out", "problems without an answer", better=Better.DOWN),
    _metric("disagreements", "answers on which graders differ", better=Better.DOWN),
)  # fmt: skip


def find_metric(name: str, table: Sequence[Metric] = (*TRAINING, *EVALUATION)) -> Metric | None:
    """The metric of a name as MLflow has it; of names that several begin, the one that says most."""
    leaf = re.sub(r"_(before|exported|low|high)$", "", name.rpartition("/")[2])
    plain = [metric for metric in table if metric.name == leaf]
    patterns = [metric for metric in table if "*" in metric.name and leaf.startswith(metric.name.removesuffix("*"))]
    return next(iter([*plain, *patterns]), None)


def format_table(table: Sequence[Metric]) -> str:
    """The table as the documentation has it."""
    rows = [f"| `{each.name}` | {each.about} | {each.unit} | {each.better.value} |" for each in table]
    return "\n".join(["| metric | what | unit | better |", "|---|---|---|---|", *rows])
