"""`sq build RUN`: the dataset, ready for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("build", help="write the final dataset: parquet, lineage, a card with real figures")
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="directory of sq run, or of a stage=select")
    parser.add_argument(
        "--format", default="sft", choices=["sft", "preference", "rlvr"],
        help="what it is for: prompt and completion (the default), chosen against rejected solutions, or questions "
        "with a verifiable answer, agreement and pass rate",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR", help="where it goes; default: RUN/dataset[-FORMAT]")
    parser.add_argument("--licence", metavar="ID", help="the dataset's own, as the hub calls it: apache-2.0, cc-by-4.0")
    parser.add_argument("--name", help="what the card is headed with")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.core.count import count_noun
    from sq.core.files import read_json
    from sq.core.quoting import sq_command
    from sq.report.build import NOTE, build
    from sq.report.dataset_formats import DatasetFormat

    form = DatasetFormat(parsed.format)
    where = build(parsed.run_directory, parsed.output, form=form, licence=parsed.licence, name=parsed.name)
    note = read_json(where / NOTE)
    left_out = ", ".join(f"{count_noun(n, 'question')} with {why}" for why, n in (note.get("left_out") or {}).items())
    rows = count_noun(note["rows"], "row") + (f" (left out: {left_out})" if left_out else "")
    push = f"next: {sq_command()} push {where} --repo OWNER/NAME"
    print(f"dataset: {rows} -> {where} | load_dataset({str(where)!r}) | {push}")
