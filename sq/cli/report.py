"""`sq report RUN`: the page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("report", help="write the page of a run: figures, funnel, cost, rows to look at")
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="directory of sq run, or one above some stages")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the page goes; default: RUN/report")
    parser.add_argument("--embed", metavar="MODEL", help="model to map questions with; default: the run's own base")
    parser.add_argument(
        "--safety", metavar="MODEL", help="classify a sample with this model (Llama-Guard); default: none"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.report.page import write_report

    page = write_report(parsed.run_directory, output=parsed.output, embed=parsed.embed, guard=parsed.safety)
    print(f"report: {page}")
