"""The files of committed parts: written once, checked whenever they are read, readable on their own.

Each rows file says in its Parquet metadata which part of which work it is and digests its content, so a ledger whose
manifest was lost can be put together again from its parts.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sq.core.codec import Codec, Values, digest_rows
from sq.core.errors import DirectoryError, LedgerError
from sq.core.files import checksum, digest_of, plain_errors, write_files
from sq.core.journal import Results
from sq.core.manifest import NAME, Manifest, Part, load_manifest
from sq.core.rejects import CODEC as REJECTS_CODEC

_METADATA = b"sq.ledger"
_BATCH = 1024


def write_part(directory: Path, index: int, keys: Sequence[str], results: Results, codec: Codec, of: Manifest) -> Part:
    """Write the files of a part: its items' rows in the items' order, and its rejects."""
    rows = [row for key in keys for row in results[key][0]]
    rejects = [reject for key in keys for reject in results[key][1]]
    part = Part(
        index=index,
        items=len(keys),
        rows=len(rows),
        rejects=len(rejects),
        reasons=dict(sorted(Counter(reject[2] for reject in rejects).items())),
        keys=digest_of(*keys),
        content=digest_rows(rows),
        rejected=digest_rows(rejects),
    )
    about = json.dumps({"identity": of.identity, "part_size": of.part_size, "part": vars(part)}).encode()
    files = {part.file: _parquet(codec.table(rows).replace_schema_metadata({_METADATA: about}))}
    if rejects:
        files = {part.rejects_file: _parquet(REJECTS_CODEC.table(rejects))} | files
    write_files(directory, files)
    sums = [hashlib.blake2b(data, digest_size=16).hexdigest() for data in files.values()]
    return replace(part, checksum=sums[-1], rejects_checksum=sums[0] if rejects else "")


def damage(directory: Path, part: Part) -> str | None:
    """What is wrong with the files of a committed part, in words; None if nothing is."""
    try:
        current = _with_checksums(directory, part)
    except LedgerError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return f"{Path(error.__cause__.filename).name} is missing"
        raise
    if current.checksum != part.checksum:
        return f"{part.file} is not as it was written"
    if current.rejects_checksum != part.rejects_checksum:
        return f"{part.rejects_file} is not as it was written"
    return None


def describe(path: Path) -> dict[str, Any] | None:
    """What a rows file says of itself: `identity`, `part_size`, `part`; None if it is no readable part."""
    with suppress(OSError, ValueError, TypeError, KeyError):  # pyarrow's errors on damaged files are among these
        metadata = pq.read_schema(path).metadata
        about = json.loads(metadata[_METADATA])
        return about if isinstance(about, dict) else None
    return None


def adopt(directory: Path, index: int, about: dict[str, Any], codec: Codec) -> Part | None:
    """The part that an unlisted rows file says it is, if all its content and its rejects bear that out."""
    with suppress(LedgerError, OSError, ValueError, TypeError, KeyError):
        part = Part(**about["part"])
        rows, rejects = read_part(directory, part, codec)
        if part.index == index and digest_rows(rows) == part.content and digest_rows(rejects) == part.rejected:
            return _with_checksums(directory, part)
    return None


def read_part(directory: Path, part: Part, codec: Codec) -> tuple[list[Values], list[Values]]:
    """Rows and rejects of a committed part, as they were recorded."""
    rows = codec.rows_of(_table(directory / part.file))
    return rows, REJECTS_CODEC.rows_of(_table(directory / part.rejects_file)) if part.rejects else []


def read_manifest(directory: str | Path) -> Manifest:
    """The manifest of a stage's directory.

    Raises:
        LedgerError: where there is none, or a damaged one.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    if manifest is None:
        if not directory.is_dir():
            raise DirectoryError(f"{directory} is not a directory. Give the output_dir of an earlier stage.")
        if (directory / NAME).exists():
            raise LedgerError(
                f"{directory / NAME} is damaged, or of another program. "
                "If the parts beside it are a stage's, run that stage again: it rebuilds the manifest from them."
            )
        raise DirectoryError(
            f"{directory} holds no {NAME}: it is not a stage's output. Give the output_dir of a stage."
        )
    return manifest


def read_rows(
    directory: str | Path,
    columns: Sequence[str] | None = None,
    verify: bool = True,
    *,
    unfinished: bool = False,
    start: int = 0,
) -> Iterator[dict[str, Any]]:
    """Stream the rows of a stage's directory in order, each part checked before its rows are given.

    Args:
        directory: the stage's output_dir.
        columns: only these, in this order; all if None.
        verify: compare checksums first.
        unfinished: read what is committed so far, where without this an unfinished ledger is refused.
        start: the first row; the parts before its own are not opened.

    Raises:
        LedgerError: at once for a directory that cannot be read; while reading for a damaged part.
    """
    manifest = _readable(Path(directory), columns, unfinished)
    parts = manifest.in_order
    while parts and start >= parts[0].rows:
        start -= parts.pop(0).rows
    rows = _read(Path(directory), [(part, part.file) for part in parts], columns, verify)
    return itertools.islice(rows, start, None) if start else rows


def read_rejects(
    directory: str | Path, columns: Sequence[str] | None = None, verify: bool = True, *, unfinished: bool = False
) -> Iterator[dict[str, Any]]:
    """Stream the rejects of a stage's directory: `id`, `key`, `reason`, `detail`, and `row` as a JSON text."""
    manifest = _readable(Path(directory), columns, unfinished, REJECTS_CODEC.text)
    files = [(part, part.rejects_file) for part in manifest.in_order if part.rejects]
    return _read(Path(directory), files, columns, verify)


def _readable(
    directory: Path, columns: Sequence[str] | None, unfinished: bool, there: dict[str, str] | None = None
) -> Manifest:
    manifest = read_manifest(directory)
    if not manifest.finished and not unfinished:
        raise DirectoryError(
            f"{directory} is not finished: {manifest.items} items are committed so far. "
            "Run the command that makes it again; it continues where it stopped."
        )
    there = there or manifest.schema
    for name in columns or ():
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise LedgerError(f"{directory} has no column {name!r}{hint} Its columns: {', '.join(there)}.")
    return manifest


def _read(
    directory: Path, files: list[tuple[Part, str]], columns: Sequence[str] | None, verify: bool
) -> Iterator[dict[str, Any]]:
    for part, name in files:
        problem = damage(directory, part) if verify else None
        if problem is None:
            with plain_errors(directory / name, "read it"):
                try:
                    with pq.ParquetFile(directory / name, pre_buffer=False) as file:
                        for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
                            batch = batch.select(columns) if columns is not None else batch
                            yield from batch.to_pylist()
                except pa.ArrowInvalid as error:
                    problem = f"{name} is not as it was written ({str(error).splitlines()[0]})"
        if problem is not None:
            raise LedgerError(
                f"{directory}: {problem}. Run the command that made it again: only that part is computed again."
            )


def _with_checksums(directory: Path, part: Part) -> Part:
    with plain_errors(directory / part.file, "read it"):
        rows = checksum(directory / part.file)
    with plain_errors(directory / part.rejects_file, "read it"):
        rejects = checksum(directory / part.rejects_file) if part.rejects else ""
    return replace(part, checksum=rows, rejects_checksum=rejects)


def _table(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=16 * _BATCH)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
