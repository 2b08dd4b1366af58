"""What a ledger does when it is opened: find where the last run stopped, and clear up after it.

Nothing here computes a row again; it decides which parts stand. A part whose files are not as they were written is
dropped, a part that was written but not yet entered is taken in, a lost manifest is put together again from the parts.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path

from sq.core.codec import Codec
from sq.core.count import count_noun
from sq.core.errors import DirectoryError
from sq.core.files import plain_errors, remove, sync_directory
from sq.core.journal import read_header
from sq.core.manifest import NAME, OTHER_DIRECTORY, Manifest, Part, load_manifest, write_manifest
from sq.core.parts import adopt, damage, describe

log = logging.getLogger(__name__)
_OURS = re.compile(r"(part|rejects|journal)-(\d{5,})\.(?:parquet|jsonl)")
_LEFTOVER = re.compile(r"(?:(?:part|rejects)-\d{5,}\.parquet|journal-\d{5,}\.jsonl|manifest\.json)\.tmp|commits\.jsonl")


def make_directory(directory: Path) -> None:
    """Make `directory` and its parents, durably."""
    with plain_errors(directory, "make the directory"):
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # a file system that takes none, as /proc
            raise DirectoryError(f"{directory}: no directory can be made there. Choose another output_dir.") from error
        for path in missing:
            sync_directory(path.parent)


def recover(directory: Path, wanted: Manifest, codec: Codec) -> Manifest:
    """The manifest to go on from: all parts in it stand, and nothing unfinished lies about but journals.

    Raises:
        DirectoryError: for a directory of another configuration or input, or one that is no ledger's.
    """
    with plain_errors(directory, "read it"):
        names = sorted(os.listdir(directory))
    files = _Files(names)
    found = load_manifest(directory)
    if found is None:
        manifest = _rebuild(directory, files, wanted, codec)
    elif not found.finished and not found.parts and not files.journals and not files.parts:
        manifest = wanted  # nothing has been computed here yet, so there is nothing to protect
    else:
        found.refuse_other(wanted, directory)
        standing = {index: part for index, part in found.parts.items() if _stands(directory, part)}
        finished = found.finished and len(standing) == len(found.parts)
        manifest = replace(found, parts=standing | _unlisted(directory, files, found, codec), finished=finished)
    if not manifest.finished:  # also finds out now, not in an hour, whether this directory can be written
        write_manifest(directory, manifest)
    _clear_up(directory, files, manifest)
    return manifest


class _Files:
    """The names in a ledger's directory, by what they are."""

    def __init__(self, names: list[str]) -> None:
        self.parts: set[int] = set()
        self.rejects: set[int] = set()
        self.journals: set[int] = set()
        kinds = {"part": self.parts, "rejects": self.rejects, "journal": self.journals}
        self.leftovers = [name for name in names if _LEFTOVER.fullmatch(name)]
        self.others = []
        self.named: dict[tuple[str, int], str] = {}
        for name in names:
            if match := _OURS.fullmatch(name):
                kinds[match[1]].add(int(match[2]))
                self.named[match[1], int(match[2])] = name
            elif not name.startswith(".") and not _LEFTOVER.fullmatch(name):
                self.others.append(name)


def _stands(directory: Path, part: Part) -> bool:
    wrong = damage(directory, part)
    if wrong is None:
        return True
    log.warning("%s: %s; computed again: its %s", directory, wrong, count_noun(part.items, "item"))
    remove(directory / part.file)
    remove(directory / part.rejects_file)
    return False


def _unlisted(directory: Path, files: _Files, found: Manifest, codec: Codec) -> dict[int, Part]:
    """Parts that were written in full when the process died before it could enter them."""
    taken = {}
    for index in files.parts - found.parts.keys():
        about = describe(directory / files.named["part", index])
        if about is not None and about.get("identity") == found.identity:
            part = adopt(directory, index, about, codec)
            if part is not None:
                taken[index] = part
    return taken


def _rebuild(directory: Path, files: _Files, wanted: Manifest, codec: Codec) -> Manifest:
    """The manifest of a directory without a sound one: fresh if it is empty, else from what its files say."""
    if not files.parts and not files.journals:
        if NAME in files.others:
            raise DirectoryError(
                f"{directory / NAME} is damaged, or of another program, and there is no part to rebuild it from. "
                "Choose another output_dir, or delete that file if nothing else needs it."
            )
        if files.others or files.rejects:
            some = ", ".join((files.others or sorted(files.named.values()))[:3])
            raise DirectoryError(
                f"{directory} holds files that are not a stage's output ({some}). Choose an empty or new output_dir."
            )
        return wanted
    abouts = [describe(directory / files.named["part", index]) for index in files.parts]
    headers = [read_header(directory / files.named["journal", index]) for index in files.journals]
    known = [about for about in abouts + headers if about is not None]
    if not known or any(about.get("identity") != wanted.identity for about in known):
        raise DirectoryError(
            f"{directory} has lost its {NAME}, and what else it holds is of another configuration or input, "
            f"or of another program. {OTHER_DIRECTORY}"
        )
    manifest = replace(wanted, part_size=known[0]["part_size"])
    manifest = replace(manifest, parts=_unlisted(directory, files, manifest, codec))
    log.warning("%s: %s was lost or damaged; rebuilt from %s", directory, NAME, count_noun(len(manifest.parts), "part"))
    return manifest


def _clear_up(directory: Path, files: _Files, manifest: Manifest) -> None:
    for name in files.leftovers:
        remove(directory / name)
    for index in files.journals & manifest.parts.keys():
        remove(directory / files.named["journal", index])
    for index in files.parts - manifest.parts.keys():
        remove(directory / files.named["part", index])
    for index in files.rejects:
        if index not in manifest.parts or not manifest.parts[index].rejects:
            remove(directory / files.named["rejects", index])
