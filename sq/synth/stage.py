"""Every stage of synthesis runs here: read, check, run, commit, track.

A stage says what it does (`StageSpec`): the items in a fixed order, what decides their rows, and how items become
results. All else is the same for all of them: exactly-once by the ledger, rows of the input that cannot be used as
rejects, progress, and one line at the end whose counts reconcile (in = out + rejects by reason).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tqdm import tqdm

from sq.core.config import flatten
from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.core.ledger import Ledger, LedgerSummary, Reject, WorkItem
from sq.core.quoting import entry_command, quote_override
from sq.core.retry import Retry
from sq.core.rows import row_id
from sq.core.tracking import DataRef, track
from sq.data.columns import Need
from sq.data.readers import BadRow
from sq.data.sources import digest, read_source
from sq.domains.base import Domain
from sq.engine.failures import unfinished
from sq.engine.meter import Usage
from sq.synth.metrics import format_metrics
from sq.synth.stage_metrics import StageMetrics

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemResult:
    """What came of one item: rows, rejects, or both; or a `failure`, and the item is left for the next run."""

    key: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """What a stage does. `fingerprint_fields` is all that its rows depend on beside its items; `items` come in a fixed
    order."""

    schema: pa.Schema
    fingerprint_fields: Mapping[str, Any]
    items: Callable[[], Iterator[WorkItem]]
    process: Callable[[Iterator[WorkItem], str], Iterator[ItemResult]]
    close: Callable[[], None]
    usages: Sequence[Usage] = ()
    """What its models are asked, for the bill."""
    inputs: tuple[DataRef, ...] = ()
    ignored_fields: frozenset[str] = frozenset()
    """Settings that decide no row, and may differ when a stage is continued."""
    total: int | None = None
    metrics: Callable[[Path], Mapping[str, float]] = lambda directory: {}
    """What is measured of the finished directory; `metrics.py` has the table of names."""
    stale: Callable[[Mapping[str, float]], bool] = lambda metrics: False
    """Whether the metrics of a finished stage lack what is asked for now."""
    independent: bool = True
    """Whether an item has rows or rejects, never both, and no item's depend on another's."""
    unit: str = "row"
    then: str = ""
    """The command that usually follows, up to the key that takes this stage's directory."""


def run_stage(job: SynthJob, spec: StageSpec) -> dict[str, float]:
    """Bring the stage in `job.output_dir` to its end, from wherever an earlier run was killed; its metrics."""
    started = time.monotonic()
    directory, name = Path(job.output_dir), job.stage.name
    digests = {data.name: data.digest for data in spec.inputs}
    identity = {**flatten(job.stage, "stage"), **spec.fingerprint_fields, "seed": job.seed}
    identity = {name: value for name, value in identity.items() if name not in spec.ignored_fields}
    retry = _retry(spec) if job.retry_engine_rejects else None
    try:
        ledger = Ledger.open(directory, schema=spec.schema, config=identity, inputs=digests, retry=retry)
    except BaseException:
        spec.close()
        raise
    same = {**identity, **digests}
    with ledger, track(
        job.tracking, stage=name, params=flatten(job), inputs=spec.inputs, directory=directory, identity=same
    ) as run:  # fmt: skip
        try:
            file = StageMetrics(directory, spec.usages)
            if not ledger.finished and (failures := _run_items(ledger, spec, name, run.id, file)):
                done, left = count_noun(ledger.done, spec.unit), count_noun(len(failures), spec.unit)
                raise unfinished(f"{name}: {done} done, {left} left -> {directory}", failures)
            summary = ledger.finish()
            measured = file.kept(summary.digest)
            if measured is None or spec.stale(measured):
                measured = spec.metrics(directory)
                file.keep(summary.digest, measured)
        finally:
            spec.close()
        metrics = {**_counts(summary), **measured, **file.usage}
        run.output(name, directory, digest=summary.digest, rows=summary.rows)
        run.metrics(metrics)
    _print_summary(job, spec, summary, measured, time.monotonic() - started)
    return metrics


def _retry(spec: StageSpec) -> Retry:
    return Retry(reject=lambda reject: bool(reject["reason"] == "engine"), whole=not spec.independent)


