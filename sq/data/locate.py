"""What an input's name stands for: files, a stage's directory, a saved dataset, or a dataset on the hub.

What can be said without reading rows is said here, before any weight is loaded: a missing file with the nearest names,
an unknown format, a directory with nothing in it or with splits of which none is meant.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sq.core.count import count_noun
from sq.core.errors import RowError

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"
}  # fmt: skip
READABLE = ".jsonl, .json, .csv, .tsv (each also with .gz) or .parquet"
SPLIT = "split={} (data.split in training, source.split in synthesis)"
"""How one split of several is asked for."""
_SPLITS = ("train", "test", "validation", "valid", "val", "dev")
_SHARD = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}")
"""A file of a dataset as the hub and `sq build` lay it out below data/; `load_dataset` takes these and no others."""
_NUMBERED = re.compile(r"^([A-Za-z]+)\d+(?=\.)")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class InputKind(Enum):
    """What an input is."""

    FILES = "files"
    STAGE = "stage"
    SAVED = "saved"
    HUB = "hub"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class LocatedInput:
    """An input that was found: its kind, its name, and its files (all of one format) or its directory."""

    kind: InputKind
    name: str
    paths: tuple[Path, ...] = ()

    @property
    def has_columns(self) -> bool:
        """Whether all its rows have the same columns."""
        if self.kind is InputKind.FILES:
            return format_of(self.paths[0]) not in ("jsonl", "json")
        return self.kind is not InputKind.DOMAIN


def locate(name: str, split: str | None = None) -> LocatedInput:
    """Find out what `name` is.

    Raises:
        RowError: where there is nothing of that name, or nothing in it that can be read.
    """
    if name == "domain" or name.startswith("domain:"):
        return LocatedInput(InputKind.DOMAIN, name)
    path = Path(name).expanduser()
    if not os.path.lexists(path):
        return _absent(name, path)
    if not path.exists():
        raise RowError(f"{name} is a link to {os.readlink(path)}, which is not there")
    if not (path.is_file() or path.is_dir()):
        raise RowError(f"{name} is neither a regular file nor a directory; write its rows to a file first")
    if not os.access(path, os.R_OK):
        raise RowError(f"{path} may not be read by this user; change its permissions")
    return _directory(name, path, split) if path.is_dir() else _files(path.name, path)


def format_of(path: Path) -> str:
    """The format that a file's name tells.

    Raises:
        RowError: where it tells none that can be read.
    """
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    form = FORMATS.get("".join(suffixes[-2:-1] if zipped else suffixes[-1:]))
    if form is None or (form == "parquet" and zipped):
        what = f"the ending {''.join(suffixes[-2:])!r}" if suffixes else "a name without an ending"
        raise RowError(f"{path} has {what}, which tells no format that can be read: {READABLE}")
    return form


def _files(name: str, *files: Path) -> LocatedInput:
    formats = {format_of(file): file.name for file in reversed(files)}
    if len(formats) > 1:
        names = ", ".join(sorted(formats.values()))
        raise RowError(f"{name} holds files of more than one format ({names}); name one, or a pattern like *.jsonl")
    return LocatedInput(InputKind.FILES, name, files)


def _absent(name: str, path: Path) -> LocatedInput:
    if glob.has_magic(name):
        if files := [Path(p) for p in sorted(glob.glob(str(path))) if os.path.isfile(p)]:
            return _files(path.name, *files)
        raise RowError(f"no file matches {name}{_near(path)}")
    has_format = bool({s.lower() for s in path.suffixes} & {*FORMATS, ".gz"})
    if _HUB_NAME.fullmatch(name) and not has_format and not ("/" in name and path.parent.is_dir()):
        return LocatedInput(InputKind.HUB, name)
    raise RowError(f"there is no file or directory {name}{_near(path)}")


def _near(path: Path) -> str:
    """The nearest names in the directory of a missing file, or how far the path is right."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = sorted(n for n in os.listdir(parent) if not n.startswith(".")) if os.access(parent, os.R_OK) else []
    if close := difflib.get_close_matches(path.name, names, n=3, cutoff=0.6):
        return f"; did you mean {' or '.join(str(parent / c) for c in close)}?"
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"; {parent.absolute()} has {listed or 'nothing in it'}"


def _directory(name: str, path: Path, split: str | None) -> LocatedInput:
    own = path.absolute().name
    if (path / "manifest.json").is_file():
        return LocatedInput(InputKind.STAGE, own, (path,))
    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        return LocatedInput(InputKind.SAVED, own, (path,))
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_data(p.relative_to(path))]
    if not files:
        listed = f"only {', '.join(sorted(os.listdir(path))[:5])}" if any(path.iterdir()) else "nothing"
        raise RowError(f"{name} holds {listed}: neither a stage's output (manifest.json) nor files in {READABLE}")
    return _files(own, *_of_split(files, path, split))


def _is_data(path: Path) -> bool:
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1:] != [] and suffixes[-1] in FORMATS and not any(p.startswith((".", "_")) for p in path.parts)


def _of_split(files: list[Path], directory: Path, split: str | None) -> list[Path]:
    """The files of one split, where their names tell splits: train unless another is asked for, as of a hub dataset."""
    shards = [(file, _SHARD.match(file.name)) for file in files if file.parent == directory / "data"]
    named = [(file, shard[1]) for file, shard in shards if shard]
    by_split: dict[str, list[Path]] = {}
    firsts = {file: _first_of(file, files) for file in files}
    for file, name in named or [(file, _split_of(firsts[file].relative_to(directory), split)) for file in files]:
        by_split.setdefault(name, []).append(file)
    names = [name for name in by_split if name]
    if not names:
        return files
    if split is None and len(by_split) > 1 and ("" in by_split or "train" not in names):
        first = by_split[names[0]][0]
        others = f" and files of none ({by_split[''][0].name})" if "" in by_split else ""
        raise RowError(
            f"{directory} holds {count_noun(len(names), 'split')} ({', '.join(names)}){others}; say which to read: "
            f"{SPLIT.format(names[0])}, or give a pattern of files, as '{first.parent}/*{first.suffix}'"
        )
    chosen = split or ("train" if "train" in names else names[0])
    if chosen not in names:
        raise RowError(f"{directory} has no split '{split}'; it has {', '.join(names)}")
    return by_split[chosen]


def _first_of(file: Path, files: list[Path]) -> Path:
    """The file that a numbered one goes on from: `test.jsonl`, of `test2.jsonl` beside it."""
    first = file.with_name(_NUMBERED.sub(r"\1", file.name))
    return first if first in files else file


def _split_of(file: Path, wanted: str | None) -> str:
    """The split that a file belongs to by its name or its directories'; empty where they tell none."""
    parts = (re.split(r"[-_.]", part)[0].lower() for part in file.parts)
    return next((part for part in parts if part in _SPLITS or part == wanted), "")
