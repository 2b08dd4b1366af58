"""A recipe from its YAML and a person's overrides: `sq run recipe=demo seed=1 qft.stage.lr=1e-3`.

Overrides reach any key of `RecipeConfig`, a count or word of `let` by its name alone, and a stage's setting as
`STAGE.KEY=value`. A recipe may build on another: `defaults: [demo, _self_]`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sq.core.config import build, conf_dir, nearest
from sq.core.errors import ConfigError
from sq.recipe.config import RecipeConfig
from sq.recipe.expand import Stage, expand, words_in
from sq.recipe.graph import plain_name
from sq.recipe.reach import check_reach

_FIELDS = {f.name for f in dataclasses.fields(RecipeConfig)}
_OPEN = ("counts", "let", "set", "tiny")
"""Groups whose keys are names of one's own, dots and all."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe that is ready to be checked, planned and run."""

    name: str
    config: RecipeConfig
    output_dir: Path
    stages: tuple[Stage, ...]
    """In the order in which they run."""
    engine: str
    """The engine that {engine} stands for."""

    @property
    def title(self) -> str:
        """One line that says what it does."""
        return self.config.title

    @property
    def seed(self) -> int:
        """The seed, the first one of several."""
        return self.config.seeds[0] if self.config.seeds else self.config.seed

    @property
    def domain(self) -> str:
        """The kind of problems."""
        return self.config.domain


