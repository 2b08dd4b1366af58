"""Every stage of synthesis runs here: read, check, run, commit, track."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from sq.core.config import flatten
from sq.core.count import count_noun
from sq.core.ledger import Ledger, LedgerSummary, Reject, WorkItem
from sq.core.quoting import entry_command, quote_override
from sq.core.retry import Retry
from sq.core.shard import Shard
from sq.core.tracking import track
from sq.data.readers import BadRow
from sq.engine.failures import unfinished
from sq.synth.metrics import format_metrics
from sq.synth.stage import ItemResult, StageSpec
from sq.synth.stage_metrics import StageMetrics

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

log = logging.getLogger(__name__)


def run_stage(job: SynthJob, spec: StageSpec) -> dict[str, float]:
    """Bring the stage in `job.output_dir` to its end, from wherever an earlier run was killed; its metrics."""
    started = time.monotonic()
    directory, name = Path(job.output_dir), job.stage.name
    digests = {data.name: data.digest for data in spec.inputs}
    identity = identity_of(job, spec)
    retry = retry_of(job, spec)
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
            if not ledger.finished and (failures := _alone(ledger, spec, name, run.id, file)):
                done, left = count_noun(ledger.done, spec.unit), count_noun(len(failures), spec.unit)
                raise unfinished(f"{name}: {done} done, {left} left -> {directory}", failures)
            summary = ledger.finish()
            measured = file.kept(summary.digest)
            if measured is None or spec.stale(measured):
                measured = spec.metrics(directory)
                file.keep(summary.digest, measured)
        finally:
            for trace in spec.traces(job.tracking.traces) if job.tracking.enabled else ():
                run.trace(replace(trace, name=f"{name} ({trace.name})"))
            spec.close()
        metrics = {**_counts(summary), **measured, **file.usage}
        run.output(name, directory, digest=summary.digest, rows=summary.rows)
        run.metrics(metrics)
    _print_summary(job, spec, summary, measured, time.monotonic() - started)
    return metrics


def identity_of(job: SynthJob, spec: StageSpec) -> dict[str, object]:
    """All that decides the stage's rows, beside its inputs."""
    identity = {**flatten(job.stage, "stage"), **spec.fingerprint_fields, "seed": job.seed}
    return {name: value for name, value in identity.items() if name not in spec.ignored_fields}


def retry_of(job: SynthJob, spec: StageSpec) -> Retry | None:
    """Which results of an earlier run are not to stand."""
    if not job.retry_engine_rejects:
        return None
    return Retry(reject=lambda reject: bool(reject["reason"] == "engine"), whole=not spec.independent)


def do_parts(spec: StageSpec, shard: Shard, run: str, after_each: Callable[[ItemResult], None]) -> list[str]:
    """Record what comes of the items of the parts that `shard` is given; the errors of those that failed."""
    failures: list[str] = []
    items = shard.todo(spec.items_after, seeks=spec.items_from is not None)
    for result in spec.process(_usable(shard, items), run):
        if result.failure is not None:
            failures.append(result.failure)
            shard.fail(result.key)
        else:
            shard.record(result.key, result.rows, result.rejects)
        after_each(result)
    return failures


def _usable(shard: Shard, items: Iterator[WorkItem]) -> Iterator[WorkItem]:
    """Items that are rows; those that are bad lines of the input become rejects here."""
    for item in items:
        if isinstance(item.payload, BadRow):
            bad = item.payload
            shard.record(item.key, rejects=[Reject(row=bad.row(), reason=bad.reason, detail=str(bad))])
        else:
            yield item


def _alone(ledger: Ledger, spec: StageSpec, name: str, run: str, file: StageMetrics) -> list[str]:
    """Do all parts in this process; the errors of the items that failed."""
    with tqdm(
        total=spec.total, initial=ledger.done, desc=name, unit=spec.unit, dynamic_ncols=True, mininterval=0.5,
        delay=math.inf,
    ) as bar:  # fmt: skip

        def count(result: ItemResult) -> None:
            bar.delay = 0  # drawn from the first result on: an engine that cannot start says so alone
            bar.update(result.failure is None)
            file.write_now_and_then()

        try:
            return do_parts(spec, ledger.shard(), run, count)
        finally:
            file.write()


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
