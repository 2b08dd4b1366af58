"""`sq train`, `sq synthesize`, `sq evaluate`: the entry scripts, which an installed package has without a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

SCRIPTS = {
    "train": ("train a model", "stage=sft model=tiny-base domain=arithmetic"),
    "synthesize": ("make rows with a model", "stage=questions model=tiny"),
    "evaluate": ("measure a model", "model=tiny benchmark=[arithmetic]"),
}
"""What each does, and an example of its overrides."""


def add(commands: Any) -> None:
    """They are listed here; Hydra reads their arguments, so argparse sees none of them."""
    for name, (about, _) in SCRIPTS.items():
        commands.add_parser(name, help=f"{about}: the script {name}.py")


def run_script(name: str, arguments: Sequence[str]) -> None:
    """Run the entry script `name` with these arguments."""
    from sq.core.config import JOBS, load_target
    from sq.core.entry import main
    from sq.core.provenance import remember_command
    from sq.core.quoting import entry_command

    remember_command(["sq", name, *arguments])
    sys.argv[1:] = arguments
    about, example = SCRIPTS[name]
    main(name, load_target(JOBS[name]), f"{about.capitalize()}: {entry_command(name)} {example}")
