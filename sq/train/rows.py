"""From a source to tokenised rows: read, encode, measure, hold out; once, on disk, and no row goes without a word.

A row that cannot be trained on (too long, empty, chosen = rejected) is counted by its reason, with its length, in
`rejects.jsonl`; the released scripts cut over-long pairs to 24 tokens and say nothing.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.count import count_noun
from sq.core.errors import ConfigError, RowError
from sq.data.locate import InputKind, locate
from sq.data.order import in_validation
from sq.data.readers import BadRow
from sq.data.sources import DOMAIN_ROWS, read_source
from sq.data.tokens import TokenizedExample, TokenRows, TokenWriter, fill_once
from sq.domains.base import Domain
from sq.models.pack import TokenSequence
from sq.train.config import TooLong, TrainJob

log = logging.getLogger(__name__)
REJECTS = "rejects.jsonl"


class UnusableRow(Exception):
    """A row that this stage cannot train on: a word to count by, and more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a stage needs of a row, and how it becomes tokens."""

    need: Collection[str]
    encode: Callable[[dict[str, Any]], TokenizedExample]
    rows: Callable[[Callable[[BadRow], None]], Iterator[dict[str, Any]]] | None = None
    """Where the rows come from if not from `data`."""
    expand: Callable[[Iterator[dict[str, Any]]], Iterator[dict[str, Any]]] | None = None
    """What makes several items of a row of the source."""
    template: str = ""
    """The chat template, where rows are made by it as it stands and not by `chat`."""
    chat: ChatFormat
    domain: Domain


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows of a run: to train on, held out, and how many were rejected or cut, by reason."""

    train: TokenRows
    held_out: TokenRows
    counts: dict[str, int]
    digest: str
    held_out_digest: str
    """Of the held-out rows as they are measured: figures about others cannot be compared."""
    directory: Path


def tokenized_rows(job: TrainJob, task: Task, limit: int, identity: str, cache: Path) -> TrainingRows:
    """The rows of `job`, from the cache where an earlier run or another process has made them."""
    made = fill_once(cache / f"tokens-{identity}", lambda directory: _write(job, task, limit, directory))
    counts = json.loads((made / "counts.json").read_text())
    train, held_out = (TokenRows.open(made / part) for part in ("train", "held_out"))
    shown = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
    if not len(train):
        raise RowError(_nothing_left(job, len(held_out), shown, made))
    if counts:
        log.warning("%s used, others: %s (see %s)", count_noun(len(train) + len(held_out), "row"), shown, REJECTS)
        if counts.keys() & {"too-long", "truncated"}:
            log.warning("%s", _limit_told(job, limit))
    return TrainingRows(
        train=train,
        held_out=held_out,
        counts=counts,
        digest=identity,
        held_out_digest=held_out.digest(),
        directory=made,
    )


def _nothing_left(job: TrainJob, held_out: int, shown: str, made: Path) -> str:
    """Why there is no row to train on, with the first of those that were rejected."""
    if held_out:
        return f"all {held_out} rows are held out by stage.validation={job.stage.validation}: lower it"
    with (made / REJECTS).open(encoding="utf-8") as file:
        first = [json.loads(line) for line in itertools.islice(file, 3)]
    listed = "".join(f"\n  {each['id']}: {each['detail']}" for each in first)
    return f"no row is left to train on: {shown or 'the source is empty'}.{' The first:' if first else ''}{listed}"


def row_limit(job: TrainJob, model_max: int) -> int:
    """How long a row may be: what fits into a pack, the model's context, and `data.max_tokens`."""
    wanted = job.data.max_tokens
    model_max = max(model_max, job.model.positions or 0)
    most = min(job.stage.pack_tokens, job.model.max_length or job.stage.pack_tokens, model_max)
    if wanted is not None and wanted > most:
        raise ConfigError(
            f"data.max_tokens={wanted} is more than fits: stage.pack_tokens={job.stage.pack_tokens}, the "
            f"model's context {job.model.max_length or model_max}"
        )
    return wanted or most


