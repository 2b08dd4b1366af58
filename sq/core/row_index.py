"""Where each row and reject of a stage's directory stands, by its id and by the ids of the rows it was made from.

`sq why` and the report look rows up in it and read only those. It is a file beside the parts, made at first use and
valid by the parts' digests: a part that is new or another is read again, the others are not. Where it cannot be
written it is made in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sq.core.errors import LedgerError
from sq.core.files import plain_errors, write_files
from sq.core.manifest import Manifest, Part

NAME = "ids.index"
FORMAT = "sq-ids-1"
SHORTEST = 8
"""Bytes of an id that are kept: what they bring together is compared whole when it is read."""
_REJECT, _ORIGIN, _ROW = 1 << 32, 1 << 33, 1 << 34
_REJECTED_ORIGINS = re.compile(r'"(?:question_id": (?P<one>"[^"]*")|parents": \[(?P<several>[^\]]*)\])')
"""In the JSON of a rejected row: within a text its quotes would be escaped. What is found is compared when read."""
_TEXT = re.compile(r'"([^"]*)"')
Numbers = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRow:
    """A row of a directory; of a reject the reason and the detail too."""

    row: dict[str, Any]
    reason: str | None = None
    detail: str = ""

    @property
    def id(self) -> str:
        """The row's id; a line that was never a row has none."""
        return str(self.row.get("id") or "")

    @property
    def origins(self) -> set[str]:
        """The ids of the rows it was made from."""
        named = self.row.get("question_id")
        return {*(self.row.get("parents") or ()), *([named] if named else ())}


class RowIndex:
    """The index of one directory."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory, self._manifest = directory, manifest
        self._keys, self._places = self._current()

    def starting_with(self, prefix: str) -> Iterator[StoredRow]:
        """Rows, then rejects, whose id starts so; in order."""
        start = prefix.encode()[:SHORTEST]
        found = self._between(start.ljust(SHORTEST, b"\0"), start.ljust(SHORTEST, b"\xff"))
        return (row for row in self._read(found[found & np.uint64(_ORIGIN) == 0]) if row.id.startswith(prefix))

    def of(self, ids: Iterable[str], made_from: Collection[str] = ()) -> Iterator[StoredRow]:
        """Rows, then rejects, with one of these ids, or made from a row with one of those; in order."""
        wanted, sources = set(ids), set(made_from)
        own = [self._between(key, key) for key in sorted({_key(name) for name in wanted})]
        places = [found[found & np.uint64(_ORIGIN) == 0] for found in own]
        for key in sorted({_key(name) for name in sources}):
            found = self._between(key, key)
            places.append(found[found & np.uint64(_ORIGIN) != 0])
        records = self._read(np.concatenate(places)) if places else iter(())
        return (record for record in records if record.id in wanted or not sources.isdisjoint(record.origins))

    def _between(self, low: bytes, high: bytes) -> Numbers:
        first = np.searchsorted(self._keys, np.uint64(int.from_bytes(low, "big")), "left")
        last = np.searchsorted(self._keys, np.uint64(int.from_bytes(high, "big")), "right")
        return np.asarray(self._places[first:last])

    def _read(self, places: Numbers) -> Iterator[StoredRow]:
        """The rows at these places: rows first, each once."""
        at = sorted({(bool(p & _REJECT), p // _ROW, p & (_REJECT - 1)) for p in places.tolist()})
        for (rejected, index), rows in groupby(at, key=lambda place: place[:2]):
            part = self._manifest.parts[index]
            table = _table(self._directory, part.rejects_file if rejected else part.file)
            for row in table.take([number for _, _, number in rows]).to_pylist():
                if rejected:
                    yield StoredRow(row=json.loads(row["row"]), reason=row["reason"], detail=row["detail"])
                else:
                    yield StoredRow(row=row)

    def _current(self) -> tuple[Numbers, Numbers]:
        """Keys and places, sorted by key: from the file, as far as its parts are those of the manifest."""
        digests = {str(part.index): f"{part.content} {part.rejected}" for part in self._manifest.in_order}
        known, keys, places = self._load()
        if known == digests:
            return keys, places
        kept = np.array([int(i) for i, digest in known.items() if digests.get(i) == digest], dtype=np.uint64)
        stay = np.isin(places // np.uint64(_ROW), kept)
        pieces = [(keys[stay], places[stay])]
        pieces += [self._scan(p) for p in self._manifest.in_order if known.get(str(p.index)) != digests[str(p.index)]]
        keys = np.concatenate([piece[0] for piece in pieces])
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], np.concatenate([piece[1] for piece in pieces])[order]
        head = json.dumps({"format": FORMAT, "entries": len(keys), "parts": digests}).encode() + b"\n"
        with suppress(LedgerError):  # a directory that only may be read
            write_files(self._directory, {NAME: head + keys.tobytes() + places.tobytes()})
        return keys, places

    def _load(self) -> tuple[dict[str, str], Numbers, Numbers]:
        path = self._directory / NAME
        with suppress(OSError, ValueError, KeyError, TypeError):
            with open(path, "rb") as file:
                line = file.readline()
            head, entries = json.loads(line), json.loads(line)["entries"]
            if head["format"] == FORMAT and path.stat().st_size == len(line) + 16 * entries:
                data = np.memmap(path, np.uint8, "r", offset=len(line))
                keys, places = data[: 8 * entries].view(np.uint64), data[8 * entries :].view(np.uint64)
                return dict(head["parts"]), keys, places
        return {}, np.zeros(0, np.uint64), np.zeros(0, np.uint64)

    def _scan(self, part: Part) -> tuple[Numbers, Numbers]:
        """What a part adds."""
        columns = [name for name in ("id", "parents", "question_id") if name in self._manifest.schema]
        table = _table(self._directory, part.file, columns)
        names: list[str | None] = table["id"].to_pylist()
        places = list(range(len(names)))
        for column in columns[1:]:
            for number, given in enumerate(table[column].to_pylist()):
                several = given if isinstance(given, list) else [given] if given else []
                names += several
                places += [_ORIGIN + number] * len(several)
        if part.rejects:
            rejects = _table(self._directory, part.rejects_file, ["id", "row"])
            for number, (name, text) in enumerate(zip(*(c.to_pylist() for c in rejects.columns), strict=True)):
                names.append(name)
                places.append(_REJECT + number)
                for match in _REJECTED_ORIGINS.finditer(text):
                    several = _TEXT.findall(match["one"] or match["several"])
                    names += several
                    places += [_REJECT + _ORIGIN + number] * len(several)
        keys = np.frombuffer(b"".join(map(_key, names)), dtype=">u8").astype(np.uint64)
        return keys, np.array(places, dtype=np.uint64) + np.uint64(part.index * _ROW)


def _key(name: str | None) -> bytes:
    return (name or "").encode("utf-8", "replace")[:SHORTEST].ljust(SHORTEST, b"\0")


def _table(directory: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    with plain_errors(directory / name, "read it"):
        try:
            with pq.ParquetFile(directory / name, pre_buffer=False) as file:
                return file.read(columns and list(columns), use_threads=False)
        except pa.ArrowInvalid as error:
            problem = f"{directory / name} is not as it was written ({str(error).splitlines()[0]})"
            raise LedgerError(f"{problem}. Run the command that made it again.") from error
