"""Ask again what an earlier run recorded but should not stand: those results are taken out of parts and journals.

A part's files do not say which item gave which row. Where each item has either rejects or rows, it follows from the
items' order: one item's rows have the same value in `item_column`, or all items have the same number of rows. Else all
items of the part are computed again.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sq.core.codec import Codec, Values, dump
from sq.core.count import count_noun
from sq.core.files import remove, sync_directory
from sq.core.journal import Journal, Results
from sq.core.manifest import Manifest, Part, write_manifest
from sq.core.parts import read_part
from sq.core.rejects import CODEC as REJECTS

log = logging.getLogger(__name__)
Record = Mapping[str, Any]


def _never(record: Record) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Which results are not to stand: those of items with such a reject, or such a row."""

    reject: Callable[[Record], bool] = _never
    row: Callable[[Record], bool] = _never
    whole: bool = False
    """Items are not independent: if any is asked again, all are computed again."""
    item_column: str | None = None
    """Its value is another in each item's rows. None: all items have the same number of rows."""

    def concerns(self, directory: Path, part: Part, codec: Codec) -> bool:
        """Whether any result of a part is not to stand."""
        rows, rejects = read_part(directory, part, codec)
        return any(self._row(codec, row) for row in rows) or any(self._reject(reject) for reject in rejects)

    def put_back(self, directory: Path, part: Part, keys: Sequence[str], codec: Codec, journal: Journal) -> None:
        """Put the results of a part that stand into its journal, durably."""
        for key, (rows, rejects) in self._standing(directory, part, keys, codec).items():
            journal.append(dump([key, rows, rejects]))
        journal.sync()

    def standing_in(self, journal: Journal, results: Results, codec: Codec) -> Results:
        """Those of a journal's results that stand; the others are taken out of it."""
        left = self._left(results, codec)
        if len(left) < len(results):
            journal.keep(left)
        return left

    def concerns_journal(self, path: Path, codec: Codec) -> bool:
        """Whether any result in the journal of an open part is not to stand."""
        journal = Journal(path, {})
        try:
            results = journal.results()
        finally:
            journal.close()
        return len(self._left(results, codec)) < len(results)

    def _standing(self, directory: Path, part: Part, keys: Sequence[str], codec: Codec) -> Results:
        rows, rejected = read_part(directory, part, codec)
        rejects: dict[str, list[Values]] = defaultdict(list)
        for reject in rejected:
            rejects[reject[REJECTS.schema.names.index("key")]].append(reject)
        kept = [key for key in keys if key not in rejects]
        groups = self._groups(rows, len(kept), codec)
        if len(groups) != len(kept):
            return {}
        results: Results = {key: ([], of) for key, of in rejects.items()}
        results |= {key: (group, []) for key, group in zip(kept, groups, strict=True)}
        return self._left(results, codec)

    def _groups(self, rows: list[Values], items: int, codec: Codec) -> list[list[Values]]:
        """The rows of each of so many items; another number of groups where that cannot be known."""
        if self.item_column is not None:
            at = codec.schema.names.index(self.item_column)
            return [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[at])]
        each, odd = divmod(len(rows), max(items, 1))
        if odd or not each:
            return [[] for _ in range(items if not rows else 0)]
        return [list(rows[i * each : (i + 1) * each]) for i in range(len(rows) // each)]

    def _left(self, results: Results, codec: Codec) -> Results:
        return {
            key: (rows, rejects)
            for key, (rows, rejects) in results.items()
            if not (any(self._row(codec, row) for row in rows) or any(map(self._reject, rejects)))
        }

    def _row(self, codec: Codec, row: Values) -> bool:
        return self.row(dict(zip(codec.schema.names, row, strict=True)))

    def _reject(self, reject: Values) -> bool:
        return self.reject(dict(zip(REJECTS.schema.names, reject, strict=True)))


def opened_again(directory: Path, manifest: Manifest, codec: Codec, retry: Retry) -> tuple[Manifest, set[int]]:
    """The manifest to go on from, and the parts in it that are still to be opened, once their items are known."""
    concerned = {index for index, part in manifest.parts.items() if retry.concerns(directory, part, codec)}
    journals = sorted(directory.glob("journal-*.jsonl")) if retry.whole else []
    odd = {path for path in journals if retry.concerns_journal(path, codec)}
    if not concerned and not odd:
        return manifest, set()
    log.info("%s: items of %s are asked again", directory, count_noun(len(concerned) + len(odd), "part"))
    manifest = replace(manifest, finished=False)
    if not retry.whole:
        write_manifest(directory, manifest)
        return manifest, concerned
    parts = list(manifest.parts.values())
    manifest = replace(manifest, parts={})
    write_manifest(directory, manifest)
    for last in (False, True):  # those concerned, so that a kill does not end the retry
        for part in parts:
            if (part.index in concerned) == last:
                delete_part(directory, part)
        for path in journals:
            if (path in odd) == last:
                remove(path)
        sync_directory(directory)
    return manifest, set()


def delete_part(directory: Path, part: Part) -> None:
    """Delete the files of a part that is no longer in the manifest, durably: they would be taken in again."""
    remove(directory / part.file)
    remove(directory / part.rejects_file)
    sync_directory(directory)
