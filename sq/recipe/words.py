"""A setting of a recipe as the text of a Hydra override, such that Hydra reads the same value back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_KEYWORDS = {"null", "true", "false", "nan", "inf"}


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
    return _text(str(value))


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    backslashes = re.sub(r"(\\+)(?='|$)", r"\1\1", text)  # only before a quote does Hydra take them for escapes
    return "'" + backslashes.replace("'", "\\'") + "'"


def _key(text: str) -> str:
    """A dictionary's key, which Hydra's grammar cannot quote; what is special in it is escaped."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", text)
