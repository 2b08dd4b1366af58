"""`sq compare`: two evaluations problem by problem, or all the runs of an experiment by what was varied."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "compare",
        help="compare two evaluations, or the runs of an experiment",
        description="Two directories: whether the evaluations in them differ by more than chance. One name: the runs "
        "of that MLflow experiment (a sweep, say) as a table and a plot; one directory: the runs in and below it.",
        epilog="examples: sq compare outputs/evaluate-a outputs/evaluate-b\n"
        "          sq compare my-sweep --by lr,data.limit --metric val/loss",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what", nargs="+", help="output_dirs of two evaluations, the name of an experiment, or a sweep's output_dir"
    )
    parser.add_argument(
        "--by", metavar="KEYS", help="experiment: settings to group by, with commas; default: those that differ"
    )
    parser.add_argument(
        "--metric", metavar="NAME", action="append", help="experiment: what to compare; may be given several times"
    )
    parser.add_argument("--stage", metavar="NAME", help="experiment: only runs of this stage")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="experiment: default $MLFLOW_TRACKING_URI, else outputs/mlflow.db"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("outputs/compare"), help="experiment: where plot and csv go"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.core.errors import ConfigError

    if len(parsed.what) == 2:
        from sq.eval.compare import compare, format_comparison

        a, b = parsed.what
        print(f"A: {a}\nB: {b}\n{format_comparison(compare(a, b))}")
    elif len(parsed.what) > 2:
        raise ConfigError(
            f"{len(parsed.what)} things cannot be compared: give two evaluations, or one experiment's name"
        )
    elif Path(parsed.what[0]).is_dir():
        from sq.recipe.tracked_runs import experiment_of

        directory = Path(parsed.what[0])
        name, uri = experiment_of(directory)
        _experiment(parsed, name, parsed.tracking_uri or uri, directory)
    else:
        _experiment(parsed, parsed.what[0], parsed.tracking_uri)


def _experiment(parsed: argparse.Namespace, name: str, uri: str | None, within: Path | None = None) -> None:
    import os

    from sq.core.tracking import TrackingConfig
    from sq.recipe.experiment import compare_runs, format_comparison
    from sq.recipe.experiment_plot import write

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or TrackingConfig().uri
    by = [name.strip() for name in (parsed.by or "").split(",") if name.strip()]
    metrics = [name.strip() for text in parsed.metric or [] for name in text.split(",") if name.strip()]
    compared = compare_runs(uri, name, by=by, metrics=metrics, stage=parsed.stage, within=within)
    print(format_comparison(compared))
    picture, table = write(compared, parsed.output)
    print(f"plot: {picture}\ntable: {table}")
