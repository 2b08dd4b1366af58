"""The one line that a finished stage is remembered by: its log's last line without what the recipe says anyway."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sq.core.intervals import share_interval
from sq.eval.compare import benchmarks_in, shares_by_grader


def stage_summary(script: str, directory: Path, lines: Sequence[str]) -> str:
    """What a stage came to, from its directory or from the end of its log."""
    return format_scores(directory) if script == "evaluate" else shortened(lines[-1] if lines else "")


def shortened(line: str) -> str:
    """A stage's closing line without its name, its directory, its seconds and the command that follows."""
    kept = [part for part in line.split(" | ") if not re.fullmatch(r"[\d,]+ s|next: .*", part.strip())]
    if kept:
        kept[0] = re.sub(r" -> \S+$", "", re.sub(r"^[\w-]+: ", "", kept[0]))
    return " | ".join(part.strip() for part in kept)


def format_scores(directory: Path) -> str:
    """Each benchmark's accuracy under its first grader, with its interval."""
    parts = []
    for name, scores in benchmarks_in(directory).items():
        for shares in list(shares_by_grader(scores).values())[:1]:
            a = share_interval(list(shares.values()))
            parts.append(f"{name} {a.value:.1%} of {a.count:,} problems right ({a.low:.1%} to {a.high:.1%})")
    return ", ".join(parts)
