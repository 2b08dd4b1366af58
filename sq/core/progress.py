"""How far a stage is: a line that is drawn again on a terminal, a line a minute without one, and `progress.json`.

The file is for `sq status`, and for a recipe that watches its stages; it goes when the stage ends well. Neither a full
disk nor a closed terminal stops the work.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from sq.core.count import clock
from sq.core.provenance import process_is_gone, process_name

log = logging.getLogger(__name__)
NAME = "progress.json"
DRAW_SECONDS, FILE_SECONDS, LINE_SECONDS = 0.5, 5.0, 60.0
"""Between two drawings on a terminal, two writings of the file, two lines where there is no terminal."""
TICK_SECONDS = 1.0
"""After so long the line is looked at also where nothing arrives."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How far a stage was at one moment."""

    stage: str
    unit: str
    done: int
    total: int | None = None
    rate: float = 0.0
    """Units a second, of this process, from its first result on."""
    seconds: float = 0.0
    """Since this process began."""
    rejects: dict[str, int] = field(default_factory=dict)
    """By reason, of this process."""
    note: str = ""
    process: str = ""

    @property
    def seconds_left(self) -> float | None:
        """At this rate; none where the total or the rate is not known."""
        return max(0, self.total - self.done) / self.rate if self.total is not None and self.rate > 0 else None

    @property
    def is_running(self) -> bool:
        """Whether its process is still there, as far as can be known from this host."""
        return not process_is_gone(self.process)

    def __str__(self) -> str:
        parts = [f"{self.done:,} {self.unit}s"]
        if self.total:
            share = min(self.done / self.total, 1.0)
            parts = [f"{self.done:,} of {self.total:,} {self.unit}s ({100 * share:.0f}%)"]
        if self.rate:
            parts.append(f"{self.rate:,.1f}/s" if self.rate >= 1 else f"{60 * self.rate:,.1f}/min")
        if self.seconds_left is not None:
            parts.append(f"{clock(self.seconds_left)} left")
        if self.rejects:
            parts.append(f"{sum(self.rejects.values()):,} rejected")
        return ", ".join([*parts, *([self.note] if self.note else [])])


class Progress:
    """The progress of one stage, in the directory that it fills. A context manager.

    The line on a terminal, from the first result on, and the lines without one are kept up also while nothing arrives.
    """

    def __init__(
        self, directory: str | Path, stage: str, unit: str, *, total: int | None = None,
        done: Callable[[], int] | int = 0, enabled: bool = True,
    ) -> None:  # fmt: skip
        self._directory, self._stage, self._unit, self._total = Path(directory), stage, unit, total
        self._done: Callable[[], int] = done if callable(done) else lambda: done + self._count
        self._enabled = enabled
        self._live = enabled and sys.stderr.isatty()
        self._count, self._note = 0, ""
        self._rejects: Counter[str] = Counter()
        self._process = process_name()
        self._begun = self._first = time.monotonic()
        self._due = {"draw": 0.0, "file": 0.0, "line": self._begun + LINE_SECONDS}
        self._lock, self._closed = threading.Lock(), threading.Event()
        if enabled:
            threading.Thread(target=self._keep_up, name=f"progress of {stage}", daemon=True).start()

    def update(self, count: int = 1, *, rejects: Iterable[str] = (), note: str | None = None) -> None:
        """So many more units have a result, with these reasons of rejects; what it shows is kept up."""
        now = time.monotonic()
        if not self._count:
            self._first = now if now - self._begun > 1 else self._begun  # an engine's start is no part of the rate
        self._count += count
        self._rejects.update(rejects)
        self._note = self._note if note is None else note
        if not self._enabled:
            return
        if self._is_due("file", now, FILE_SECONDS):
            self._write()
        self._show(now)

    def snapshot(self) -> Snapshot:
        """How far it is now."""
        now = time.monotonic()
        rate = self._count / (now - self._first) if self._count > 1 and now > self._first else 0.0
        return Snapshot(
            stage=self._stage, unit=self._unit, done=self._done(), total=self._total, rate=rate,
            seconds=now - self._begun, rejects=dict(self._rejects), note=self._note, process=self._process,
        )  # fmt: skip

    def close(self, *, ended_well: bool = True) -> None:
        """The last drawing; the file goes, unless something is left to do."""
        self._closed.set()
        if not self._enabled:
            return
        if self._live and self._count:
            with self._lock:
                self._draw(end="\n")
        if ended_well:
            with suppress(OSError):
                (self._directory / NAME).unlink()
        elif self._count:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(ended_well=kind is None)

    def _keep_up(self) -> None:
        """In a thread, until it is closed: what `update` would show if something arrived."""
        while not self._closed.wait(TICK_SECONDS):
            self._show(time.monotonic())

    def _show(self, now: float) -> None:
        with self._lock:
            if self._live and self._count and not self._closed.is_set() and self._is_due("draw", now, DRAW_SECONDS):
                self._draw()
            due = not self._live and self._is_due("line", now, LINE_SECONDS)
        if due:
            log.info("%s: %s", self._stage, self.snapshot())

    def _is_due(self, what: str, now: float, every: float) -> bool:
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    def _draw(self, end: str = "") -> None:
        width = shutil.get_terminal_size().columns
        with suppress(OSError):
            print(f"\r\x1b[K{f'{self._stage}: {self.snapshot()}'[: width - 1]}", end=end, file=sys.stderr, flush=True)

    def _write(self) -> None:
        path = self._directory / NAME
        with suppress(OSError):  # not through a power cut: it is worth nothing then
            path.with_suffix(".tmp").write_text(json.dumps(asdict(self.snapshot())))
            os.replace(path.with_suffix(".tmp"), path)


def read_progress(directory: str | Path) -> Snapshot | None:
    """How far the stage in a directory is, by its own last word; none of one that has ended or not begun."""
    try:
        values = json.loads((Path(directory) / NAME).read_text())
        return Snapshot(**{f.name: values[f.name] for f in fields(Snapshot)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
