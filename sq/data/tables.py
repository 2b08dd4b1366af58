"""Tables (parquet, a saved dataset, a dataset on the hub) as a stream of records with their row numbers.

What cannot be read within a parquet file costs the rows it holds, and no others. A hub stream that breaks is an error
and not the end of the data: fewer rows than there are must never pass for all of them.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sq.core.errors import RowError
from sq.core.hub import check_hub
from sq.data.locate import SPLIT
from sq.data.readers import BadRow, Record, bad_row

_BATCH = 1000


def read_parquet(path: Path) -> Iterator[Record | BadRow]:
    """The rows of a parquet file, one batch in memory at a time."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
    except (pa.ArrowException, OSError) as error:
        size = path.stat().st_size
        problem = (
            "is empty (0 bytes)" if not size else f"cannot be read as parquet, it may be cut off: {_first_line(error)}"
        )
        raise RowError(f"{path} {problem}") from error
    with file:
        names = file.schema_arrow.names
        _check_names(names, path.name)
        start = 1
        for group in range(file.num_row_groups):
            rows, number = file.metadata.row_group(group).num_rows, start
            try:
                for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group]):
                    yield from _batch(batch, number, path.name)
                    number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                detail = f"rows {number} to {start + rows - 1} cannot be read: {_first_line(error)}"
                yield bad_row(path.name, number, "broken_file", detail, "", unit="row")
            start += rows


def read_saved(directory: Path, split: str | None) -> Iterator[Record | BadRow]:
    """The rows of a directory that `datasets` saved; of a dictionary of splits, the one that is asked for."""
    import datasets

    try:
        saved = datasets.load_from_disk(str(directory))
    except Exception as error:  # whatever a broken directory makes it raise
        raise RowError(f"{directory} cannot be read as a saved dataset: {_first_line(error)}") from error
    if isinstance(saved, datasets.DatasetDict):
        saved = saved[_choose_split(list(saved), split, str(directory))]
    _check_names(saved.column_names, directory.name)
    number = 1
    for table in saved.with_format("arrow").iter(batch_size=_BATCH):
        for batch in table.to_batches():
            yield from _batch(batch, number, directory.name)
            number += batch.num_rows


def read_hub(
    name: str, subset: str | None, split: str | None, revision: str | None, commit: str
) -> Iterator[Record | BadRow]:
    """The rows of a dataset on the hub as of `commit`, streamed; or from the cache where the hub cannot be reached."""
    found = _open_hub(name, subset, revision, commit)
    rows = found[_choose_split(list(found), split, f"dataset '{name}'")]
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield number, {key: plain(value) for key, value in row.items()}
    except Exception as error:  # whatever the network, the cache or a broken shard makes it raise
        raise RowError(
            f"dataset '{name}' broke off after {number:,} rows: {_first_line(error)}. Run the same command again, "
            f"or fetch it once (hf download --repo-type dataset {name}) and give the directory as input"
        ) from error


def resolve_revision(name: str, revision: str | None) -> str:
    """The commit that a dataset's revision means now, from the hub or, where it cannot be reached, from the cache."""
    from huggingface_hub import HfApi, constants

    check_hub()
    if revision and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
        return revision
    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # offline in any of the ways there are, or no such dataset
        folder = f"datasets--{name.replace('/', '--')}"
        cached = Path(constants.HF_HUB_CACHE) / folder / "refs" / (revision or "main")
        if cached.is_file():
            return cached.read_text().strip()
        raise RowError(_hub_problem(name, error)) from error


def plain(value: Any) -> Any:
    """`value` as JSON could have it: dates and decimals as text, bytes as the text they hold, or else as base64."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal | uuid.UUID):
        return str(value)
    return plain(value.tolist()) if hasattr(value, "tolist") else repr(value)


def _batch(batch: pa.RecordBatch, start: int, name: str) -> Iterator[Record | BadRow]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield bad_row(name, start, "invalid_utf8", f"is not UTF-8: {error}", "", unit="row")
            return
        for i in range(batch.num_rows):
            yield from _batch(batch.slice(i, 1), start + i, name)
        return
    for number, row in enumerate(rows, start):
        yield number, plain(row)


def _check_names(names: list[str], what: str) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RowError(f"{what} has the column {', '.join(map(repr, twice))} more than once; rename one of them")


def _open_hub(name: str, subset: str | None, revision: str | None, commit: str) -> Any:
    import datasets

    check_hub()
    try:
        return datasets.load_dataset(name, subset, revision=commit, streaming=True)
    except Exception as error:  # offline, unknown, gated, or with subsets of which one must be named
        try:
            if not _offline(error):
                raise error
            return datasets.load_dataset(name, subset, revision=revision)
        except Exception:  # not in the cache either: the first error tells more
            raise RowError(_hub_problem(name, error)) from error


def _choose_split(splits: list[str], split: str | None, what: str) -> str:
    chosen = split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
    if chosen not in splits:
        problem = f"has no split '{split}'" if split else "has several splits"
        raise RowError(f"{what} {problem}; choose one of {', '.join(splits)}: {SPLIT.format('...')}")
    return str(chosen)


def _offline(error: Exception) -> bool:
    return isinstance(error, OSError) or "offline" in str(error).lower() or "reach" in str(error).lower()


def _hub_problem(name: str, error: Exception) -> str:
    reason = _first_line(error)
    if "config" in reason.lower() and "pick" in str(error).lower():
        options = " ".join(str(error).split())[:500]
        return f"dataset '{name}' has several subsets; choose one: subset=... ({options})"
    return (
        f"there is no file or directory '{name}', and no dataset of that name could be loaded from the hub: {reason}. "
        "Without a network, give a local file or directory as input; for a gated dataset, log in first (hf auth login)"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]
