"""The sandbox as evaluation names it. It lives in `sq.sandbox`, a low room, because synthesis runs programs too."""

from __future__ import annotations

from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Outcome, Program, Raised, Script, Status, Unittests

__all__ = [
    "Asserts",
    "Calls",
    "Outcome",
    "Program",
    "Raised",
    "Sandbox",
    "SandboxConfig",
    "Script",
    "Status",
    "Unittests",
]
