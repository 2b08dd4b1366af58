"""What mkdocs cannot find in docs/: start page (README.md), tour (its notebook), reference (the dataclasses)."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sq.core.config import JOBS, conf_dir, default_of, load_target, type_hints  # noqa: E402

RULES = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: add the pages that are made."""
    from mkdocs.structure.files import File

    pages = {"index.md": start_page(), "tour.md": tour_page(), "reference.md": reference_page()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def start_page() -> str:
    """README.md as it is seen from docs/; a link to what is not there becomes its text."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    link = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")
    return link.sub(lambda m: m[0] if (ROOT / "docs" / m[2]).exists() else m[1], text)


def tour_page() -> str:
    """The notebook with its outputs."""
    parts = []
    for cell in json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            text = "".join(output.get("text") or output["data"]["text/plain"]).rstrip()
            parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts)


def reference_page() -> str:
    """Every setting there is, by its dataclass: key, default, what it means, what is allowed."""
    parts = [
        "# Reference",
        "Every setting, by the dataclass that holds it; `--help` of a command has those of that command.",
    ]
    for script, target in JOBS.items():
        parts.append(f"## {script}.py\n\n`sq {script}` and `{script}.py` take these, and the groups below.")
        parts.append(_table(load_target(target), ""))
    for group in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        options: dict[str, list[str]] = {}
        for path in sorted(group.glob("*.yaml")):
            node = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            if isinstance(node.get("_target_"), str):
                options.setdefault(node["_target_"], []).append(path.stem)
        if options and group.name != "recipe":
            parts.append(f"## {group.name}")
        for target, names in options.items() if group.name != "recipe" else ():
            cls = load_target(target)
            parts.append(f"### {', '.join(f'{group.name}={name}' for name in names)}")
            parts.append(f"{(cls.__doc__ or '').strip().splitlines()[0]} (`{target}`)")
            parts.append(_table(cls, f"{group.name}."))
    parts += ["## recipe", "The keys of a recipe's file.", _table(load_target("sq.recipe.config.RecipeConfig"), "")]
    return "\n\n".join(parts) + "\n"


@cache
def _options(group: str) -> list[type]:
    """The dataclasses of a group's files: of `reward_engine` those of `engine`."""
    files = [path for path in sorted(conf_dir().glob("*/*.yaml")) if path.parent.name == group.rpartition("_")[2]]
    nodes = [yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in files]
    return [load_target(name) for name in {n["_target_"]: 0 for n in nodes if isinstance(n.get("_target_"), str)}]


def _table(cls: type, prefix: str) -> str:
    rows = [f"| `{key}` | `{default}` | {about} |" for key, default, about in _settings(cls, prefix)]
    return "\n".join(["| key | default | |", "|---|---|---|", *rows]) if rows else "It has no settings."


def _settings(cls: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        nested = next((t for t in (hint, *get_args(hint)) if dataclasses.is_dataclass(t)), None)
        if isinstance(nested, type):
            many = ".NAME" if get_origin(hint) is dict else ""
            if not any(issubclass(option, nested) for option in _options(field.name)):  # else a group of its own
                yield from _settings(nested, f"{prefix}{field.name}{many}.")
            continue
        if not field.metadata:
            continue
        value = default_of(field)
        default = (
            "to be given" if str(value) == "???" else getattr(value, "name", None) or json.dumps(value, default=str)
        )
        bounds = [
            f"{sign} {field.metadata[rule]:g}" for rule, sign in RULES.items() if field.metadata.get(rule) is not None
        ]
        about = ", ".join(filter(None, [field.metadata.get("help") or "", *bounds]))
        yield prefix + field.name, default.lower() if hasattr(value, "name") else default, about.replace("|", "\\|")
