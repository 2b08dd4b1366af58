"""The product: a selection as a dataset that others load and train on.

Parquet shards with `query` and `response`, the same as `prompt` and `completion` in the form that trainers take (TRL
then puts the loss on the completion alone, as the paper does), and each row's lineage; a card with the run's figures.
The directory appears whole or not at all, and a second build of the same rows changes nothing. Nor can a cache of
`datasets` give one build's rows for another's: each shard has a digest of its content in its name, and the card has no
`configs:` block, whose patterns (and not the files they find) would be all that `datasets` keys its cache by.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sq import __version__
from sq.core.columns import CHAT, TABLE
from sq.core.count import count_noun
from sq.core.errors import ConfigError, LedgerError, RowError
from sq.core.files import DirectoryLock, plain_errors, read_json, sync_directory
from sq.core.ledger import read_manifest
from sq.core.manifest import NAME as MANIFEST
from sq.core.rows import EXAMPLE
from sq.report.artifacts import RunArtifacts, StageArtifacts, find_run
from sq.report.card import card
from sq.report.dataset_formats import SCHEMAS, DatasetFormat, formatted

log = logging.getLogger(__name__)
NOTE = "build.json"
FORMAT = "sq-dataset-2"
SHARD = 100_000  # rows of a shard
BATCH = 1_000
_FIRST = ("query", "response")


def build(
    directory: Path, output: Path | None = None, *, form: DatasetFormat = DatasetFormat.SFT,
    licence: str | None = None, name: str | None = None,
) -> Path:  # fmt: skip
    """Write the dataset of a run, or of one selection, and return where it is: dataset/ in a run's directory, or
    NAME-dataset beside a selection's, unless `output` says so (dataset-preference/ where `form` is that). Licence and
    name are for its card.

    Raises:
        SqError: no finished selection, or a directory in the way.
    """
    artifacts = selection(directory)
    content = {"format": FORMAT, "rows_digest": artifacts.dataset, "licence": licence, "name": name}
    content |= {} if form is DatasetFormat.SFT else {"for": form.value}
    called = "dataset" if form is DatasetFormat.SFT else f"dataset-{form.value}"
    beside = directory.with_name(f"{directory.name}-{called}") if artifacts.final_name else directory / called
    target = output or beside
    if _is_there(target, content):
        log.info("build: %s has these rows already", target)
        return target
    staging = target.with_name(f".{target.name}.building")
    with plain_errors(staging, "write it"):
        staging.mkdir(parents=True, exist_ok=True)
        lock = DirectoryLock(staging)
        try:
            _clear(staging)
            left_out: Counter[str] = Counter()
            schema, rows = _rows(artifacts, form, left_out)
            shards, count = _write_shards(rows, staging / "data", schema)
            if not count:
                raise RowError(_no_row(artifacts, form, left_out))
            text = card(artifacts, schema, form=form, rows=count, licence=licence, name=name)
            (staging / "README.md").write_text(text, encoding="utf-8")
            counts = {"sq": __version__, "rows": count, "shards": shards, "columns": schema.names, "left_out": left_out}
            (staging / NOTE).write_text(json.dumps({**content, **counts}, indent=1) + "\n", encoding="utf-8")
            _sync(staging)
            os.rename(staging, target)
            sync_directory(target.parent)
        finally:
            lock.release()
    log.info("build: %s in %s -> %s", count_noun(count, "row"), count_noun(shards, "shard"), target)
    return target


def _no_row(artifacts: RunArtifacts, form: DatasetFormat, left_out: Counter[str]) -> str:
    if form is DatasetFormat.RLVR:
        why = "no question has a candidate with an answer"
    elif left_out["candidates with equal scores"]:
        why = (
            "the candidates of every question score the same. Answer with more of them (stage.n), at a higher "
            "stage.temperature, or take harder questions"
        )
    else:
        why = "no question has two candidates with an answer. Answer with stage.n of 2 or more"
    return f"{artifacts.finals[0].directory} gives no row for --format {form.value}: {why}"


def selection(directory: Path) -> RunArtifacts:
    """The run with the selections to build from: the directory's own where it is one, else the last condition's."""
    if (directory / MANIFEST).is_file():
        manifest = read_manifest(directory)
        if "query" not in manifest.schema or "response" not in manifest.schema:
            kind = manifest.config.get("stage.name", "another stage")
            raise RowError(f"{directory} is the output of stage={kind}; give that of stage=select, or a whole run")
        around, here = find_run(directory.resolve().parent), directory.resolve()
        by_hand = StageArtifacts(name=here.name, kind="select", directory=directory, script="synthesize")
        own = next((s for s in around.stages if s.directory.resolve() == here), by_hand)
        stages, recipe = around.stages, around.recipe
        if own is by_hand:  # not of the recipe beside it
            stages, recipe = [*stages, own], {**recipe, "domain": ""}
        artifacts = replace(around, stages=stages, recipe=recipe, final_name=own.name)
    else:
        artifacts = find_run(directory)
    if not artifacts.finals:
        raise RowError(f"{directory} has no stage=select yet; run the recipe to its selection first")
    for stage in artifacts.finals:
        if stage.manifest is not None and not stage.manifest.finished:
            raise LedgerError(f"{stage.directory} is not finished; run its command again, and it goes on")
    if not artifacts.final_rows:
        raise RowError(f"{artifacts.finals[0].directory} has no rows: every candidate was rejected (see its rejects)")
    return artifacts


def _is_there(target: Path, content: Mapping[str, Any]) -> bool:
    """Whether the very same dataset stands there already; anything else in the way is refused."""
    if not target.exists():
        return False
    note = read_json(target / NOTE)
    if all(note.get(key) == value for key, value in content.items()):
        return True
    what = "another dataset" if note.get("format") else "something that sq build has not made"
    raise ConfigError(f"{target} holds {what}; choose another --output, or delete it")


def _rows(
    artifacts: RunArtifacts, form: DatasetFormat, left_out: Counter[str]
) -> tuple[pa.Schema, Iterator[dict[str, Any]]]:
    """The dataset's schema and its rows; questions without one are counted in `left_out` as those are read."""
    stages = artifacts.finals
    if form is not DatasetFormat.SFT:
        return SCHEMAS[form], formatted(stages, form, artifacts.domain, left_out)
    schema = _schema(stages)
    names = [name for name in schema.names if name in TABLE]
    return schema, (_with_messages(row) for stage in stages for row in stage.rows(*names))


