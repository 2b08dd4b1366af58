"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass

OK, MISSING, PROBLEM = "ok", "missing", "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was looked at, how it is (ok; missing, which is no harm; problem), and what fixes it."""

    level: str = OK
    name: str
    text: str
    fix: str = ""
