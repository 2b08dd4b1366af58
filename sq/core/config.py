"""From a Hydra node to a frozen dataclass, or to one `ConfigError` that holds every problem in it.

A config is a frozen, keyword-only dataclass of plain values, next to the code it configures. A node names its
dataclass in `_target_`, which is the only registry there is. Hydra's own `instantiate` would take a string for an
int; every value here goes through `OmegaConf.structured`, and bounds declared with `setting(...)` are checked too.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sq.core.errors import ConfigError

T = TypeVar("T")
TARGET = "_target_"
JOBS = {
    "train": "sq.train.config.TrainJob",
    "synthesize": "sq.synth.config.SynthJob",
    "evaluate": "sq.eval.config.EvalJob",
}
"""The root config of each entry script."""
RULES: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("gt", "above", operator.gt),
    ("ge", "at least", operator.ge),
    ("lt", "below", operator.lt),
    ("le", "at most", operator.le),
)
"""Bound of a setting, the word for it, and the test; a NaN passes none."""


def setting(
    default: Any = MISSING,
    *,
    help: str = "",
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    choices: Iterable[str] | None = None,
) -> Any:
    """Declare a field of a config: its default (none: it must be given), what it is, and what is allowed."""
    metadata = {"help": help, "gt": gt, "ge": ge, "lt": lt, "le": le, "choices": choices and tuple(choices)}
    if isinstance(default, list | dict | set):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(node: Any, cls: type[T] | None = None, *, key: str = "") -> T:
    """Turn `node` into an instance of `cls`, or of the dataclass that its `_target_` names.

    Raises:
        ConfigError: with every problem found: key, value, what is allowed, the nearest valid name.
    """
    problems: list[str] = []
    built = _build(node, cls, key, problems)
    if problems:
        raise ConfigError(*(p for p in problems if not _is_reported(node, p, problems)))
    return typing.cast(T, built)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config (node, dataclass or dict) as one level of dotted keys, for manifests and tracking."""
    if isinstance(node, DictConfig | ListConfig):
        node = OmegaConf.to_container(node, resolve=True)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        node = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
    if isinstance(node, Mapping) and node:
        return {k: v for name, child in node.items() for k, v in flatten(child, _join(prefix, str(name))).items()}
    if isinstance(node, list | tuple) and any(isinstance(c, Mapping) or dataclasses.is_dataclass(c) for c in node):
        return {k: v for i, child in enumerate(node) for k, v in flatten(child, _join(prefix, str(i))).items()}
    return {prefix: node.name.lower() if isinstance(node, Enum) else node}


def conf_dir() -> Path:
    """The directory of the YAML files: `conf/` of a checkout, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "conf"
    return checkout if checkout.is_dir() else package / "conf"


OWN_CONFIGS = "SQ_CONFIG_DIR"


def own_conf_dir() -> Path | None:
    """A directory of the user's own YAML files beside `conf/`: `--config-dir DIR`, or this variable of the environment.

    Raises:
        ConfigError: where it is not there.
    """
    directory = os.environ.get(OWN_CONFIGS)
    if directory and not Path(directory).is_dir():
        raise ConfigError(f"--config-dir (or ${OWN_CONFIGS}) is {directory!r}, which is no directory")
    return Path(directory).resolve() if directory else None


def nearest(name: str, valid: Iterable[str]) -> str:
    """The words ", did you mean 'x'?" where a valid name is close to `name`, else nothing."""
    close = difflib.get_close_matches(str(name), [str(v) for v in valid], n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""


@lru_cache(maxsize=256)
def type_hints(cls: type) -> dict[str, Any]:
    """The types of a config's fields."""
    return typing.get_type_hints(cls)


def load_target(path: str) -> Any:
    """Import what `_target_` names."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{TARGET}={path!r} cannot be imported: {error}") from error


def _is_reported(node: Any, problem: str, problems: Iterable[str]) -> bool:
    """Whether the value is another key's (`source.limit: ${limit}`), and wrong there already."""
    raw = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node
    for name in problem.partition("=")[0].split("."):
        raw = raw.get(name) if isinstance(raw, dict) else None
    reference = re.fullmatch(r"\$\{(?:oc\.select:)?([\w.]+)(?:,[^{}]*)?\}", str(raw))
    return reference is not None and any(other.startswith(f"{reference[1]}=") for other in problems)


