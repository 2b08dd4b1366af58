"""The sandbox as evaluation names it. It lives in `sq.sandbox`, a lower package: synthesis runs programs too."""

from __future__ import annotations

from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program, ProgramResult, ProgramStatus, Raised, Script, Unittests

__all__ = [
    "Asserts",
    "Calls",
    "ProgramResult",
    "Program",
    "Raised",
    "Sandbox",
    "SandboxConfig",
    "Script",
    "ProgramStatus",
    "Unittests",
]
