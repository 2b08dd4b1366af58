"""figures.json beside a stage's manifest: the metrics of the finished stage, and what its models have taken so far.

The manifest must be the same for the same work; this is where that is not so: seconds, tokens asked again after a kill,
and metrics that only the run itself can know (a judge's error on planted questions, clean shares of benchmarks).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sq.core.files import read_json, write_files
from sq.engine.meter import Usage

NAME = "figures.json"
EVERY = 10.0
"""Most seconds between two writes while a stage is at work."""


class Cadence:
    """When to report again: after a second, then after twice as long each time, up to so many seconds."""

    def __init__(self, longest: float) -> None:
        self._longest, self._interval, self._reported = longest, min(1.0, longest), time.monotonic()

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() - self._reported >= self._interval

    def restart(self) -> None:
        """A report has been made."""
        self._interval, self._reported = min(2 * self._interval, self._longest), time.monotonic()


class StageMetrics:
    """The file of one stage's directory, held by the process that holds its ledger."""

    def __init__(self, directory: Path, usages: Sequence[Usage], determinism: Mapping[str, str]) -> None:
        self._directory, self._usages = directory, usages
        self._of_workers: dict[tuple[int, int], Sequence[Usage]] = {}
        content = read_stage_metrics(directory)
        self._before: dict[str, float] = content.get("usage", {})
        self._determinism = _of_all_runs(content.get("determinism", {}), determinism)
        self._finished: dict[str, Any] = {k: content[k] for k in ("digest", "figures") if k in content}
        self._cadence = Cadence(EVERY)

    @property
    def usage(self) -> dict[str, float]:
        """Everything asked for this stage, in this run and those before it."""
        total = dict(self._before)
        for usage in itertools.chain(self._usages, *self._of_workers.values()):
            for name, value in usage.metrics().items():
                total[name] = total.get(name, 0.0) + value
        return total

    def of_worker(self, process: tuple[int, int], usages: Sequence[Usage]) -> None:
        """What the models of a worker's process (its place, and which there) have been asked so far."""
        self._of_workers[process] = usages

    def kept(self, digest: str) -> Mapping[str, float] | None:
        """The metrics of the rows with this digest; None where there are none."""
        return self._finished["figures"] if self._finished.get("digest") == digest else None

    def keep(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Write down the metrics of the finished rows."""
        self._finished = {"digest": digest, "figures": dict(metrics)}
        self.write()

    def write_now_and_then(self) -> None:
        """Write, if that was some time ago: what a killed run has taken is known but for the last seconds."""
        if self._cadence.due():
            self.write()

    def write(self) -> None:
        """Replace the file."""
        text = json.dumps(
            {**self._finished, "usage": self.usage, "determinism": self._determinism}, indent=1, sort_keys=True
        )
        write_files(self._directory, {NAME: text.encode()})
        self._cadence.restart()


def _of_all_runs(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What engines guaranteed: rows of an earlier run keep what they were made with, so another word is added."""
    known = {name: value.split("; ") for name, value in before.items()}
    new = {name: [value] for name, value in now.items() if value not in known.get(name, [])}
    return {name: "; ".join([*known.get(name, []), *new.get(name, [])]) for name in {**known, **new}}


def read_stage_metrics(directory: Path) -> dict[str, Any]:
    """What the file of a stage's directory holds: digest, figures (its metrics), usage, determinism; {} for no file."""
    return read_json(directory / NAME)