def _build(node: Any, cls: Any, key: str, problems: list[str], root: Mapping[str, Any] | None = None) -> Any:
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return node
    values = _as_mapping(node, key, problems)
    if values is None:
        return None
    cls = _target_class(values.pop(TARGET, None), cls, key, problems)
    if cls is None:
        return None
    before, root = len(problems), values if root is None else root
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = type_hints(cls)
    for name in sorted(values.keys() - fields.keys()):
        allowed = ", ".join(sorted(fields))
        hint = nearest(name, fields) or _in_a_group(name, root)
        problems.append(f"unknown key '{_join(key, name)}' (value {values[name]!r}){hint or '.'} Valid keys: {allowed}")
    kwargs = {}
    for name, field in fields.items():
        given = values[name] if name in values else default_of(field)
        kwargs[name] = _field_value(cls, field, hints[name], given, _join(key, name), problems, root)
    if len(problems) > before:
        return None
    try:
        return cls(**kwargs)
    except ValueError as error:  # a rule across fields, raised by __post_init__
        problems.append(f"{key}: {error}" if key else str(error))
        return None


def _in_a_group(name: str, values: Mapping[str, Any]) -> str:
    """The same words where groups of settings have a key of that name: lr, or trainer.lr, is stage.lr."""
    groups = {g: v[TARGET] for g, v in values.items() if isinstance(v, Mapping) and TARGET in v}
    classes = {group: _target_class(target, None, group, []) for group, target in groups.items()}
    have = [g for g, cls in classes.items() if cls is not None and name in (f.name for f in dataclasses.fields(cls))]
    return f", did you mean {' or '.join(repr(f'{group}.{name}') for group in have)}?" if have else ""


def _as_mapping(node: Any, key: str, problems: list[str]) -> dict[str, Any] | None:
    if isinstance(node, DictConfig):
        try:
            return typing.cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
        except OmegaConfBaseException as error:
            problems.append(str(error).split("\n")[0] + (f" (key '{error.full_key}')" if error.full_key else ""))
            return None
    if isinstance(node, Mapping):
        return dict(node)
    problems.append(f"{key or 'the configuration'} is {node!r}, but a group of settings is needed here")
    return None


def _target_class(target: Any, cls: Any, key: str, problems: list[str]) -> Any:
    if target is None:
        if cls is None:
            problems.append(f"{key or 'the configuration'} names no {TARGET}, so there is nothing to build")
        return cls
    try:
        loaded = load_target(str(target))
    except ConfigError as error:
        problems.extend(f"{_join(key, p)}" for p in error.problems)
        return None
    if not (isinstance(loaded, type) and dataclasses.is_dataclass(loaded)):
        problems.append(f"{_join(key, TARGET)}={target!r} is not a config dataclass")
        return None
    if cls is not None and not issubclass(loaded, cls):
        problems.append(f"{_join(key, TARGET)}={target!r} is no {cls.__name__}")
        return None
    return loaded


