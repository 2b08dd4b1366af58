"""`sq track DIR`: send to MLflow what runs could not, while it was away."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "track",
        help="send to MLflow what runs kept while it was away",
        description="Send what the runs in and below a directory could not, or with --uri all of them. What is there "
        "already is not doubled; runs whose process was killed are closed as such.",
        epilog="example: sq track outputs --uri http://mlflow.my.org:5000",
    )
    parser.add_argument("directory", metavar="DIR", help="a stage's output_dir, or one above: a recipe's, outputs")
    parser.add_argument("--uri", help="send everything to this MLflow: sqlite:///FILE, http://HOST:PORT, ...")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    import logging

    from sq.core.count import count_noun
    from sq.core.tracking import TrackingConfig, send_tracked

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    uri = TrackingConfig(uri=parsed.uri).uri if parsed.uri else None
    print(f"{count_noun(send_tracked(parsed.directory, uri), 'file')} of runs sent")
