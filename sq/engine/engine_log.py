"""The log of an engine's libraries: a file in the stage's directory, which errors name, in place of the terminal.

vLLM writes to `STREAM`, and so do the processes that it starts: the file's path is in the environment.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sq.core.secrets import redact

LOG = "engine.log"
FILE = "SQ_ENGINE_LOG"
"""The variable with the file's path; without one, errors go to the terminal."""
_START = "=== "
_TAIL = 1 << 16
_ERROR = re.compile(r"\b[\w.]*(?:Error|Exception|Interrupt|Killed)\b:? +\S")
_PREFIX = re.compile(r"^(?:\([^)]*\) *)*(?:(?:ERROR|CRITICAL) [^\]]*\] *)?")


class _Stream(io.TextIOBase):
    """Appends to the file as it is at the moment, without secrets."""

    def write(self, text: str) -> int:
        path = os.environ.get(FILE)
        if not path:
            return sys.stderr.write(text)
        with suppress(OSError), open(path, "a", encoding="utf-8", errors="replace") as file:
            file.write(redact(text))
        return len(text)


STREAM = _Stream()


@contextmanager
def log_to(path: str | Path) -> Iterator[None]:
    """Engines that are started and used meanwhile log to this file."""
    before = os.environ.get(FILE)
    os.environ[FILE] = str(Path(path).absolute())
    try:
        yield
    finally:
        os.environ.pop(FILE)
        if before is not None:
            os.environ[FILE] = before


def begin(engine: str) -> None:
    """An engine starts: the lines of an earlier one say nothing about it. Libraries that it uses log here too."""
    if os.environ.get(FILE):
        STREAM.write(f"{_START}{engine}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    take_over("transformers")


def take_over(library: str) -> None:
    """The lines of a library that has been imported go to the file."""
    logger = logging.getLogger(library)
    handler = logging.StreamHandler(STREAM)
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s", "%m-%d %H:%M:%S"))
    logger.handlers, logger.propagate = [handler], False


def where_to_look(error: Exception) -> str:
    """What a message says of the log, which gets the traceback: its file, and the last error there but this one."""
    path = os.environ.get(FILE)
    if not path:
        return ""
    STREAM.write("".join(traceback.format_exception(error)))
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        lines = file.read().decode(errors="replace").rpartition(f"\n{_START}")[2].splitlines()
        errors = [_PREFIX.sub("", line).strip() for line in lines if _ERROR.search(line)]
        last = next((line for line in reversed(errors) if line.partition(": ")[2][:100] not in str(error)), None)
        return f". Its log is {path}" + (f". The last error there: {last[:300]}" if last else "")
    return ""
