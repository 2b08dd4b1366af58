"""What a person sees of a running recipe: a line for each stage that ends, and below them what is going on now."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from sq.core.intervals import share_interval
from sq.core.progress import LINE_SECONDS
from sq.core.secrets import redact
from sq.eval.compare import benchmarks_in, shares_by_grader

DRAW_SECONDS = 0.25
"""Between two drawings of the live lines."""


class ProgressDisplay:
    """Writes to stderr. On a terminal the last lines are live; in a file they come once a minute, to stay."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self.is_live = self._stream.isatty() if live is None else live
        self._lines = 0
        self._interval = DRAW_SECONDS if self.is_live else LINE_SECONDS
        self._drawn_at = time.monotonic()

    def print_line(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        print(redact(text), file=self._stream, flush=True)

    def is_due(self) -> bool:
        """Whether it is time to draw again what is going on now."""
        return time.monotonic() - self._drawn_at >= self._interval

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines in the place of the live ones; in a file, below what is there."""
        self._drawn_at = time.monotonic()
        if not self.is_live:
            for line in lines:
                self.print_line(line)
            return
        width = shutil.get_terminal_size().columns
        self._erase()
        self._stream.write("".join(f"{redact(line)[: width - 1]}\n" for line in lines))
        self._stream.flush()
        self._lines = len(lines)

    def clear(self) -> None:
        """Take the live lines away."""
        self._erase()
        self._stream.flush()

    def _erase(self) -> None:
        if self._lines:
            self._stream.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0


def stage_summary(script: str, directory: Path, lines: Sequence[str]) -> str:
    """The line that a finished stage is remembered by: scores of an evaluation, else the end of its log."""
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
