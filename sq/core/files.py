"""The file operations a ledger stands on: atomic writes, a directory's lock, and system errors said in one line.

Every write goes through `os` here, so that what is on disk after a kill, a power cut or a full disk can be reasoned
about (and tested) call by call: a file's data is safe before its name is, and its name before anything refers to it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import socket
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sq.core.errors import DirectoryError, HeldError, LedgerError

TEMPORARY = ".tmp"
SHARED = ".shared-"
"""Begins the name of the file that the workers of a directory's holder hold open."""
_AGAIN = "and run the same command again: what was recorded is safe and is not computed again."
_FIXES = {
    errno.ENOSPC: f"Free some space {_AGAIN}",
    errno.EDQUOT: f"Free some of your quota {_AGAIN}",
    errno.EACCES: "Give this user the right to read and write there, or choose another output_dir.",
    errno.EPERM: "Give this user the right to read and write there, or choose another output_dir.",
    errno.EROFS: "Mount the file system writable, or choose another output_dir.",
    errno.ENOTDIR: "A file stands where a directory is needed: choose another output_dir.",
    errno.EEXIST: "A file stands where a directory is needed: choose another output_dir.",
    errno.ENAMETOOLONG: "Choose a shorter output_dir.",
    errno.EMFILE: f"Too many parts are open at once: raise `ulimit -n` {_AGAIN}",
}


_NAMED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
"""Where the directory itself was a mistake."""


@contextmanager
def plain_errors(path: Path, action: str, setting: str = "output_dir") -> Iterator[None]:
    """Turn an `OSError` into a `LedgerError` that names the path, what could not be done, why, and the fix.

    `setting` is the key that gives the path.
    """
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        fix = _FIXES.get(error.errno or 0, f"Fix that {_AGAIN}")
        kind = DirectoryError if error.errno in _NAMED else LedgerError
        raise kind(f"{path}: cannot {action}: {why}. {fix.replace('output_dir', setting)}") from error


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write each file whole or not at all, even through a power cut: temporary name, fsync, rename, fsync directory."""
    for name, data in files.items():
        _write(directory / name, data)
    with plain_errors(directory, "write it"):
        sync_directory(directory)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    with plain_errors(path, "write it"):
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):  # on a full disk the half-written file would hold the space that is missing
                os.unlink(temporary)
            raise


def write_all(fd: int, data: bytes) -> None:
    """`os.write` until all is written: a nearly full disk takes a piece before it refuses the rest."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Delete `path` if it is there."""
    with plain_errors(path, "delete it"), suppress(FileNotFoundError):
        os.unlink(path)


def checksum(path: Path) -> str:
    """The BLAKE2b digest of a file's bytes, 32 hex digits, read in pieces."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file, or no object in it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def digest_of(*texts: str | bytes) -> str:
    """The BLAKE2b digest of some texts in order, 32 hex digits. Where one ends and the next begins matters."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        data = text.encode() if isinstance(text, str) else text
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def code_version(files: Iterable[Path], *also: object) -> str:
    """A short digest of files of code, by name and content, and of what else decides the results of that code."""
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    for value in also:
        digest.update(str(value).encode())
    return digest.hexdigest()


class DirectoryLock:
    """Exclusive use of a directory, until released or until this process dies, however it dies.

    The lock is `flock` on the directory itself, so there is no lock file to go stale. Network file systems cannot lock
    a directory; there a hidden file `.lock` is locked instead, and deleted on release.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / ".lock"
        self._fd: int | None = None
        self._with_file = False
        with plain_errors(directory, "lock it"):
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                self._take(fd)
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._with_file = True
                while not self._take(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)):
                    pass
        _locks.add(self)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock; a forked child does not."""
        return self._fd is not None

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if self._fd is None:
            return
        if self._with_file:
            with suppress(OSError):
                os.unlink(self._file)
        self.forget()

    def forget(self) -> None:
        """Close this process's handle and no more: in a forked child, the parent keeps the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _take(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._with_file and not self._is_current(fd):
                os.close(fd)
                return False
        except BlockingIOError:
            holder = self._holder(fd)
            os.close(fd)
            raise HeldError(
                f"{self.directory}: {holder} is writing to this directory. "
                "Wait until it ends, or stop it, or choose another output_dir."
            ) from None
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def _is_current(self, fd: int) -> bool:
        """Whether the locked file still has its name: a holder that ended in between has deleted it."""
        try:
            current = os.stat(self._file).st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False
        if current:
            os.truncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        return current

    def _holder(self, fd: int) -> str:
        """The process that has the lock, as far as the system tells."""
        with suppress(OSError, ValueError):
            if self._with_file and (named := os.pread(fd, 300, 0).decode()):
                return named
            if process := _locked_files().get(_device(os.fstat(fd))):
                return f"process {process} on this machine"
        return "another process"


def locked_directories(root: Path) -> list[Path]:
    """The directories in and below `root` that a process of this machine has locked, as far as the system tells.

    They are not tried: for that moment a process that starts would find its directory taken.
    """
    locked: Mapping[str, str] = {}
    with suppress(OSError):
        locked = _locked_files()
    found = []
    for place in (root, *(root.rglob("*/") if locked else ())):
        with suppress(OSError):  # gone in between
            if any(_device(os.stat(path)) in locked for path in (place, place / ".lock") if path.exists()):
                found.append(place)
    return found


def _locked_files() -> dict[str, str]:
    """Each file that is locked on this machine, by its device and number, and the process that locked it."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {fields[5]: fields[4] for fields in lines if fields[1] == "FLOCK"}


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def join_directory(marker: Path) -> bool:
    """Take part, until this process ends, in the work of who made `marker`; False where it is not to be seen here."""
    try:
        fd = os.open(marker, os.O_RDONLY)
    except FileNotFoundError:
        return False
    with suppress(OSError):  # where a file system has no locks there is none to wait for
        fcntl.flock(fd, fcntl.LOCK_SH)
    return os.fstat(fd).st_nlink > 0


def wait_for_others(directory: Path, seconds: float = 60.0) -> None:
    """Wait until all have ended that took part in the work of an earlier holder of the directory's lock.

    Raises:
        LedgerError: where one of them does not end.
    """
    until = time.monotonic() + seconds
    for marker in directory.glob(f"{SHARED}*"):
        fd = os.open(marker, os.O_RDONLY)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise LedgerError(
                            f"{directory}: a worker of an earlier run is still at work here. Stop it (`python -m "
                            "sq.synth.worker`), or wait until it ends"
                        ) from None
                    time.sleep(0.02)
                except OSError:  # no locks on this file system
                    break
            remove(marker)
        finally:
            os.close(fd)


# A lock outlives its holder while a forked child has the same open file, so a child closes its copy at once.
_locks: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _forget_locks() -> None:
    for lock in _locks:
        lock.forget()


os.register_at_fork(after_in_child=_forget_locks)
