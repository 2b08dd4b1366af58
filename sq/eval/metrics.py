"""A benchmark's metrics from its grades, each with its 95% interval, in all and by level, topic, source and steps.

A metric's name is what it has in MLflow: `accuracy` (pass@1), `avg_at_4` (the same, named by its samples, as avg@64 of
AIME is), `pass_at_4`, `maj_at_4`, `best_of_4`, `cut_off`, `unparsed`, `timeout`, `unverifiable`, `failed`, `tokens`,
`accuracy_level_5`. Arrays are named for their shape: B problems, K answers to each, G groups of k answers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sq.core.intervals import Interval, mean_interval, share_interval
from sq.core.ledger import read_rows

Array = NDArray[Any]
COLUMNS = [
    "item", "sample", "profile", "extracted", "correct", "verdict", "level", "topic", "source", "steps",
    "prediction_finish_reason", "prediction_tokens", "parents",
]  # fmt: skip
GROUPS = ("level", "topic", "source", "steps")
MAX_GROUPS = 60
NONE = -1
"""The class of an answer that is none: it has no vote."""
Vote = Callable[[str, Sequence[str]], Sequence[str]]
"""From a problem's id and answers to it, a key for each, equal where two say the same (`AnswerChecker.vote`)."""


@dataclass(frozen=True, kw_only=True)
class GradedAnswers:
    """A benchmark's grades under one profile: rows by problem, in order of their samples."""

    profile: str
    rows: dict[str, list[dict[str, Any]]]

    def where(self, column: str, value: Any) -> Array:
        """Where a column has the value: B problems x K answers."""
        return np.array([[row[column] == value for row in rows] for rows in self.rows.values()])


def read_graded(directory: Path) -> dict[str, GradedAnswers]:
    """What a ledger of scores holds, by profile, the first one first."""
    by_profile: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in read_rows(directory, columns=COLUMNS):
        by_profile.setdefault(row["profile"], {}).setdefault(row["item"], []).append(row)
    for rows in (rows for items in by_profile.values() for rows in items.values()):
        rows.sort(key=lambda row: row["sample"])
    return {profile: GradedAnswers(profile=profile, rows=items) for profile, items in by_profile.items()}


def compute_metrics(
    graded: GradedAnswers, vote: Vote, *, ks: Sequence[int] = (), rewards: Mapping[str, float] | None = None
) -> dict[str, Interval]:
    """Every metric of a benchmark under one profile.

    Args:
        graded: its grades.
        vote: groups the answers to a problem; asked only where there are several.
        ks: the k of pass@k, maj@k and best-of-k; none: powers of two up to the answers there are.
        rewards: by answer's id, where a reward model has scored them.
    """
    if not graded.rows:
        return {}
    problems = list(graded.rows.values())
    correct_BK = graded.where("correct", True)
    n = correct_BK.shape[1]
    shares: dict[str, Array] = {"accuracy": pass_at_k(correct_BK, 1)}
    if n > 1:
        shares[f"avg_at_{n}"] = shares["accuracy"]
    several = [k for k in ks or _powers(n) if 1 < k <= n]
    if several:
        extracted = {item: [row["extracted"] for row in rows] for item, rows in graded.rows.items()}
        classes_BK = answer_classes(extracted, vote)
    for k in several:
        shares[f"pass_at_{k}"] = pass_at_k(correct_BK, k)
        shares[f"maj_at_{k}"] = majority_at_k(classes_BK, correct_BK, k)
    if rewards:
        reward_BK = np.array([[rewards.get(row["parents"][0], np.nan) for row in rows] for rows in problems])
        shares |= {f"best_of_{k}": best_of_k(reward_BK, correct_BK, k) for k in several}
    counted = {
        "cut_off": graded.where("prediction_finish_reason", "length"),
        "failed": graded.where("prediction_finish_reason", "error"),
        **{status: graded.where("verdict", status) for status in ("unparsed", "timeout", "unverifiable")},
    }
    shares |= {name: where_BK.mean(-1) for name, where_BK in counted.items()}
    tokens_BK = np.array([[row["prediction_tokens"] or 0 for row in rows] for rows in problems])
    metrics = {name: share_interval(shares_B.tolist()) for name, shares_B in shares.items()}
    metrics["tokens"] = mean_interval(tokens_BK.mean(-1).tolist())
    return metrics | _by_group(problems, shares["accuracy"].tolist())


