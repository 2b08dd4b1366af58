"""The errors a person may cause or meet. Each message names what was wrong, the value, and the fix.

Entry points print the message of an `SqError` without a traceback and leave with its `exit_code`;
anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SqError(Exception):
    """Base of every error that is reported to the user as a message."""

    exit_code = 1

    def __str__(self) -> str:
        return re.sub(r"(?<!\.)\.\.(?=\s|$)", ".", super().__str__())  # where one message ends another


class ConfigError(SqError):
    """A configuration that cannot be used. `problems` holds every one found, not only the first."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        if len(problems) == 1:
            message = problems[0]
        else:
            message = f"{len(problems)} problems in the configuration:\n" + "\n".join(f"  - {p}" for p in problems)
        super().__init__(message)


@contextmanager
def problems_under_key(key: str) -> Iterator[None]:
    """Problems with `model.path` and its like are reported under `key`, where another model than the job's stands."""
    try:
        yield
    except ConfigError as error:
        own = (re.sub(r"(?<![\w.])model(?=\.(?:path|tokenizer|chat)\b)", key, problem) for problem in error.problems)
        raise ConfigError(*own) from error


class RowError(SqError):
    """Input rows that cannot be used: a missing file, a file with no usable row, a wrong column."""

    exit_code = 2


class LedgerError(SqError):
    """A stage's output directory that cannot be used: locked, full, its rows not as they should be."""


class DirectoryError(LedgerError):
    """A directory named by mistake: of another config or program, no stage's, a file, not to be written."""

    exit_code = 2


class EngineError(SqError):
    """An engine that cannot start or has broken down (a bad request is a result with an error, not this)."""


class EndpointError(EngineError):
    """An endpoint that serves nobody: away, silent, without money; each process that asks it finds the same."""


class HeldError(LedgerError):
    """A directory that another process is writing to."""


class UnfinishedError(SqError):
    """A stage at the end of its input, with items that have no result yet: the same command goes on with those."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """A reader that goes away, as `| head` does, ends the command without a word."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is flushed at exit goes there
        sys.exit(141)
