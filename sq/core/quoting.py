"""Commands to be typed again: a setting as a Hydra override that Hydra and a shell read back as the same value, and
what this Python, `sq` and the entry scripts are called where this process runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
QUOTED = re.compile(r"""(['"])(?:\\.|(?!\1).)*\1""", re.DOTALL)
"""One quoted text from end to end, which Hydra reads as it is."""
_KEYWORDS = {"null", "true", "false", "nan", "inf"}


def quote_override(key: str, value: str | Path) -> str:
    """`key=value` to paste into a shell; a sweep's directory, say, has commas and equals signs in its name."""
    return shlex.quote(f"{key}=" + _text(str(value), quote='"'))


def override(key: str, value: Any) -> str:
    """`key=value`."""
    return f"{key}={word(value)}"


def word(value: Any) -> str:
    """One value: quoted only where Hydra would read it as something else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(str(k))}:{word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(word, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return _text(str(value), quote="'")


def entry_command(script: str) -> str:
    """What one types here for an entry script: its file, where that is at hand, else `sq SCRIPT`."""
    file = Path(__file__).resolve().parents[2] / f"{script}.py"
    if Path(sys.argv[0]).name != "sq" and file.is_file() and file.parent == Path.cwd():
        return f"{python_command()} {script}.py"
    return f"{sq_command()} {script}"


def sq_command() -> str:
    """What one types here for `sq`."""
    own = Path(sys.executable).with_name("sq")
    if shutil.which("sq") and not (own.is_file() and shutil.which("sq") != str(own)):
        return "sq"
    return _from_here(own) if own.is_file() else f"{python_command()} -m sq.cli"


def python_command() -> str:
    """What one types here for this Python."""
    own = Path(sys.executable)
    return "python" if shutil.which("python") == str(own.with_name("python")) else _from_here(own)


def _from_here(program: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


def _text(text: str, *, quote: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    escaped = re.sub(rf"(\\+)(?={quote}|$)", r"\1\1", text)  # only before a quote does Hydra take them for escapes
    return quote + escaped.replace(quote, "\\" + quote) + quote


def _key(text: str) -> str:
    """A dictionary's key, which Hydra's grammar cannot quote; what is special in it is escaped."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", text)
