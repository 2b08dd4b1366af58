"""Preference pairs for QPO: where they come from, and what is measured of them."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Any

from sq.core.ledger import read_rows
from sq.domains.base import Domain


class PairSource(Enum):
    """Where the better question of a pair comes from."""

    REWRITE = "rewrite"
    """An optimiser (model= and engine=) rewrites the sampled one."""
    SUCCESS_RATE = "success_rate"
    """A solver's agreement with itself orders sampled questions of like topic."""
    SOLVER = "solver"
    """Solvable × wanted difficulty, by a judge and a solver, orders sampled questions of like topic and length."""


def pair_metrics(directory: Path, domain: Domain) -> dict[str, float]:
    """How many pairs of each direction, how long, and by the oracle how often the chosen one is better."""
    counts: Counter[str] = Counter()
    chosen = rejected = 0
    labels: list[tuple[Any, Any]] = []
    for row in read_rows(directory, columns=["chosen", "rejected", "direction"]):
        counts[row["direction"]] += 1
        chosen += len(row["chosen"].split())
        rejected += len(row["rejected"].split())
        labels.append((domain.oracle_label(row["chosen"]), domain.oracle_label(row["rejected"])))
    total = max(counts.total(), 1)
    metrics = {f"pairs/{name}": float(count) for name, count in sorted(counts.items())}
    metrics |= {"words/chosen": chosen / total, "words/rejected": rejected / total}
    both = [(one, other) for one, other in labels if one is not None and other is not None]
    if both:
        metrics["oracle/chosen_solvable"] = sum(c.solvable for c, _ in both) / len(both)
        metrics["oracle/rejected_solvable"] = sum(r.solvable for _, r in both) / len(both)
    return metrics
