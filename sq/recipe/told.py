"""The one line that a finished stage is remembered by: its log's last line without what the recipe says anyway."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sq.core.ledger import read_rows
from sq.eval.compare import benchmarks_in
from sq.eval.intervals import wilson


def told(script: str, directory: Path, lines: Sequence[str]) -> str:
    """What a stage came to, from its directory or from the end of its log."""
    return scores_told(directory) if script == "evaluate" else shortened(lines[-1] if lines else "")


def shortened(line: str) -> str:
    """A stage's closing line without its name, its directory, its seconds and the command that follows."""
    kept = [part for part in line.split(" | ") if not re.fullmatch(r"[\d,]+ s|next: .*", part.strip())]
    if kept:
        kept[0] = re.sub(r" -> \S+$", "", re.sub(r"^[\w-]+: ", "", kept[0]))
    return " | ".join(part.strip() for part in kept)


def scores_told(directory: Path) -> str:
    """Each benchmark's accuracy under its first grader, with its interval."""
    parts = []
    for name, scores in benchmarks_in(directory).items():
        right: dict[str, list[bool]] = defaultdict(list)
        for row in read_rows(scores, columns=["profile", "correct"]):
            right[row["profile"]].append(row["correct"])
        if right:
            marks = next(iter(right.values()))
            low, high = wilson(sum(marks), len(marks))
            share = sum(marks) / len(marks)
            parts.append(f"{name} {share:.1%} of {len(marks):,} answers right ({low:.1%} to {high:.1%})")
    return ", ".join(parts)
