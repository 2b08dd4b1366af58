"""A recipe from its YAML and a person's overrides: `sq run recipe=demo seed=1 qft.stage.lr=1e-3`.

Overrides reach any key of `RecipeConfig`, a count or word of `let` by its name alone, and a stage's setting as
`STAGE.KEY=value`. A recipe may build on another: `defaults: [demo, _self_]`; a stage, count or word of it that is set
to null is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sq.core.config import build, conf_dir, nearest
from sq.core.errors import ConfigError
from sq.recipe.config import RecipeConfig
from sq.recipe.overrides import apply_override, check_used, parse_override
from sq.recipe.stages import Stage, expand, words_in


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
    def reading(self) -> dict[str, tuple[str, ...]]:
        """Stage -> the stages that it reads."""
        return {stage.name: stage.reads for stage in self.stages}


def load_recipe(name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> Recipe:
    """The recipe `name` of conf/recipe/ (or a YAML file), with these overrides."""
    node = _read(name)
    short = Path(name).stem
    if tiny and not node.get("tiny"):
        raise ConfigError(f"recipe={short} does not say what --tiny should change; give it a section tiny:")
    mentioned = set(words_in(node))
    given = dict(parse_override(text) for text in overrides)
    leave_out_nulls(node)
    if "profile" in node:
        apply_override(node, "profile", node["profile"])
    for key, value in [*(node.get("tiny") or {}).items()] if tiny else []:
        apply_override(node, str(key), value)
    for key, value in given.items():
        apply_override(node, key, value)
    config = build(node, RecipeConfig)
    engine = _engine(config.profile.engine or "auto" if config.engine == "auto" else config.engine)
    directory = Path(config.output_dir or f"outputs/{short}{'-tiny' if tiny else ''}")
    stages = expand(config, directory, engine)
    check_used(config, stages, given, mentioned)
    return Recipe(name=short, config=config, output_dir=directory, stages=stages, engine=engine)


def leave_out_nulls(node: dict[str, Any]) -> None:
    """Leave out the stages, counts and words of a recipe's YAML that it sets to null."""
    for group in {"stages", "counts", "let", "tiny"} & node.keys():
        node[group] = {key: value for key, value in (node[group] or {}).items() if value is not None}


def recipes() -> dict[str, str]:
    """The recipes there are, each with its title, read without building them."""
    titles = {}
    for path in sorted((conf_dir() / "recipe").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        title = next((line.partition(":")[2] for line in lines if line.startswith("title:")), "")
        titles[path.stem] = title.strip().strip("\"'")
    return titles


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
        raise ConfigError(f"recipe={name} is not one of {', '.join(recipes())}{nearest(name, recipes())}")
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
        below = both.get(key)
        both[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both
