"""What a person sees of the configuration: every key there is, its value, what it means, and its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from sq.core.config import (
    TARGET,
    conf_dir,
    dataclass_in,
    default_of,
    enum_in,
    load_target,
    nearest,
    own_conf_dir,
    type_hints,
)
from sq.core.errors import ConfigError


def show_config(node: Mapping[str, Any]) -> str:
    """The whole configuration as YAML, defaults included, with what each key means behind it."""
    return "\n".join(_lines(node, None, "")) + "\n"


def known_keys(node: Mapping[str, Any]) -> list[str]:
    """Every dotted key that `node` and the dataclasses behind it have."""
    return list(_known(node, None, ""))


def groups() -> dict[str, list[str]]:
    """The config groups and the options of each, the user's own too."""
    return {group: list(paths) for group, paths in _files(conf_dir(), own_conf_dir()).items()}


@lru_cache(maxsize=8)
def _files(*directories: Path | None) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for directory in directories:
        for path in sorted(directory.glob("*/*.yaml")) if directory else ():
            found.setdefault(path.parent.name, {}).setdefault(path.stem, path)
    return found


def show_groups(used: Mapping[str, Any]) -> str:
    """The groups that an entry uses, with their options; a stage only where it belongs to this entry."""
    lines = []
    for group, options in groups().items():
        if group in used:
            lines.append(f"  {group + '=':<11} {' '.join(options)}")
    return "\n".join(lines)


STAGES = {
    "sq.train": ("train.py", "sq.train.stage.StageConfig"),
    "sq.synth": ("synthesize.py", "sq.synth.config.SynthStage"),
}
"""The packages whose jobs take a stage: their script, and the base of their stages' configs."""


def stages_of(package: str) -> list[str]:
    """The stages whose config is in `package`, as in sq.train, or in no package of ours; none where it takes none."""
    if package not in STAGES:
        return []
    paths = _files(conf_dir(), own_conf_dir()).get("stage", {})
    targets = {option: _target(path) for option, path in paths.items()}
    return [o for o, target in targets.items() if target.startswith(package + ".") or not target.startswith("sq.")]


def stage_problem(stage: str, package: str) -> str | None:
    """Why `stage=` cannot be used by the entry script of `package`, naming the script that can."""
    if _is_stage_of(stage, package):
        return None
    own = [option for option in stages_of(package) if option != stage and _is_stage_of(option, package)]
    other = next((script for p, (script, _) in STAGES.items() if p != package and _is_stage_of(stage, p)), None)
    if other:
        return f"stage={stage} is a stage of {other}; here it is one of {', '.join(own)}"
    return f"stage={stage} is not one of {', '.join(own)}{nearest(stage, own)}"


def _is_stage_of(stage: str, package: str) -> bool:
    """Whether the stage is one of `package`; a user's own class is imported to see, as it is when the job is built."""
    if stage not in stages_of(package):
        return False
    target = _target(_files(conf_dir(), own_conf_dir())["stage"][stage])
    if target.startswith("sq."):
        return True
    try:
        cls, base = load_target(target), load_target(STAGES[package][1])
    except ConfigError:
        return True  # said when the job is built, with all else that is wrong
    return not isinstance(cls, type) or issubclass(cls, base)


def _target(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith(TARGET):
            return line.partition(":")[2].strip()
    return ""


def _lines(node: Mapping[str, Any], hint: Any, indent: str) -> Iterator[str]:
    cls, values = _class_of(node, hint), _completed(node, hint)
    if TARGET in node:
        yield f"{indent}{TARGET}: {node[TARGET]}"
    fields = {f.name: f for f in dataclasses.fields(cls)} if cls else {}
    hints = type_hints(cls) if cls else {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, dataclass_in(hints.get(name)), indent + "  ")
            continue
        text = f"{indent}{name}: {_scalar(value)}"
        about = _about(fields[name], hints[name]) if name in fields else ""
        yield f"{text:<44} # {about}" if about else text


def _known(node: Mapping[str, Any], hint: Any, prefix: str) -> Iterator[str]:
    cls = _class_of(node, hint)
    hints = type_hints(cls) if cls else {}
    for name, value in _completed(node, hint).items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _known(value, dataclass_in(hints.get(name)), f"{prefix}{name}.")


def _class_of(node: Mapping[str, Any], hint: Any) -> Any:
    if TARGET not in node:
        return hint
    try:
        target = load_target(str(node[TARGET]))
    except ConfigError:
        return hint
    return target if dataclasses.is_dataclass(target) else hint


def _completed(node: Mapping[str, Any], hint: Any) -> dict[str, Any]:
    """The keys of `node` in the order of its dataclass, absent ones with their defaults."""
    cls = _class_of(node, hint)
    values = {k: v for k, v in node.items() if k != TARGET}
    if cls is None:
        return values
    completed = {f.name: values.pop(f.name) if f.name in values else _default(f) for f in dataclasses.fields(cls)}
    return completed | values


def _default(field: dataclasses.Field[Any]) -> Any:
    value = default_of(field)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return value


def _scalar(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple):
        value = list(value)
    text = str(yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True))
    return text.removesuffix("...\n").strip()


def _about(field: dataclasses.Field[Any], hint: Any) -> str:
    parts = [field.metadata.get("help") or ""]
    options = field.metadata.get("choices") or ()
    if enum := enum_in(hint):
        options = [e.name.lower() for e in enum]
    if options and len(options) <= 12 and not all(o in parts[0] for o in options):
        parts.append(f"({', '.join(options)})")
    return " ".join(p for p in parts if p)
