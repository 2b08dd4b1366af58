"""A setting as the text of a Hydra override, such that Hydra reads the same value back; for a shell too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
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


def _text(text: str, *, quote: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    escaped = re.sub(rf"(\\+)(?={quote}|$)", r"\1\1", text)  # only before a quote does Hydra take them for escapes
    return quote + escaped.replace(quote, "\\" + quote) + quote


def _key(text: str) -> str:
    """A dictionary's key, which Hydra's grammar cannot quote; what is special in it is escaped."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", text)
