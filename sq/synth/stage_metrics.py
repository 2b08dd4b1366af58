"""figures.json beside a stage's manifest: what the finished stage told, and what its models have taken so far.

The manifest must be the same for the same work; this is where that is not so: seconds, tokens asked again after a kill,
and figures that only the run itself can know (a judge's error on planted questions, clean shares of benchmarks).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sq.core.files import write_files
from sq.engine.meter import Usage

NAME = "figures.json"
EVERY = 10.0
"""Seconds between two writes while a stage is at work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSummary:
    """Figures of a finished stage for tracking, and the same in a few words for the last line."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    told: str = ""


class StageMetrics:
    """The file of one stage's directory, held by the process that holds its ledger."""

    def __init__(self, directory: Path, usages: Sequence[Usage]) -> None:
        self._directory, self._usages = directory, usages
        found = read_stage_metrics(directory)
        self._before: dict[str, float] = found.get("usage", {})
        self._report: dict[str, Any] = {k: found[k] for k in ("digest", "figures", "told") if k in found}
        self._written = time.monotonic()

    @property
    def usage(self) -> dict[str, float]:
        """Everything asked for this stage, in this run and those before it."""
        total = dict(self._before)
        for usage in self._usages:
            for name, value in usage.metrics().items():
                total[name] = total.get(name, 0.0) + value
        return total

    def kept(self, digest: str) -> StageSummary | None:
        """What was told of the rows with this digest; None where nothing was."""
        if self._report.get("digest") != digest:
            return None
        return StageSummary(metrics=self._report["figures"], told=self._report["told"])

    def keep(self, digest: str, report: StageSummary) -> None:
        """Write down what is told of the finished rows."""
        self._report = {"digest": digest, "figures": dict(report.metrics), "told": report.told}
        self.write()

    def write_now_and_then(self) -> None:
        """Write, if that was some time ago: what a killed run has taken is known but for the last seconds."""
        if time.monotonic() - self._written >= EVERY:
            self.write()

    def write(self) -> None:
        """Replace the file."""
        text = json.dumps({**self._report, "usage": self.usage}, indent=1, sort_keys=True)
        write_files(self._directory, {NAME: text.encode()})
        self._written = time.monotonic()


def read_stage_metrics(directory: Path) -> dict[str, Any]:
    """What the file of a stage's directory holds: digest, figures, told and usage; empty where there is none."""
    try:
        found = json.loads((directory / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
