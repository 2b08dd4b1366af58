"""A setting as it can be pasted into a shell: quoted where Hydra or the shell would read something else."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z_/.][\w/.@+-]*")


def typed(key: str, value: str | Path) -> str:
    """`key=value` for a command line; a sweep's directory, say, has commas and equals signs in its name."""
    text = str(value)
    if not _PLAIN.fullmatch(text):
        backslashes = re.sub(r'(\\+)(?="|$)', r"\1\1", text)  # only before a quote does Hydra take them for escapes
        text = '"' + backslashes.replace('"', '\\"') + '"'
    return shlex.quote(f"{key}={text}")


def domain_typed(name: str) -> str:
    """` domain=NAME`, where it is not the one that the scripts take by themselves."""
    return "" if name == "arithmetic" else f" {typed('domain', name)}"
