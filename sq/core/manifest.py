"""The manifest of a ledger: what decides its rows, which parts are committed, and what is in them.

It holds no time, host or path, so the same work gives the same manifest. It is replaced as a whole, atomically, and
carries a digest of itself, so a damaged one is never taken at its word. While a stage is at work it is not rewritten
for each part: commits are lines of a log beside it, which is read with it, and folded into it when the ledger is opened
again or finished.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sq.core.codec import dump
from sq.core.errors import DirectoryError, LedgerError
from sq.core.files import digest_of, plain_errors, write_files
from sq.core.journal import Journal, parse_line

NAME = "manifest.json"
COMMITS = "commits.jsonl"
FORMAT = "sq-ledger-1"
BY_DOMAIN = "Checker and extractor are those of domain=, or of an earlier version. "
OTHER_DIRECTORY = "Choose another output_dir, or delete this one to start over."


@dataclass(frozen=True, kw_only=True)
class Part:
    """A committed part. `keys`, `content`, `rejected` digest its keys, rows and rejects; checksums are of files."""

    index: int
    items: int
    rows: int
    rejects: int
    reasons: dict[str, int]
    keys: str
    content: str
    rejected: str
    checksum: str = ""
    rejects_checksum: str = ""

    @property
    def file(self) -> str:
        """The name of the file with its rows."""
        return f"part-{self.index:05d}.parquet"

    @property
    def rejects_file(self) -> str:
        """The name of the file with its rejects; there is one only if there are any."""
        return f"rejects-{self.index:05d}.parquet"


def journal_file(index: int) -> str:
    """The file of an open part's results."""
    return f"journal-{index:05d}.jsonl"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A ledger's state on disk."""

    schema: dict[str, str]
    config: dict[str, Any]
    inputs: dict[str, str]
    part_size: int
    finished: bool = False
    parts: dict[int, Part] = field(default_factory=dict)

    @property
    def in_order(self) -> list[Part]:
        """The parts in the order of their items."""
        return [self.parts[index] for index in sorted(self.parts)]

    @property
    def items(self) -> int:
        """Items with a committed result."""
        return sum(part.items for part in self.parts.values())

    @property
    def rows(self) -> int:
        """Committed rows."""
        return sum(part.rows for part in self.parts.values())

    @property
    def rejects(self) -> int:
        """Committed rejects."""
        return sum(part.rejects for part in self.parts.values())

    @property
    def reasons(self) -> dict[str, int]:
        """Committed rejects by reason."""
        total: Counter[str] = Counter()
        for part in self.parts.values():
            total.update(part.reasons)
        return dict(sorted(total.items()))

    @property
    def digest(self) -> str:
        """A digest of the rows and their order: what a later stage names as its input."""
        return digest_of(canonical(list(self.schema.items())), *(part.content for part in self.in_order))

    @property
    def identity(self) -> str:
        """A digest of what decides the rows."""
        return digest_of(canonical(list(self.schema.items())), canonical(self.config), canonical(self.inputs))

    def without_parts(self) -> Manifest:
        """What decides the rows, alone."""
        return replace(self, parts={})

    def refuse_other(self, wanted: Manifest, directory: Path) -> None:
        """Raise a `DirectoryError` that names every key in which `wanted` is not what this ledger was made with."""
        there, now = self._decisive(), wanted._decisive()
        differing = {key: None for key in there | now if there.get(key) != now.get(key)}
        problems = [f"{key}: {there.get(key, 'absent')} there, {now.get(key, 'absent')} now" for key in differing]
        if problems:
            raise DirectoryError(
                f"{directory} was made with another configuration or input:\n"
                + "".join(f"  - {problem}\n" for problem in problems)
                + (BY_DOMAIN if {"extractor", "checker"} <= differing.keys() else "")
                + OTHER_DIRECTORY
            )

    def _decisive(self) -> dict[str, str]:
        columns = {f"column {name}": kind for name, kind in self.schema.items()}
        columns["order of columns"] = ", ".join(self.schema)
        inputs = {f"input {name}": digest for name, digest in self.inputs.items()}
        return {key: canonical(value) for key, value in self.config.items()} | inputs | columns


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as it comes back from JSON, so that what is compared is what is stored."""
    for key, value in config.items():
        try:
            canonical(value)
        except (TypeError, ValueError) as error:
            raise LedgerError(f"the configuration's {key}={value!r} cannot be kept in a manifest: {error}") from None
    return {str(key): json.loads(canonical(value)) for key, value in sorted(config.items())}


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest of `directory`."""
    head = {
        "format": FORMAT,
        "finished": manifest.finished,
        "items": manifest.items,
        "rows": manifest.rows,
        "rejects": manifest.rejects,
        "reasons": manifest.reasons,
        "digest": manifest.digest,
        "part_size": manifest.part_size,
        "config": manifest.config,
        "inputs": manifest.inputs,
        "schema": manifest.schema,
    }
    parts = [json.dumps(vars(part)) for part in manifest.in_order]
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    lines.append('"parts": [' + ",".join(f"\n  {part}" for part in parts) + "]")
    body = ",\n".join(lines)
    text = f'{{\n"check": "{digest_of(body)}",\n{body}\n}}\n'
    write_files(directory, {NAME: text.encode()})


def load_manifest(directory: Path) -> Manifest | None:
    """The manifest of `directory`; None where there is none, or a damaged one."""
    try:
        with plain_errors(directory / NAME, "read it"):
            text = (directory / NAME).read_bytes()
    except LedgerError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    start = text.find(b",\n") + 2
    try:
        doc = json.loads(text)
        if doc["format"] != FORMAT or doc["check"] != digest_of(text[start:-3]):
            return None
        manifest = Manifest(
            schema=doc["schema"],
            config=doc["config"],
            inputs=doc["inputs"],
            part_size=doc["part_size"],
            finished=doc["finished"],
            parts={part["index"]: Part(**part) for part in doc["parts"]},
        )
    except (ValueError, TypeError, KeyError):
        return None
    if not manifest.finished:
        manifest.parts.update(_committed_since(directory, manifest))
    return manifest


class CommitLog:
    """The parts that were committed since the manifest was written."""

    def __init__(self, directory: Path, of: Manifest) -> None:
        self._journal = Journal(directory / COMMITS, _header(of))

    def append(self, part: Part) -> None:
        """Enter a part: when this returns, no kill and no power cut takes it back."""
        self._journal.append(dump([part.index, vars(part)]))
        self._journal.sync()

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        self._journal.close()

    def delete(self) -> None:
        """Close and delete, once the manifest has all of it."""
        if self._journal.path.exists():
            self._journal.delete()


def _header(of: Manifest) -> dict[str, Any]:
    return {"identity": of.identity, "part_size": of.part_size}


def _committed_since(directory: Path, manifest: Manifest) -> dict[int, Part]:
    """What the log holds, if it is of this ledger; a line that was torn is of a part that recovery finds."""
    path = directory / COMMITS
    with plain_errors(path, "read it"):
        try:
            header, *lines = map(parse_line, path.read_bytes().split(b"\n"))
        except FileNotFoundError:
            return {}
    if header != _header(manifest):
        return {}
    return {line[0]: Part(**line[1]) for line in lines if isinstance(line, list)}
