"""From a `RecipeConfig` to its stages: repeated over seeds and values, `{words}` filled in, references in order."""

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
_WORD = re.compile(r"\{(\w+)(-1)?\}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage as it is run. `settings` keep their references; `overrides` have paths in their place."""

    name: str
    template: str
    """Its name in the YAML, before it was repeated."""
    script: str
    settings: dict[str, Any]
    reads: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    output_dir: Path = Path()
    variant: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    launch: str = ""
    gain: tuple[str, str] | None = None
    """The stages that measured two rounds' questions: it runs only where the second gained on the first."""

    @property
    def kind(self) -> str | None:
        """The stage of the method, as in stage=qft; none for an evaluation."""
        return self.settings.get("stage")


def expand(config: RecipeConfig, directory: Path, engine: str) -> tuple[Stage, ...]:
    """The stages of a recipe, each after all that it reads."""
    words = {**_words(config, engine), "output": str(directory)}
    profile = config.profile
    config = replace(config, profile=replace(
        profile, set=filled(profile.set, profile.words, "profile.set"),
        launch=filled(profile.launch, profile.words, "profile.launch"),
    ))  # fmt: skip
    problems: list[str] = []
    stages: dict[str, Stage] = {}
    shared = _shared(config, words)
    for key, template in config.stages.items():
        try:
            for stage in _repeated(config, key, template, words, shared):
                if stage.name in stages:
                    problems.append(f"stage {key}: {stage.name} is there twice; its name must hold {{KEY}} of each")
                stages[stage.name] = stage
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    order = ordered({name: stage.reads for name, stage in stages.items()})
    directories = {name: directory / name for name in order}
    return tuple(_placed(stages[name], directories) for name in order)


def settings_of(config: RecipeConfig, template: RecipeStage) -> dict[str, Any]:
    """What a stage is given: for every stage, for those of its script, its own; the later wins."""
    return {**config.set, **config.scripts.get(template.script, {}), **template.set}


def words_in(value: Any) -> Iterator[str]:
    """The words in braces in a setting, in lists and dictionaries (their keys too)."""
    if isinstance(value, str):
        yield from (name for name, _ in _WORD.findall(value))
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from words_in(pair)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from words_in(child)


def filled(value: Any, words: Mapping[str, Any], where: str) -> Any:
    """The setting with its words filled in; one that is nothing but a word takes that word's type."""
    if isinstance(value, str):
        if unknown := [name for name in words_in(value) if name not in words]:
            raise ConfigError(
                f"{where}: {{{unknown[0]}}} stands for nothing{nearest(unknown[0], words)}; there are "
                f"{', '.join(sorted(words))}"
            )
        alone = _WORD.fullmatch(value)
        return _word(alone, words, where) if alone else _WORD.sub(lambda m: str(_word(m, words, where)), value)
    if isinstance(value, Mapping):
        return {filled(k, words, where): filled(v, words, where) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [filled(v, words, where) for v in value]
    return value


def _word(match: re.Match[str], words: Mapping[str, Any], where: str) -> Any:
    """What a word stands for; with -1 behind it, the whole number before that."""
    value = words[match[1]]
    if not match[2]:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: {match[0]} takes one from {match[1]}={value!r}, which is no whole number")
    return value - 1


def _words(config: RecipeConfig, engine: str) -> dict[str, Any]:
    """What `{WORD}` stands for in every stage."""
    counts = {name: max(min(config.least, n), round(n * config.scale)) for name, n in config.counts.items()}
    words = {**counts, "engine": engine, "domain": config.domain}
    let = {name: filled(value, words, f"let.{name}") for name, value in config.let.items()}
    return {**let, **words, "seed": config.seed}


def _repeated(
    config: RecipeConfig, key: str, template: RecipeStage, words: Mapping[str, Any], shared: set[str]
) -> Iterator[Stage]:
    """A template's stages: one for each seed and each combination of its values."""
    each = _each(key, template, words)
    seeds = config.seeds or [config.seed]
    for seed in seeds[:1] if template.once else seeds:
        suffix = f"-s{seed}" if len(seeds) > 1 else ""
        for values in itertools.product(*each.values()):
            own = {**words, **dict(zip(each, values, strict=True)), "seed": seed}
            yield _stage(config, key, template, own, suffix, shared)


def _each(key: str, template: RecipeStage, words: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a stage is repeated over."""
    each = {name: filled(values, words, f"stage {key}, each.{name}") for name, values in template.each.items()}
    each = {
        name: [*range(1, n + 1)] if isinstance(n, int) and not isinstance(n, bool) else n for name, n in each.items()
    }
    for name, values in each.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"stage {key}, each.{name}={values!r} is no list of values, nor a number above 0")
    return each


def _shared(config: RecipeConfig, words: Mapping[str, Any]) -> set[str]:
    """The names of the stages that all seeds share."""
    names = set()
    for key, template in config.stages.items():
        if template.once:
            each = _each(key, template, words)
            for values in itertools.product(*each.values()):
                names.add(str(filled(key, {**words, **dict(zip(each, values, strict=True))}, f"stage {key}")))
    return names


def _stage(
    config: RecipeConfig, key: str, template: RecipeStage, words: Mapping[str, Any], suffix: str, shared: set[str]
) -> Stage:
    where, profile = f"stage {key}", config.profile
    name = str(filled(key, words, where)) + ("" if template.once else suffix)
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise ConfigError(
            f"{where}: {name!r} cannot be a stage's name: give it letters, digits and - _ . +, and let it be none of "
            f"{', '.join(RESERVED)}"
        )
    words = {**words, "name": name}
    settings = {k: filled(value, words, f"{where}, {k}") for k, value in settings_of(config, template).items()}
    settings = {**profile.settings(template.script, settings), **settings, "seed": settings.get("seed", words["seed"])}
    gain = _measured(template.gain, words, where)
    if suffix:
        of_seed = {other: other + suffix for other in (*reads(settings), *gain) if other not in shared}
        settings = {k: renamed(value, of_seed) for k, value in settings.items()}
        gain = tuple(of_seed.get(other, other) for other in gain)
    tags = {k: str(filled(value, words, f"{where}, tags.{k}")) for k, value in template.tags.items()}
    return Stage(
        name=name,
        template=key,
        script=template.script,
        settings={**({"stage": settings["stage"]} if "stage" in settings else {}), **settings},
        reads=tuple(dict.fromkeys([*reads(settings), *gain])),
        gain=(gain[0], gain[1]) if gain else None,
        variant=_variant(config, filled(template.variant, words, f"{where}, variant"), where),
        tags={**({"seed": str(words["seed"])} if suffix and not template.once else {}), **tags},
        launch=template.launch or profile.launch.get(template.script, ""),
    )


def _measured(template: str | None, words: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The stages that measured the two rounds before this one; none of a first round."""
    if template is None:
        return ()
    if not isinstance(words.get("round"), int):
        raise ConfigError(f"{where}: gain={template} is for a stage with each.round: a number of rounds")
    of = words["round"]
    return tuple(str(filled(template, {**words, "round": n}, f"{where}, gain")) for n in (of - 2, of - 1) if of > 1)


def _variant(config: RecipeConfig, key: str | None, where: str) -> str | None:
    if key is None or key in config.variants:
        return config.variants[key] if key else None
    raise ConfigError(f"{where}: variant={key} is not one of variants: {', '.join(config.variants) or 'none'}"
                      f"{nearest(key, config.variants)}")  # fmt: skip


def _placed(stage: Stage, directories: Mapping[str, Path]) -> Stage:
    settings = {**stage.settings, "output_dir": str(directories[stage.name])}
    overrides = tuple(override(key, resolved(value, directories)) for key, value in settings.items())
    return replace(stage, overrides=overrides, output_dir=directories[stage.name])