def default_of(field: dataclasses.Field[Any]) -> Any:
    """What a field is where it is not given; MISSING if it must be."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING


def _field_value(
    cls: type,
    field: dataclasses.Field[Any],
    hint: Any,
    value: Any,
    key: str,
    problems: list[str],
    root: Mapping[str, Any],
) -> Any:
    if isinstance(value, str) and value == MISSING:
        text = field.metadata.get("help")
        problems.append(f"'{key}' must be given{f' ({text})' if text else ''}")
        return None
    nested = dataclass_in(hint)
    if nested is not None:
        if isinstance(value, list | tuple):
            return tuple(_build(v, nested, f"{key}.{i}", problems, root) for i, v in enumerate(value))
        if isinstance(value, dict) and typing.get_origin(hint) is dict:
            if not dataclasses.fields(nested):  # a base: only what the group's list names brings its class
                strays = [n for n, v in value.items() if isinstance(v, dict) and TARGET not in v]
                problems.extend(f"{key}.{n} is set, but {key}=[...] does not name {n}: add it there" for n in strays)
                value = {n: v for n, v in value.items() if n not in strays}
            return {name: _build(v, nested, f"{key}.{name}", problems, root) for name, v in value.items()}
        return None if value is None and _optional(hint) else _build(value, nested, key, problems, root)
    kinds = typing.get_args(hint)
    if type(value) is int and float in kinds and int not in kinds:  # of several types OmegaConf takes no 1 for 1.0
        value = float(value)
    if isinstance(value, str) and (options := enum_in(hint)):
        value = next((e for e in options if value.lower() == e.name.lower()), value)
    try:
        if not _is_of(hint, value):
            checked = OmegaConf.merge(_schema(hint), {"value": value})
            value = OmegaConf.to_container(checked, resolve=True)["value"]  # type: ignore[index,call-overload]
    except (OmegaConfBaseException, ValueError) as error:
        allowed = _allowed(hint, error, key, value)
        near = nearest(str(value), [e.name.lower() for e in enum_in(hint) or ()])
        problems.append(f"{key}={value!r} is not {allowed}{near}")
        return None
    _check_bounds(field, value, key, problems)
    return tuple(value) if isinstance(value, list) and typing.get_origin(hint) is tuple else value


@lru_cache(maxsize=256)
def _schema(hint: Any) -> Any:
    """A node with one value of this type, by which OmegaConf converts."""
    single = dataclasses.make_dataclass("Setting", [("value", hint, dataclasses.field(default=MISSING))])
    return OmegaConf.structured(single)


def _is_of(hint: Any, value: Any) -> bool:
    """Whether the value is of this type as it stands, as most are; OmegaConf takes a hundred times as long."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is_of(each, value) for each in typing.get_args(hint))
    if typing.get_origin(hint) in (list, dict) and type(value) is typing.get_origin(hint):
        parts = [value] if isinstance(value, list) else [list(value), list(value.values())]
        return all(_is_of(each, v) for each, part in zip(typing.get_args(hint), parts, strict=True) for v in part)
    return hint in (str, int, float, bool, type(None)) and type(value) is hint


def _check_bounds(field: dataclasses.Field[Any], value: Any, whole: str, problems: list[str]) -> None:
    bounds, choices = field.metadata, field.metadata.get("choices")
    items = value if isinstance(value, list) else [value]
    named = [(_join(whole, k), v) for k, v in value.items()] if isinstance(value, dict) else [(whole, v) for v in items]
    for key, item in named:
        if choices and item is not None and item not in choices:
            problems.append(f"{key}={item!r} is not one of {', '.join(choices)}{nearest(str(item), choices)}")
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        if math.isinf(item):
            problems.append(f"{key}={item!r} must be finite")
            continue
        broken = [
            f"{word} {bounds[n]}" for n, word, ok in RULES if bounds.get(n) is not None and not ok(item, bounds[n])
        ]
        if broken:
            problems.append(f"{key}={item!r} must be {' and '.join(broken)}")


def _allowed(hint: Any, error: Exception, key: str, value: Any) -> str:
    if options := enum_in(hint):
        return "one of " + ", ".join(e.name.lower() for e in options)
    if any(typing.get_origin(each) is dict for each in (hint, *typing.get_args(hint))):
        entry = "{question: THEIR_NAME}" if key.endswith("columns") else "{NAME: VALUE}"
        return f"a map: '{key}={entry}'"
    if "is not a ListConfig" in str(error):
        return f"a list: '{key}=[{value}]'"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint) or f"valid: {str(error).splitlines()[0]}"


def enum_in(hint: Any) -> type[Enum] | None:
    """The Enum in `E` or `E | None`, if there is one."""
    enums = (h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and issubclass(h, Enum))
    return next(enums, None)


def _optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def dataclass_in(hint: Any) -> Any:
    """The dataclass in `X`, `X | None`, `list[X]`, `tuple[X, ...]` or `dict[str, X]`, if there is one."""
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
