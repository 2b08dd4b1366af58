"""The `sq` command: the entry scripts, and the few things around them, in the order one needs them."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from sq import __version__
from sq.cli.scripts import SCRIPTS, run_script
from sq.core.errors import SqError, quiet_pipe

COMMANDS = (
    "doctor",
    "model",
    "plan",
    "run",
    "scripts",
    "status",
    "report",
    "compare",
    "track",
    "why",
    "show",
    "build",
    "push",
    "grade",
    "determinism",
)
"""In the order of the help; each is a module of this package with `add(commands)`."""

ABOUT = """\
Large sets of reasoning problems with solutions, from scratch, with small open models.

sq train, sq synthesize and sq evaluate run a single stage; in a checkout train.py, synthesize.py and evaluate.py are
the same. Each has --help."""
STEPS = """\
first steps:
  sq doctor                                                 is this machine ready?
  sq run recipe=demo                                        the whole method in miniature, start to page
  sq plan recipe=scalequest-math --hardware H200 --gpus 8   what the paper's recipe would take
  sq run recipe=scalequest-math --dry-run                   its commands, one by one

sq COMMAND --help says more. sq run may be killed anywhere; the same command continues."""


@quiet_pipe()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends in one message and a non-zero exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] in SCRIPTS:
        return run_script(arguments[0], arguments[1:])
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and "overrides" in parsed and all("=" in word and not word.startswith("-") for word in rest):
        parsed.overrides += rest  # key=value after an option, which argparse would not take
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        parsed.run(parsed)
    except KeyboardInterrupt:
        print("\nstopped. The same command continues where it was.", file=sys.stderr)
        sys.exit(130)
    except SqError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sq", description=ABOUT, epilog=STEPS, formatter_class=_Wide)
    parser.add_argument("--version", action="version", version=f"sq {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"{__name__}.{name}").add(commands)
    return parser


class _Wide(argparse.RawDescriptionHelpFormatter):
    """A command and its one line of help beside each other."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=18, width=110)
        self._action_max_length = 16  # argparse forgets that commands are indented
