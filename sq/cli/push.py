"""`sq push DIR --repo OWNER/NAME`: a built dataset to the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("push", help="upload a built dataset to the hub, with the token in $HF_TOKEN")
    parser.add_argument("directory", metavar="DIR", type=Path, help="what sq build wrote")
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="made where it does not exist")
    parser.add_argument("--private", action="store_true", help="if it is made now, make it private")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.report.push import push

    print(f"uploaded: {push(parsed.directory, parsed.repo, private=parsed.private)}")
