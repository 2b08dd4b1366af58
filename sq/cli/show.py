"""`sq show DIR`: rows and rejects, to read and to label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser(
        "show",
        help="show the rows and rejects of a stage, here or in the browser, and label them",
        description="Rows and rejects of the stages in and below a directory. --open gives them to the browser on this "
        "machine, where y keeps, n rejects and m notes; labels go to labels.json beside the rows, to measure judges.",
        epilog="example: sq show outputs/filter-tiny --reason unsolvable --sort difficulty",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="a stage's output_dir, or one above")
    parser.add_argument("--search", metavar="WORDS", default="", help="only rows with all these words")
    parser.add_argument("--reason", metavar="NAME", default="", help="only rejects of this reason; kept: only rows")
    parser.add_argument(
        "--sort", choices=("difficulty", "reward", "reason", "tokens"), default="", help="largest first"
    )
    parser.add_argument("--count", type=int, help="rows to show; default: 10 here, 500 of each stage on a page")
    parser.add_argument("--open", action="store_true", help="serve the page on 127.0.0.1 and open it")
    parser.add_argument("--page", action="store_true", help="write the page as one file, and say where")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where --page goes; default: DIR/show.html")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.core.errors import ConfigError
    from sq.core.files import write_files
    from sq.report.show import RESTRICTED, events_in, format_events, measured, page, read_labels

    directory = parsed.directory
    if parsed.count is not None and parsed.count < 1:
        raise ConfigError(f"--count {parsed.count}: give at least 1")
    most = (parsed.count or 500) if parsed.open or parsed.page else 100_000
    rows = events_in(directory, most=most, search=parsed.search, reason=parsed.reason, sort=parsed.sort)
    restricted = bool(parsed.search or parsed.reason or parsed.sort)
    if parsed.page:
        target = parsed.output or directory / "show.html"
        write_files(
            target.parent, {target.name: page(directory, rows, restricted=restricted).encode("utf-8", "replace")}
        )
        print(f"page: {target}")
    elif parsed.open:
        _serve(directory, rows, restricted)
    else:
        shown = rows[: parsed.count or 10]
        print("\n\n".join("\n".join(format_events([event])) for event in shown))
        trust = RESTRICTED if restricted else measured(rows, read_labels(directory))
        print(f"\n{len(shown):,} of {len(rows):,} rows and rejects; {trust}")


def _serve(directory: Path, rows: Any, restricted: bool) -> None:
    import webbrowser

    from sq.report.show_server import ShowServer

    with ShowServer(directory, rows, restricted=restricted) as server:
        print(f"{server.address}\nCtrl-C ends it; labels are kept in labels.json beside each stage's rows", flush=True)
        webbrowser.open(server.address)
        server.serve_forever()