def pass_at_k(correct_BK: Array, k: int) -> Array:
    """The chance that one of `k` answers is right at least, unbiased for any n that were drawn (Chen et al. 2021).

    1 − C(n−c, k) / C(n, k) per problem, for c right among n, as a product that cannot overflow.
    """
    n = correct_BK.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} answers to each problem; there are {n}")
    wrong_B = n - correct_BK.sum(-1)
    missed_B = np.ones(len(wrong_B))
    for i in range(k):
        missed_B = missed_B * (np.clip(wrong_B - i, 0, None) / (n - i))
    return 1 - missed_B


def majority_at_k(classes_BK: Array, correct_BK: Array, k: int) -> Array:
    """Whether the answer most voted for among `k` is right; a tie goes to the answer that came first.

    Equal answers of a problem have the same class. With more than k answers the mean over as many groups as there are.
    """
    classes_BGK = _groups(classes_BK, k)
    votes_BGK = (classes_BGK[..., :, None] == classes_BGK[..., None, :]).sum(-1)
    votes_BGK = np.where(classes_BGK == NONE, 0, votes_BGK)
    right_BG = _chosen(_groups(correct_BK, k), votes_BGK) & (votes_BGK.max(-1) > 0)
    return np.asarray(right_BG.mean(-1))


def best_of_k(reward_BK: Array, correct_BK: Array, k: int) -> Array:
    """Whether the answer with the highest reward among `k` is right; one without a reward (NaN) is chosen last."""
    reward_BGK = _groups(np.where(np.isnan(reward_BK), -np.inf, reward_BK), k)
    return np.asarray(_chosen(_groups(correct_BK, k), reward_BGK).mean(-1))


def answer_classes(answers: Mapping[str, Sequence[str | None]], vote: Vote) -> Array:
    """A number for each answer, equal where answers to the same problem vote together: B x K, `NONE` for none.

    The vote knows no reference, or it would favour what is right.
    """
    rows = []
    for item, texts in answers.items():
        keys = iter(vote(item, [text for text in texts if text]))
        numbers: dict[str, int] = {}
        rows.append([numbers.setdefault(next(keys), len(numbers)) if text else NONE for text in texts])
    return np.array(rows)


def _groups(values_BK: Array, k: int) -> Array:
    """As many groups of `k` answers as there are, B x G x k; what is left over is not used."""
    groups = values_BK.shape[-1] // k
    if not groups:
        raise ValueError(f"{k} answers to each problem are needed; there are {values_BK.shape[-1]}")
    return values_BK[:, : groups * k].reshape(values_BK.shape[0], groups, k)


def _chosen(values_BGK: Array, preference_BGK: Array) -> Array:
    """The value of the answer with the highest preference; of several, the first."""
    best_BG1 = preference_BGK.argmax(-1)[..., None]
    return np.take_along_axis(values_BGK, best_BG1, -1)[..., 0]


def _by_group(problems: Sequence[list[dict[str, Any]]], accuracy: Sequence[float]) -> dict[str, Interval]:
    """Accuracy by group, where there are several groups and one of them has several problems."""
    metrics = {}
    for column in GROUPS:
        members: dict[str, list[float]] = defaultdict(list)
        for rows, share in zip(problems, accuracy, strict=True):
            if rows[0][column] is not None:
                members[str(rows[0][column])].append(share)
        if 1 < len(members) <= MAX_GROUPS and max(map(len, members.values())) > 1:
            for name, shares in sorted(members.items(), key=_natural):
                plain = re.sub(r"[^\w.-]+", "_", name).strip("_")
                metrics[f"accuracy_{column}_{plain}"] = share_interval(shares)
    return metrics


def _natural(member: tuple[str, Any]) -> tuple[int, str]:
    """Numbers by size, before words."""
    return (len(member[0]), member[0]) if member[0].isdigit() else (99, member[0])


def _powers(n: int) -> list[int]:
    """2, 4, 8, ... and n itself."""
    return sorted({n, *(2**i for i in range(1, n.bit_length()) if 2**i <= n)} - {1})
