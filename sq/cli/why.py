"""`sq why ROW`: the story of a row."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("why", help="tell the story of a row: what made it, judged it, was made from it")
    parser.add_argument(
        "row",
        help="its id, or its first characters; FILE:LINE of an input (DIR/FILE: that file); a directory: its rejects",
    )
    parser.add_argument("more", nargs="*", type=Path, metavar="DIR", help="where stages are, as with --in")
    parser.add_argument(
        "--in", dest="roots", type=Path, metavar="DIR", action="append", help="where stages are; default: outputs"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.synth.why import why

    print(why(parsed.row, [*(parsed.roots or ()), *parsed.more] or [Path("outputs")]))
