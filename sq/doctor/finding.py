"""One line of the doctor's report."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was examined, how it is (ok; missing, which is no harm; problem), and what fixes it."""

    level: str
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f"\n{'':9}-> {self.fix}" if self.fix else ""
        return f"{self.level:<8} {self.name}: {self.text}{fix}"


def ok(name: str, text: str) -> Finding:
    """Nothing to fix."""
    return Finding("ok", name, text)


def missing(name: str, text: str, fix: str = "") -> Finding:
    """An option that is not there."""
    return Finding("missing", name, text, fix)


def problem(name: str, text: str, fix: str) -> Finding:
    """Something that does not work, and the command that fixes it."""
    return Finding("problem", name, text, fix)
