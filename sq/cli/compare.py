"""`sq compare A B`: whether two evaluations differ by more than chance."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("compare", help="say whether two evaluations differ by more than chance")
    parser.add_argument("a", type=Path, help="output_dir of an evaluation, or of one of its benchmarks")
    parser.add_argument("b", type=Path, help="another one, over the same problems")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.eval.compare import compare, told

    print(told(compare(parsed.a, parsed.b, seed=parsed.seed)))
