"""Digests of what a source is read from; a file is read for it once as long as it does not change."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from sq.core.errors import RowError


def hash_of(*pieces: str) -> str:
    """A digest of several texts."""
    return hashlib.blake2b("\0".join(pieces).encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """A digest of a file's bytes."""
    try:
        status = path.stat()
        return _content_digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise RowError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4096)
def _content_digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