def _limit_told(job: TrainJob, limit: int) -> str:
    """What bounds a row's length, and how to let longer ones in."""
    if limit == job.data.max_tokens:
        return f"rows may have {limit:,} tokens, as data.max_tokens says: raise it, and stage.pack_tokens if need be"
    if limit == job.stage.pack_tokens:
        return f"rows may have {limit:,} tokens, as stage.pack_tokens says: raise it to take longer ones"
    return (
        f"rows may have {limit:,} tokens, the context of model {job.model.name}: model.positions=N lets it learn a "
        f"longer one, with stage.pack_tokens={job.stage.pack_tokens} or more"
    )


def _write(job: TrainJob, task: Task, limit: int, directory: Path) -> None:
    counts: Counter[str] = Counter()
    with (
        (directory / REJECTS).open("w", encoding="utf-8") as file,
        TokenWriter(directory / "train") as train,
        TokenWriter(directory / "held_out") as held_out,
    ):

        def reject(name: str, reason: str, detail: str, row: object) -> None:
            counts[reason] += 1
            line = {"id": name, "reason": reason, "detail": detail, "row": row}
            file.write(json.dumps(line, default=repr) + "\n")

        def bad(row: BadRow) -> None:
            reject(f"{row.file}:{row.line}", row.reason, row.detail, row.text)

        source = task.rows(bad) if task.rows else _rows_used(job, task, bad)
        for number, row in enumerate(task.expand(source) if task.expand else source):
            name = str(row.get("id", number))
            try:
                item, cut = _fitted(task.encode(row), limit, job.data.too_long)
            except UnusableRow as error:
                reject(name, error.reason, error.detail, row)
                continue
            except RowError as error:
                reject(name, "unusable", str(error), row)
                continue
            counts["truncated"] += cut
            validation = in_validation({"id": name, **row}, share=job.stage.validation, seed=job.seed)
            (held_out if validation else train).add(item)
    (directory / "counts.json").write_text(json.dumps({k: v for k, v in counts.most_common() if v}))


def _rows_used(job: TrainJob, task: Task, bad: Callable[[BadRow], None]) -> Iterator[dict[str, Any]]:
    """All rows that are held out and, of the others, the first `data.limit`: what is measured is the same at any limit.

    Of a domain, which may have no end, rows are held out of as many as are taken where there is no limit.
    """
    limit, share, most = job.data.limit, job.stage.validation, math.inf
    if limit is None or not share:
        yield from read_source(job.data, task.need, bad, domain=task.domain)
        return
    whole = replace(job.data, limit=None)
    if not job.data.mix and locate(job.data.input or "domain", job.data.split).kind is InputKind.DOMAIN:
        most = DOMAIN_ROWS
        whole = replace(job.data, limit=sys.maxsize if limit > DOMAIN_ROWS else None)
    taken = 0
    for number, row in enumerate(read_source(whole, task.need, bad, domain=task.domain)):
        if in_validation(row, share=share, seed=job.seed):
            if number < most:
                yield row
        elif taken < limit:
            taken += 1
            yield row
        elif number >= most:
            return


def _fitted(item: TokenizedExample, limit: int, too_long: TooLong) -> tuple[TokenizedExample, bool]:
    """The item within the limit (for a pair, both sides together), and whether it was cut for that.

    Cutting keeps the end token, which is what tells the model to stop.
    """
    length = sum(len(row.ids) for row in item.rows)
    for row in item.rows:
        if len(row.ids) <= max(row.start, 1):
            raise UnusableRow("nothing-supervised", f"{len(row.ids)} tokens, none of which carries loss")
    if length <= limit:
        return item, False
    if too_long is TooLong.REJECT:
        raise UnusableRow("too-long", f"{length} tokens, limit {limit}")
    share = limit // len(item.rows)
    rows = tuple(
        row if len(row.ids) <= share else TokenSequence((*row.ids[: share - 1], row.ids[-1]), row.start)
        for row in item.rows
    )
    if any(len(row.ids) <= max(row.start, 1) for row in rows):
        raise UnusableRow("too-long", f"{length} tokens, of which the limit {limit} leaves only the prompt")
    return item._replace(rows=rows), True
