"""From a `RecipeConfig` to its stages: repeated over seeds and values, `{names}` filled in, references in order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sq.core.config import nearest
from sq.core.errors import ConfigError
from sq.core.quoting import override
from sq.recipe.config import RecipeConfig, RecipeStage
from sq.recipe.graph import ordered, reads, renamed, resolved

RESERVED = ("logs", "report", "scores", "tracking")
"""Directories of a recipe that are no stage's."""
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_ONCE = "(once)"
"""Where the names of stages that all seeds share are kept among the words; no blank can have that name."""
_BLANK = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage as it is run. `settings` keep their references; `overrides` have paths in their place."""

    name: str
    base: str
    """Its name in the YAML, before it was repeated."""
    script: str
    settings: dict[str, Any]
    reads: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    output_dir: Path = Path()
    variant: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    launch: str = ""

    @property
    def kind(self) -> str | None:
        """The stage of the method, as in stage=qft; none for an evaluation."""
        return self.settings.get("stage")


def expand(config: RecipeConfig, directory: Path, engine: str) -> tuple[Stage, ...]:
    """The stages of a recipe, each after all that it reads.

    Raises:
        ConfigError: with every problem of names, blanks and references.
    """
    words = {**blanks(config, engine), "output": str(directory)}
    words[_ONCE] = _once(config, words)
    problems: list[str] = []
    stages: dict[str, Stage] = {}
    for base, template in config.stages.items():
        try:
            for stage in _repeated(config, base, template, words):
                if stage.name in stages:
                    problems.append(f"stage {base}: {stage.name} is there twice; its name must hold {{KEY}} of each")
                stages[stage.name] = stage
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    order = ordered({name: stage.reads for name, stage in stages.items()})
    directories = {name: directory / name for name in order}
    return tuple(_placed(stages[name], directories) for name in order)


def blanks(config: RecipeConfig, engine: str) -> dict[str, Any]:
    """What `{NAME}` stands for in every stage."""
    counts = {name: max(min(config.least, n), round(n * config.scale)) for name, n in config.counts.items()}
    words = {**counts, "engine": engine, "domain": config.domain}
    let = {name: filled(value, words, f"let.{name}") for name, value in config.let.items()}
    return {**let, **words, "seed": config.seed}


def words_in(value: Any) -> Iterator[str]:
    """The names of the blanks in a setting, in lists and dictionaries (their keys too)."""
    if isinstance(value, str):
        yield from _BLANK.findall(value)
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from words_in(pair)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from words_in(child)


def filled(value: Any, words: Mapping[str, Any], where: str) -> Any:
    """The setting with its blanks filled in; one that is nothing but a blank takes the word's type.

    Raises:
        ConfigError: for a blank that stands for nothing.
    """
    if isinstance(value, str):
        if unknown := [name for name in _BLANK.findall(value) if name not in words]:
            known = f"there are {', '.join(sorted(w for w in words if w.isidentifier()))}"
            raise ConfigError(f"{where}: {{{unknown[0]}}} stands for nothing{nearest(unknown[0], words)}; {known}")
        alone = _BLANK.fullmatch(value)
        return words[alone[1]] if alone else _BLANK.sub(lambda found: str(words[found[1]]), value)
    if isinstance(value, Mapping):
        return {filled(k, words, where): filled(v, words, where) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [filled(v, words, where) for v in value]
    return value


def _repeated(config: RecipeConfig, base: str, stage: RecipeStage, words: Mapping[str, Any]) -> Iterator[Stage]:
    """A template's stages: one for each seed and each combination of its values."""
    each = _each(base, stage, words)
    several = len(config.seeds) > 1
    seeds = (config.seeds[:1] if stage.once else config.seeds) or [config.seed]
    for seed, values in itertools.product(seeds, itertools.product(*each.values())):
        own = {**words, **dict(zip(each, values, strict=True)), "seed": seed}
        suffix = f"-s{seed}" if several and not stage.once else ""
        one = _one(config, base, stage, own, suffix)
        if several:
            names = {other: other if other in words[_ONCE] else f"{other}-s{seed}" for other in one.reads}
            settings = {key: renamed(value, names) for key, value in one.settings.items()}
            tags = {"seed": str(seed), **one.tags} if suffix else one.tags
            one = replace(one, settings=settings, reads=reads(settings), tags=tags)
        yield one


def _each(base: str, stage: RecipeStage, words: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a stage is repeated over."""
    each = {key: filled(values, words, f"stage {base}, each.{key}") for key, values in stage.each.items()}
    for key, values in each.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"stage {base}, each.{key}={values!r} is no list of values")
    return each


def _once(config: RecipeConfig, words: Mapping[str, Any]) -> set[str]:
    """The names of the stages that all seeds share."""
    found = set()
    for base, stage in config.stages.items():
        each = _each(base, stage, words) if stage.once else {}
        for values in itertools.product(*each.values()) if stage.once else ():
            found.add(str(filled(base, {**words, **dict(zip(each, values, strict=True))}, f"stage {base}")))
    return found


def _one(config: RecipeConfig, base: str, stage: RecipeStage, words: Mapping[str, Any], suffix: str) -> Stage:
    where = f"stage {base}"
    name = str(filled(base, words, where)) + suffix
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise ConfigError(
            f"{where}: {name!r} cannot be a stage's name: give it letters, digits and - _ . +, and let it be none of "
            f"{', '.join(RESERVED)}"
        )
    words = {**words, "name": name}
    given = {**config.set, **config.scripts.get(stage.script, {}), **stage.set}
    settings = {key: filled(value, words, f"{where}, {key}") for key, value in given.items()}
    settings.setdefault("seed", words["seed"])
    return Stage(
        name=name,
        base=base,
        script=stage.script,
        settings={**({"stage": settings["stage"]} if "stage" in settings else {}), **settings},
        reads=reads(settings),
        variant=_variant(config, filled(stage.variant, words, f"{where}, variant"), where),
        tags={key: str(filled(value, words, f"{where}, tags.{key}")) for key, value in stage.tags.items()},
        launch=stage.launch,
    )


def _variant(config: RecipeConfig, key: str | None, where: str) -> str | None:
    if key is None or key in config.variants:
        return config.variants[key] if key else None
    raise ConfigError(f"{where}: variant={key} is not one of variants: {', '.join(config.variants) or 'none'}"
                      f"{nearest(key, config.variants)}")  # fmt: skip


def _placed(stage: Stage, directories: Mapping[str, Path]) -> Stage:
    settings = {**stage.settings, "output_dir": str(directories[stage.name])}
    overrides = tuple(override(key, resolved(value, directories)) for key, value in settings.items())
    return replace(stage, overrides=overrides, output_dir=directories[stage.name])