def load_recipe(name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> Recipe:
    """The recipe `name` of conf/recipe/ (or a YAML file), with these overrides.

    Raises:
        ConfigError: with what is wrong, its key, value and the nearest name.
    """
    node = _read(name)
    short = Path(name).stem
    if tiny and not node.get("tiny"):
        raise ConfigError(f"recipe={short} says not what --tiny should change; give it a section tiny:")
    mentioned = set(words_in(node))
    for key, value in (node.get("tiny") or {}).items() if tiny else ():
        _set(node, str(key), value)
    given = dict(_parsed(text) for text in overrides)
    for key, value in given.items():
        _set(node, key, value)
    config = build(node, RecipeConfig)
    engine = _engine(config.engine)
    directory = Path(config.output_dir or f"outputs/{short}{'-tiny' if tiny else ''}")
    stages = expand(config, directory, engine)
    check_reach(config, stages, given, mentioned)
    return Recipe(name=short, config=config, output_dir=directory, stages=stages, engine=engine)


def recipes() -> dict[str, str]:
    """The recipes there are, each with its title, read without building them."""
    found = {}
    for path in sorted((conf_dir() / "recipe").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        title = next((line.partition(":")[2] for line in lines if line.startswith("title:")), "")
        found[path.stem] = title.strip().strip("\"'")
    return found


def best_engine() -> str:
    """vLLM where it can be imported, else Hugging Face transformers."""
    return "vllm" if importlib.util.find_spec("vllm") else "hf"


def _engine(name: str) -> str:
    options = sorted(path.stem for path in (conf_dir() / "engine").glob("*.yaml"))
    if name not in ("auto", *options):
        raise ConfigError(f"engine={name!r} is not one of auto, {', '.join(options)}{nearest(name, options)}")
    return best_engine() if name == "auto" else name


def _read(name: str) -> dict[str, Any]:
    """A recipe's YAML with the recipes it builds on merged in, in the order of its `defaults`."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else conf_dir() / "recipe" / f"{name}.yaml"
    if not path.is_file():
        known = recipes()
        raise ConfigError(f"recipe={name} is not one of {', '.join(known)}{nearest(name, known)}")
    try:
        loaded = OmegaConf.load(path)
        own: Any = OmegaConf.to_container(loaded, resolve=True) if isinstance(loaded, DictConfig) else None
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # YAML's own errors share no base with anything that is imported here
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is no YAML: {error}") from error
        raise
    if not isinstance(own, dict):
        raise ConfigError(f"{path} holds no settings")
    merged: dict[str, Any] = {}
    for base in [*own.pop("defaults", []), "_self_"]:
        merged = _merged(merged, own if base == "_self_" else _read(str(base)))
    return merged


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        known = both.get(key)
        both[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


def _parsed(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is no override; write key=value")
    try:
        return key.lstrip("+"), _plain(OverridesParser.create().parse_override(f"value={value}").value())
    except HydraException as error:
        raise ConfigError(f"{text} cannot be read: {str(error).splitlines()[0]}") from error


def _plain(value: Any) -> Any:
    """Hydra's values as Python's: its quoted strings are objects of their own."""
    if isinstance(value, Mapping):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.text if hasattr(value, "text") else value


def _set(node: dict[str, Any], key: str, value: Any) -> None:
    """Put one override in its place."""
    first, _, rest = key.partition(".")
    stages = node.get("stages") or {}
    if first == "tracking" and not rest:
        node["tracking"] = _group("tracking", value)
    elif first == "stages" and rest:
        stage, _, rest = rest.partition(".")
        key, own = (rest.removeprefix("set."), False) if rest.startswith("set.") else (rest, True)
        if not rest:
            stages[stage] = value  # a whole stage, a new one perhaps
            return
        _set_stages(stages, stage, key, value, own=own)
    elif rest and first not in _FIELDS and _stages_named(stages, first):
        _set_stages(stages, first, rest, value, own=False)
    elif rest and first in _OPEN:
        node.setdefault(first, {})[rest] = value
    elif rest and first == "scripts":
        script, _, rest = rest.partition(".")
        node.setdefault(first, {}).setdefault(script, {})[rest] = value
    elif rest and first in _FIELDS:
        inner = node.setdefault(first, {})
        for part in rest.split(".")[:-1]:
            inner = inner.setdefault(part, {})
        inner[rest.rpartition(".")[2]] = value
    elif not rest and first in _FIELDS:
        node[first] = value
    else:
        _set_word(node, key, value, stages)


def _stages_named(stages: Mapping[str, Any], name: str) -> list[str]:
    """The stages' keys in the YAML: `sft` also stands for `sft-{of}`, where no stage is called just that."""
    return [name] if name in stages else [key for key in stages if plain_name(key) == name]


def _set_stages(stages: dict[str, Any], name: str, key: str, value: Any, *, own: bool) -> None:
    """A setting of the stages of that name, or (`own`) a field of the stages themselves."""
    found = _stages_named(stages, name)
    if not found:
        raise ConfigError(
            f"{name}.{key}: {name} is no stage of this recipe{nearest(name, stages)} Stages: {', '.join(stages)}"
        )
    for stage in found:
        place = stages[stage] if own else stages[stage].setdefault("set", {})
        first, dot, rest = key.partition(".")
        if own and dot:
            place.setdefault(first, {})[rest] = value
        else:
            place[key] = value


def _set_word(node: dict[str, Any], key: str, value: Any, stages: Mapping[str, Any]) -> None:
    """A count or a word of `let`, by its name alone."""
    for group in ("counts", "let"):
        if key in (node.get(group) or {}):
            node[group][key] = value
            return
    names = [*_FIELDS, *(node.get("counts") or {}), *(node.get("let") or {}), *stages]
    hint = nearest(key.partition(".")[0], names) or "."
    words = ", ".join([*(node.get("counts") or {}), *(node.get("let") or {})])
    raise ConfigError(f"{key}={value!r} sets nothing of this recipe{hint} There are: {', '.join(sorted(_FIELDS))}; "
                      f"{words or 'no counts'}; and STAGE.KEY for the stages {', '.join(stages)}")  # fmt: skip


def _group(group: str, option: Any) -> Any:
    """A YAML of conf/GROUP/, as Hydra would take it for `group=option`."""
    path = conf_dir() / group / f"{option}.yaml"
    if not path.is_file():
        options = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"{group}={option} is not one of {', '.join(options)}{nearest(str(option), options)}")
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
