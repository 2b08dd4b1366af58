"""The entry scripts of an installed package: `python -m sq.recipe.script train stage=...` is `train.py stage=...`."""

from __future__ import annotations

import sys

from sq.core.config import load_target, nearest
from sq.core.entry import main
from sq.recipe.check import JOBS

ABOUT = {
    "train": "Train a model.",
    "synthesize": "Make rows with a model.",
    "evaluate": "Measure a model.",
}


def run() -> None:
    """Take the script's name off the command line and run it."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in JOBS:
        sys.exit(f"error: {name!r} is not one of {', '.join(JOBS)}{nearest(name, JOBS)}")
    main(name, load_target(JOBS[name]), ABOUT[name])


if __name__ == "__main__":
    run()
