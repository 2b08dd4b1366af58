"""Datasets of the Hugging Face hub, and those that `datasets` saved to disk, as a stream of records.

A stream that breaks is an error and not the end of the data: fewer rows than there are must never pass for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sq.core.errors import RowError
from sq.core.hub import AT_START, check_hub, hub_host
from sq.data.locate import SPLIT
from sq.data.readers import BATCH, arrow_records, plain
from sq.data.records import BadRow, Record, first_line, refuse_repeated


def read_saved(directory: Path, split: str | None) -> Iterator[Record | BadRow]:
    """The rows of a directory that `datasets` saved; of a dictionary of splits, the one that is asked for."""
    import datasets

    try:
        saved = datasets.load_from_disk(str(directory))
    except Exception as error:  # whatever a broken directory makes it raise
        raise RowError(f"{directory} cannot be read as a saved dataset: {first_line(error)}") from error
    if isinstance(saved, datasets.DatasetDict):
        saved = saved[_choose_split(list(saved), split, str(directory))]
    refuse_repeated(saved.column_names, directory.name)
    number = 1
    for table in saved.with_format("arrow").iter(batch_size=BATCH):
        for batch in table.to_batches():
            yield from arrow_records(batch, number, directory.name)
            number += batch.num_rows


def read_hub(name: str, subset: str | None, split: str | None, revision: str | None) -> Iterator[Record | BadRow]:
    """The rows of a dataset on the hub, streamed; or from the cache where the hub cannot be reached."""
    dataset = _open(name, subset, revision)
    rows = dataset[_choose_split(list(dataset), split, f"dataset '{name}'")]
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield number, plain(row)
    except Exception as error:  # whatever the network, the cache or a broken shard makes it raise
        raise RowError(
            f"dataset '{name}' broke off after {number:,} rows: {first_line(error)}. Run the same command again, "
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
        raise RowError(_problem(name, error)) from error


def _open(name: str, subset: str | None, revision: str | None) -> Any:
    import datasets

    commit = resolve_revision(name, revision)
    try:
        return datasets.load_dataset(name, subset, revision=commit, streaming=True)
    except Exception as error:  # offline, unknown, gated, or with subsets of which one must be named
        try:
            if not (isinstance(error, OSError) or any(word in str(error).lower() for word in ("offline", "reach"))):
                raise error
            return datasets.load_dataset(name, subset, revision=revision)
        except Exception:  # not in the cache either: the first error tells more
            raise RowError(_problem(name, error)) from error


def _choose_split(splits: list[str], split: str | None, what: str) -> str:
    chosen = split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
    if chosen not in splits:
        problem = f"has no split '{split}'" if split else "has several splits"
        raise RowError(f"{what} {problem}; choose one of {', '.join(splits)}: {SPLIT.format('...')}")
    return str(chosen)


def _problem(name: str, error: Exception) -> str:
    reason = first_line(error)
    if "HF_HUB_OFFLINE" in reason and "HF_HUB_OFFLINE" not in AT_START:  # set here, when its name meant nothing
        reason = f"{hub_host()} cannot be reached"
    if "config" in reason.lower() and "pick" in str(error).lower():
        options = " ".join(str(error).split())[:500]
        return f"dataset '{name}' has several subsets; choose one: subset=... ({options})"
    return (
        f"there is no file or directory '{name}', and no dataset of that name could be loaded from the hub: {reason}. "
        "Without a network, give a local file or directory as input; for a gated dataset, log in first (hf auth login)"
    )
