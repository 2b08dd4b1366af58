"""Work on the parts of a stage that a shard is given: the same in this process and in any worker's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sq.core.config import flatten
from sq.core.ledger import Reject, WorkItem
from sq.core.retry import Retry
from sq.core.shard import Shard
from sq.data.readers import BadRow
from sq.synth.filters.base import FilterItem
from sq.synth.stage import ItemResult, StageSpec

if TYPE_CHECKING:
    from sq.synth.config import SynthJob


def identity_of(job: SynthJob, spec: StageSpec) -> dict[str, object]:
    """All that decides the stage's rows, beside its inputs."""
    identity = {**flatten(job.stage, "stage"), **spec.fingerprint_fields, "seed": job.seed}
    return {name: value for name, value in identity.items() if name not in spec.ignored_fields}


def retry_of(job: SynthJob, spec: StageSpec) -> Retry | None:
    """Which results of an earlier run are not to stand."""
    if not job.retry_engine_rejects:
        return None
    return Retry(
        reject=lambda reject: bool(reject["reason"] == "engine"),
        whole=not spec.independent,
        item_column=spec.item_column,
    )


def do_parts(spec: StageSpec, shard: Shard, run: str, after_each: Callable[[ItemResult], None]) -> list[str]:
    """Record what comes of the items of the parts that `shard` is given; the errors of those that failed."""
    failures: list[str] = []
    items = shard.todo(spec.items_after, seeks=spec.items_from is not None)
    for result in spec.process(usable(shard, items), run):
        record(shard, result)
        failures += [result.failure] if result.failure is not None else []
        after_each(result)
    return failures


def record(shard: Shard, result: ItemResult) -> None:
    """Keep what came of one item."""
    if result.failure is not None:
        shard.fail(result.key, result.failure)
    else:
        shard.record(result.key, result.rows, result.rejects)


def not_in_store(item: WorkItem) -> WorkItem:
    """The item; of a filter with another text, so that a model is asked and no kept reply taken."""
    if not isinstance(item.payload, FilterItem):
        return item
    row = item.payload.row
    text = f"{row.get('question')} ({secrets.randbelow(10**6)})"
    return WorkItem(item.key, replace(item.payload, row={**row, "question": text}))


def usable(shard: Shard, items: Iterator[WorkItem]) -> Iterator[WorkItem]:
    """Items that are rows; those that are bad lines of the input become rejects here."""
    for item in items:
        if isinstance(item.payload, BadRow):
            bad = item.payload
            shard.record(item.key, rejects=[Reject(row=bad.row(), reason=bad.reason, detail=str(bad))])
        else:
            yield item
