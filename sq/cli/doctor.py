"""`sq doctor`: what is installed, what this machine can do, and what fixes what it cannot."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "doctor",
        help="say what is installed, what this machine can do, what is missing",
        description="Look at packages, hardware, kernels, disk and tracking, and generate one token. Each line is ok, "
        "missing (an option that is not there) or problem (with the command that fixes it; then the exit code is 1).",
    )
    parser.add_argument("--quick", action="store_true", help="import nothing and generate nothing")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds that a trial may take")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.core.count import count_noun
    from sq.doctor import examine

    problems = 0
    for heading, findings in examine(trials=not parsed.quick, timeout=parsed.timeout):
        if findings:
            print(f"\n{heading}", flush=True)
        for finding in findings:
            print(f"  {finding}".replace("\n", "\n  "), flush=True)
            problems += finding.level == "problem"
    print(f"\n{count_noun(problems, 'problem')}")
    if problems:
        sys.exit(1)
