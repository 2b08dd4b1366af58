"""From a benchmark's scores to its figures, each with its 95% interval, in all and by level, topic, source and steps.

A figure's name is what it has in MLflow: `accuracy` (pass@1), `avg_at_4` (the same, named by its samples, as avg@64 of
AIME is), `pass_at_4`, `maj_at_4`, `best_of_4`, `cut_off`, `unparsed`, `timeout`, `unverifiable`, `failed`, `tokens`,
`accuracy_level_5`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sq.core.intervals import Interval, mean_interval, share_interval
from sq.core.ledger import read_rows
from sq.eval.equal.normalise import literal, tidy
from sq.eval.metrics import NONE, BestOfN, MajorityAtK, MeanPerProblem, PassAtK

COLUMNS = [
    "item", "sample", "profile", "extracted", "correct", "verdict", "level", "topic", "source", "steps",
    "prediction_finish_reason", "prediction_tokens", "parents",
]  # fmt: skip
GROUPS = ("level", "topic", "source", "steps")
MOST_GROUPS = 60
_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?")


@dataclass(frozen=True, kw_only=True)
class GradedAnswers:
    """A benchmark's verdicts under one profile: rows by problem, in order of their samples."""

    profile: str
    rows: dict[str, list[dict[str, Any]]]

    def tensor(self, column: str, wanted: Any = True) -> Tensor:
        """Where a column is `wanted`: B problems x K answers."""
        return torch.tensor([[row[column] == wanted for row in rows] for rows in self.rows.values()])


def read_graded(directory: Path) -> dict[str, GradedAnswers]:
    """What a ledger of scores holds, by profile, the first one first."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in read_rows(directory, columns=COLUMNS):
        found.setdefault(row["profile"], {}).setdefault(row["item"], []).append(row)
    for rows in (rows for items in found.values() for rows in items.values()):
        rows.sort(key=lambda row: row["sample"])
    return {profile: GradedAnswers(profile=profile, rows=items) for profile, items in found.items()}


def compute_metrics(
    graded: GradedAnswers, *, ks: Sequence[int] = (), rewards: Mapping[str, float] | None = None
) -> dict[str, Interval]:
    """Every figure of a benchmark under one profile.

    Args:
        graded: its verdicts.
        ks: the k of pass@k, maj@k and best-of-k; none: powers of two up to the answers there are.
        rewards: by answer's id, where a reward model has scored them.
    """
    if not graded.rows:
        return {}
    correct_BK = graded.tensor("correct")
    values = {"accuracy": _per_problem(PassAtK(1), correct_BK)}
    n = correct_BK.shape[1]
    if n > 1:
        values[f"avg_at_{n}"] = values["accuracy"]
    classes_BK = answer_classes([[row["extracted"] for row in rows] for rows in graded.rows.values()])
    for k in ks or _powers(n):
        if 1 < k <= n:
            values[f"pass_at_{k}"] = _per_problem(PassAtK(k), correct_BK)
            values[f"maj_at_{k}"] = _per_problem(MajorityAtK(k), classes_BK, correct_BK)
    if rewards:
        reward_BK = torch.tensor(
            [[rewards.get(row["parents"][0], float("nan")) for row in rows] for rows in graded.rows.values()],
            dtype=torch.float64,
        )
        for k in ks or _powers(n):
            if 1 < k <= n:
                values[f"best_of_{k}"] = _per_problem(BestOfN(k), reward_BK, correct_BK)
    metrics = {name: share_interval(v) for name, v in (values | _rates(graded)).items()}
    tokens_BK = torch.tensor([[row["prediction_tokens"] or 0 for row in rows] for rows in graded.rows.values()])
    metrics["tokens"] = mean_interval(_per_problem(MeanPerProblem(), tokens_BK))
    return metrics | _by_group(graded, values["accuracy"])


def answer_classes(answers: Iterable[Sequence[str | None]]) -> Tensor:
    """A number for each answer, equal where answers to the same problem say the same: B x K, `NONE` for none.

    Told by the text alone, never by the reference, or voting would favour what is right: spellings are unified, and
    plain numbers and fractions compared by value.
    """
    rows = []
    for given in answers:
        keys: dict[Any, int] = {}
        rows.append([NONE if not text else keys.setdefault(_key(text), len(keys)) for text in given])
    return torch.tensor(rows)


def _key(text: str) -> Any:
    plain = literal(tidy(text))
    if _NUMBER.fullmatch(plain):
        return Fraction(plain)
    found = re.fullmatch(r"(-?)(?:\\frac\{(\d{1,40})\}\{(\d{1,40})\}|(\d{1,40})/(\d{1,40}))", plain)
    if found:
        sign, a, b, c, d = found.groups()
        if int(b or d):
            return Fraction(int(a or c), int(b or d)) * (-1 if sign else 1)
    return plain


def _per_problem(metric: Any, *inputs: Tensor) -> list[float]:
    """The metric's value for each problem."""
    metric.update(*inputs)
    return torch.cat(metric.values).double().tolist()


def _rates(graded: GradedAnswers) -> dict[str, list[float]]:
    counted = {
        "cut_off": graded.tensor("prediction_finish_reason", "length"),
        "failed": graded.tensor("prediction_finish_reason", "error"),
        **{status: graded.tensor("verdict", status) for status in ("unparsed", "timeout", "unverifiable")},
    }
    return {name: _per_problem(MeanPerProblem(), values) for name, values in counted.items()}


def _by_group(graded: GradedAnswers, accuracy: Sequence[float]) -> dict[str, Interval]:
    """Accuracy by each group that has more than one member, and not as many as there are problems."""
    metrics = {}
    for column in GROUPS:
        members: dict[str, list[int]] = defaultdict(list)
        for place, rows in enumerate(graded.rows.values()):
            if rows[0][column] is not None:
                members[str(rows[0][column])].append(place)
        if 1 < len(members) <= MOST_GROUPS:
            for name, places in sorted(members.items(), key=_natural):
                plain = re.sub(r"[^\w.-]+", "_", name).strip("_")
                metrics[f"accuracy_{column}_{plain}"] = share_interval([accuracy[place] for place in places])
    return metrics


def _natural(member: tuple[str, Any]) -> tuple[int, str]:
    """Numbers by size, before words."""
    return (len(member[0]), member[0]) if member[0].isdigit() else (99, member[0])


def _powers(n: int) -> list[int]:
    """2, 4, 8, ... and n itself."""
    return sorted({n, *(2**i for i in range(1, n.bit_length()) if 2**i <= n)} - {1})