def _schema(stages: Sequence[StageArtifacts]) -> pa.Schema:
    """The columns: query, response and their chat form first, then what is known of the rows; no column of nulls."""
    wanted = [field for field in EXAMPLE if TABLE[field.name].dataset and field.name not in _FIRST]
    filled: set[str] = set()
    for row in (row for stage in stages for row in stage.rows(*(field.name for field in wanted))):
        filled.update(name for name, value in row.items() if value is not None and value != [])
        if len(filled) == len(wanted):
            break
    first = [EXAMPLE.field(name) for name in _FIRST] + [pa.field(c.name, c.type, nullable=False) for c in CHAT]
    return pa.schema([*first, *(field for field in wanted if field.name in filled)])


def _write_shards(stream: Iterator[dict[str, Any]], directory: Path, schema: pa.Schema) -> tuple[int, int]:
    """Write the rows; how many shards and rows that are. A shard's name says of how many, so it comes last."""
    directory.mkdir(parents=True)
    shards: list[tuple[Path, str]] = []
    count = 0
    while batch := list(islice(stream, min(BATCH, SHARD))):
        path = directory / f"{len(shards)}.parquet"
        left = SHARD
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while batch:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                count, left = count + len(batch), left - len(batch)
                batch = list(islice(stream, min(BATCH, left)))
        with path.open("rb") as file:
            shards.append((path, hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()))
    for number, (path, digest) in enumerate(shards):
        path.rename(path.with_name(f"train-{number:05d}-of-{len(shards):05d}-{digest}.parquet"))
    return len(shards), count


def _with_messages(row: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = ({"role": r, "content": row[c]} for r, c in (("user", "query"), ("assistant", "response")))
    return {**row, "prompt": [prompt], "completion": [completion]}


def _clear(staging: Path) -> None:
    """Take away what a build that was killed has left."""
    for path in staging.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(directory: Path) -> None:
    for path in (path for path in directory.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
