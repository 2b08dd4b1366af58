"""`sq status DIR`: how far a run is, from another terminal."""

from __future__ import annotations

import argparse
import time
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("status", help="say how far the stages in a directory are: done, rate, time left")
    parser.add_argument("directory", metavar="DIR", help="an output_dir, a recipe's, or one above: outputs")
    parser.add_argument("--every", metavar="SECONDS", type=float, help="say it again every so many seconds")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.recipe.status import format_status

    print(format_status(parsed.directory), flush=True)
    while parsed.every:
        time.sleep(parsed.every)
        print(f"\n{format_status(parsed.directory)}", flush=True)
