"""Every stage of synthesis runs here: read, check, run, commit, track."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sq.core.config import flatten
from sq.core.count import count_noun
from sq.core.ledger import Ledger, LedgerSummary
from sq.core.metrics import format_metrics
from sq.core.progress import Progress
from sq.core.quoting import entry_command, quote_override
from sq.core.tracking import ItemTrace, track
from sq.engine.failures import unfinished
from sq.synth.advice import advice
from sq.synth.launchers import launcher_of
from sq.synth.parts import do_parts, identity_of, retry_of
from sq.synth.pool import WorkerPool
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
        ledger = Ledger.open(
            directory, schema=spec.schema, config=identity, inputs=digests, part_size=job.part_size, retry=retry
        )
    except BaseException:
        spec.close()
        raise
    same = {**identity, **digests}
    traces: list[ItemTrace] = []
    determinism = job.engine.determinism(job.model) if (job.model, job.engine) in job.stage.engines(job) else {}
    params = flatten(job) | {f"determinism.{name}": value for name, value in determinism.items()}
    with ledger, track(
        job.tracking, stage=name, params=params, inputs=spec.inputs, directory=directory, identity=same
    ) as run:  # fmt: skip
        try:
            file = StageMetrics(directory, spec.usages, {} if ledger.finished else determinism)
            if not ledger.finished and (failures := _do(job, spec, ledger, run.id, file, traces)):
                done, left = count_noun(ledger.done, spec.unit), count_noun(len(failures), spec.unit)
                raise unfinished(f"{name}: {done} done, {left} left -> {directory}", failures)
            summary = ledger.finish()
            measured = file.kept(summary.digest)
            if measured is None or spec.stale(measured):
                measured = spec.metrics(directory)
                file.keep(summary.digest, measured)
        finally:
            for trace in traces or spec.traces(job.tracking.traces) if job.tracking.enabled else ():
                run.trace(replace(trace, name=f"{name} ({trace.name})"))
            spec.close()
        metrics = {**_counts(summary), **measured, **file.usage}
        run.output(name, directory, digest=summary.digest, rows=summary.rows)
        run.metrics(metrics)
    _print_summary(job, spec, summary, measured, time.monotonic() - started)
    for message in advice(name, directory, summary, measured):
        log.warning("%s", message)
    return metrics


def _do(
    job: SynthJob, spec: StageSpec, ledger: Ledger, run: str, file: StageMetrics, traces: list[ItemTrace]
) -> list[str]:
    """Do all parts, here or by workers, of which one's `traces` are added; the errors of the items that failed."""
    if spec.whole and job.workers > 1:
        log.warning("%s: %s", job.stage.name, spec.whole)
        job = replace(job, workers=1)
    if job.workers == 1 and job.cluster.address is None:
        return _alone(ledger, spec, job.stage.name, run, file)
    pool = WorkerPool(job, spec, ledger, run, launcher_of(job), file)
    try:
        return pool.run()
    finally:
        traces += pool.traces


def _alone(ledger: Ledger, spec: StageSpec, name: str, run: str, file: StageMetrics) -> list[str]:
    """Do all parts in this process; the errors of the items that failed."""
    with Progress(ledger.directory, name, spec.unit, total=spec.total, done=lambda: ledger.done) as progress:

        def count(result: ItemResult) -> None:
            if result.failure is None:
                progress.update(rejects=[reject.reason for reject in result.rejects])
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
    left_out = summary.reasons.get("left_out", 0)  # by where=: rows of the input, none of them an item that was used
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(summary.reasons.items()) if reason != "left_out")
    given, rows, rejects = (
        count_noun(summary.items - left_out, spec.unit),
        count_noun(summary.rows, "row"),
        count_noun(summary.rejects - left_out, "reject"),
    )
    counts = f"{given} in -> {rows}, {rejects}"
    where = f", {count_noun(left_out, 'row')} of the input left out by where" if left_out else ""
    resumed = f", {summary.resumed:,} of them done before" if summary.resumed else ""
    parts = [
        f"{job.stage.name}: {counts}{f' ({reasons})' if reasons else ''}{where}{resumed} -> {job.output_dir}",
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
