"""`sq grade FILE`: outputs in a file against its references, by the graders of evaluate.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("grade", help="grade outputs in a file against its references")
    parser.add_argument("file", type=Path, help="jsonl, json, csv, tsv (each also with .gz) or parquet")
    parser.add_argument(
        "--output", type=Path, help="where the graded rows go; default: NAME.graded.SUFFIX beside the file"
    )
    parser.add_argument("--profile", action="append", help="strict (default), dart, math-verify; strict,dart for both")
    for column in ("prediction", "reference", "question", "finish_reason", "tolerance", "relative_tolerance"):
        flag = f"--{column.replace('_', '-')}"
        parser.add_argument(flag, default=column, metavar="COLUMN", help=f"column of the {column.replace('_', ' ')}")
    parser.add_argument("--encoding", help="of text that is not UTF-8: cp1252, utf-16, gb18030, ...")
    parser.add_argument("--workers", type=int, help="grading processes; default: one a core")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from tqdm import tqdm

    from sq.core.count import count_noun
    from sq.core.errors import ConfigError
    from sq.eval.grade_file import Columns, grade_file
    from sq.eval.grader_config import GraderConfig

    if parsed.workers is not None and parsed.workers < 1:
        raise ConfigError(f"--workers {parsed.workers} must be at least 1")
    columns = Columns(
        prediction=parsed.prediction,
        reference=parsed.reference,
        question=parsed.question,
        finish_reason=parsed.finish_reason,
        tolerance=parsed.tolerance,
        relative_tolerance=parsed.relative_tolerance,
    )
    profiles = [name.strip() for given in parsed.profile or ["strict"] for name in given.split(",") if name.strip()]
    with tqdm(unit="row", desc="grade", leave=False, dynamic_ncols=True, disable=None) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        config = GraderConfig(workers=parsed.workers)
        summary = grade_file(parsed.file, parsed.output, profiles, columns, config, show, parsed.encoding)
    for profile, statuses in summary.statuses.items():
        counts = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
        graded = count_noun(summary.rows - summary.errors, "row")
        print(f"{profile}: {100 * summary.score(profile):.1f}% of {graded} correct ({counts})")
    if summary.errors:
        errors = count_noun(summary.errors, "row")
        print(f"not counted, as they could not be graded: {errors} of {summary.rows:,} (see their column 'error')")
    print(f"graded rows: {summary.output}")