def _run_items(ledger: Ledger, spec: StageSpec, name: str, run: str, file: StageMetrics) -> list[str]:
    """Record what comes of the items that are left; the errors of those that failed."""
    failures: list[str] = []
    done = ledger.done
    with tqdm(
        total=spec.total, initial=done, desc=name, unit=spec.unit, dynamic_ncols=True, mininterval=0.5, delay=math.inf
    ) as bar:
        try:
            for result in spec.process(_usable(ledger, ledger.todo(spec.items())), run):
                bar.delay = 0  # drawn from the first result on: an engine that cannot start says so alone
                if result.failure is not None:
                    failures.append(result.failure)
                    continue
                ledger.record(result.key, result.rows, result.rejects)
                bar.update()
                file.write_now_and_then()
        finally:
            file.write()
    return failures


def _usable(ledger: Ledger, items: Iterator[WorkItem]) -> Iterator[WorkItem]:
    """Items that are rows; those that are bad lines of the input become rejects here."""
    for item in items:
        if isinstance(item.payload, BadRow):
            bad = item.payload
            ledger.record(item.key, rejects=[Reject(row=bad.row(), reason=bad.reason, detail=str(bad))])
        else:
            yield item


def _counts(summary: LedgerSummary) -> dict[str, float]:
    reasons = {f"rejects/{reason}": float(n) for reason, n in sorted(summary.reasons.items())}
    counts = {"items": summary.items, "rows": summary.rows, "rejects": summary.rejects, "resumed": summary.resumed}
    return {**{name: float(n) for name, n in counts.items()}, **reasons}


def _print_summary(
    job: SynthJob, spec: StageSpec, summary: LedgerSummary, measured: Mapping[str, float], seconds: float
) -> None:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(summary.reasons.items()))
    given, rows, rejects = (
        count_noun(summary.items, spec.unit),
        count_noun(summary.rows, "row"),
        count_noun(summary.rejects, "reject"),
    )
    counts = f"{given} in -> {rows}, {rejects}"
    resumed = f", {summary.resumed:,} of them done before" if summary.resumed else ""
    parts = [
        f"{job.stage.name}: {counts}{f' ({reasons})' if reasons else ''}{resumed} -> {job.output_dir}",
        format_metrics(job.stage.name, measured),
        "retry_engine_rejects=true asks again for those of the engine" if "engine" in summary.reasons else "",
        f"{seconds:.0f} s",
        _next_command(job, spec) if summary.rows else "",
    ]
    log.info("%s", " | ".join(part for part in parts if part))


def _next_command(job: SynthJob, spec: StageSpec) -> str:
    script, _, rest = spec.then.partition(" ")
    words, _, key = rest.rpartition(" ")
    given = f"{quote_override('domain', job.domain.name)} {quote_override(key, job.output_dir)}"
    return f"next: {entry_command(script)} {words} {given}" if key else ""


@dataclass(frozen=True, kw_only=True)
class StageInput:
    """The rows that a stage reads: where they come from, and their columns."""

    job: SynthJob
    domain: Domain
    need: Need
    any_text: tuple[str, ...] = ()

    def check(self, *, own_problems: bool = False) -> DataRef:
        """The input as tracking and ledger know it; `own_problems`: without one the domain's are taken.

        Raises:
            ConfigError: where no input is given.
            RowError: where it has no usable row.
        """
        source = self.job.source
        if source.input is None and not source.mix and not own_problems:
            raise ConfigError(f"stage={self.job.stage.name} reads rows: give input=, a stage's directory or a file")
        first = next(read_source(source, self.need, [], domain=self.domain, any_text=self.any_text))
        path = source.input or ("mix" if source.mix else "domain")
        return DataRef(
            name="input", path=path, digest=digest(source, self.domain),
            run=None if first["run"].startswith("source:") else first["run"],
        )  # fmt: skip

    def rows(self) -> Iterator[dict[str, Any] | BadRow]:
        """Stream the rows, and each bad line in its place."""
        bad: list[BadRow] = []
        for row in read_source(self.job.source, self.need, bad, domain=self.domain, any_text=self.any_text):
            yield from bad
            bad.clear()
            yield row
        yield from bad

    def items(self, key: Callable[[dict[str, Any]], str]) -> Iterator[WorkItem]:
        """Each row as an item under its key; bad lines too."""
        for row in self.rows():
            yield bad_item(row) if isinstance(row, BadRow) else WorkItem(key(row), row)


def bad_item(bad: BadRow) -> WorkItem:
    """A line of the input that gave no row, as an item of the stage."""
    return WorkItem(row_id("bad", file=bad.file, line=bad.line, unit=bad.unit), bad)


def seed_of(key: str) -> int:
    """The sampling seed of a row: decided by its key, so that it is the same in any batch and any run.

    Sixty-four bits with the sign, which is never negative: what vLLM, torch, Parquet and endpoints all take.
    """
    return int(key[:16], 16) >> 1
