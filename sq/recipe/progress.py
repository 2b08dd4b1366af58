"""What a person sees of a running recipe: a line for each stage that ends, and below them what is going on now."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from sq.core.secrets import redact

_EVERY = 0.25
"""Seconds between two looks at the running stages."""


class ProgressDisplay:
    """Writes to stderr. On a terminal the last lines are live; in a file every line is there to stay."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self.is_live = self._stream.isatty() if live is None else live
        self._drawn = 0
        self._looked = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        print(redact(text), file=self._stream, flush=True)

    def due(self) -> bool:
        """Whether it is time to draw the live lines again."""
        return self.is_live and time.monotonic() - self._looked >= _EVERY

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines in the place of the live ones."""
        if not self.is_live:
            return
        self._looked = time.monotonic()
        width = shutil.get_terminal_size().columns
        self._erase()
        self._stream.write("".join(f"{redact(line)[: width - 1]}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def clear(self) -> None:
        """Take the live lines away."""
        self._erase()
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def clock(seconds: float) -> str:
    """A duration as one reads it: 8 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
