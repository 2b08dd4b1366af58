"""What pyproject.toml and constraints.txt say of the set to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
ALWAYS = ("gguf", "dev")  # extras that every set has


class SetupError(Exception):
    """What went wrong and what to do about it."""


def chosen_extras(text: str) -> list[str]:
    """["cpu" or "cuda", the rest], with the extras that every set has."""
    names = [n.strip() for n in text.split(",") if n.strip()]
    valid = table()["optional-dependencies"]
    if unknown := [n for n in names if n not in valid]:
        raise SetupError(f"EXTRAS={text!r}: there is no extra {', '.join(unknown)}. There are: {', '.join(valid)}")
    if {"cpu", "cuda"} <= set(names):
        raise SetupError(f"EXTRAS={text!r}: cpu and cuda exclude each other")
    kind = "cuda" if "cuda" in names else "cpu"
    return [kind, *sorted({*names, *ALWAYS} - {kind})]


def table() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def requirements(extra: str) -> list[str]:
    return list(table()["optional-dependencies"][extra])


def pinned(name: str, constraints: Path) -> str:
    match = re.search(rf"^{name}==([^\s+;]+)", constraints.read_text(), re.MULTILINE)
    if match is None:
        raise SetupError(f"{constraints} does not pin {name}")
    return match[1]


def own_pins(constraints: Path) -> str:
    """The pins of what we require ourselves. Others in the tested set fit CPU builds only, and vllm rules them out."""
    own = {normal(requirement) for requirement in table()["dependencies"]}
    return "".join(line + "\n" for line in constraints.read_text().splitlines() if "==" in line and normal(line) in own)


def normal(requirement: str) -> str:
    """A requirement's name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def editable(names: list[str]) -> str:
    return f"{ROOT}[{','.join(names)}]"
