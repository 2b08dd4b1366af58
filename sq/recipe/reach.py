"""What an override of a recipe reaches. A word or setting that no stage takes would be accepted and change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sq.core.config import nearest
from sq.core.errors import ConfigError
from sq.recipe.config import RecipeConfig, RecipeStage
from sq.recipe.expand import Stage, words_in


def check_reach(
    config: RecipeConfig, stages: Sequence[Stage], given: Mapping[str, Any], mentioned: Collection[str]
) -> None:
    """Refuse words that no stage reads, and overrides that reach no stage.

    Args:
        config: The recipe with its overrides.
        stages: Its stages.
        given: The overrides, key -> value.
        mentioned: The blanks of the YAML itself. An override may take the place of the only setting that reads a word.

    Raises:
        ConfigError: with every such key, its value, why, and the nearest name that would do something.
    """
    read = _words_read(config)
    words = read & {*config.counts, *config.let, "engine", "domain", "seed"}
    problems = [
        f"{group}.{name}={value!r} changes nothing: {_unread(name, words)}"
        for group in ("counts", "let")
        for name, value in getattr(config, group).items()
        if name not in read and (name not in mentioned or {name, f"{group}.{name}"} & given.keys())
    ]
    for key, value in given.items():
        if reason := _why_not(config, stages, words, key):
            problems.append(f"{key}={value!r} changes nothing: {reason}")
    if problems:
        raise ConfigError(*problems)


def _why_not(config: RecipeConfig, stages: Sequence[Stage], read: set[str], key: str) -> str:
    """Why this override reaches no stage; nothing where it reaches one."""
    group, _, name = key.partition(".")
    if key == "seed":
        if config.seeds:
            return f"the recipe runs for seeds={config.seeds}; give seeds=[...]"
        own = all("seed" in _settings(config, stage) for stage in config.stages.values())
        return "every stage sets its own; give STAGE.seed=" if own and "seed" not in read else ""
    if key in ("engine", "domain") and key not in read:
        return _unread(key, read)
    if key in ("scale", "least") and not config.counts:
        return "the recipe has no counts"
    if group == "tiny":
        return f"it is what --tiny changes, which is in place already; give {name or 'KEY'}=VALUE itself"
    if group == "variants" and name and config.variants[name] not in {stage.variant for stage in stages}:
        return f"no stage has variant: {name}{nearest(name, [v for v in config.variants if v != name]) or ''}"
    if group == "set" and name:
        return _shadowed(name, [{**config.scripts.get(s.script, {}), **s.set} for s in config.stages.values()])
    if group == "scripts" and name:
        script, _, setting = name.partition(".")
        return _shadowed(setting, [s.set for s in config.stages.values() if s.script == script])
    return ""


def _shadowed(setting: str, stages: Sequence[Mapping[str, Any]]) -> str:
    """Why a setting for all stages reaches none of them, whose own settings are `stages`."""
    if not stages:
        return "the recipe has no stage of that script"
    own = all(setting in settings for settings in stages)
    return f"every stage that could take it sets its own; give STAGE.{setting}=" if own else ""


def _words_read(config: RecipeConfig) -> set[str]:
    """The words that stand as {WORD} in what the stages take, and in the words that these read."""
    read: set[str] = set()
    for name, stage in config.stages.items():
        read.update(words_in([name, _settings(config, stage), stage.each, stage.variant, stage.tags]))
    return read | {inner for name in read & config.let.keys() for inner in words_in(config.let[name])}


def _settings(config: RecipeConfig, stage: RecipeStage) -> dict[str, Any]:
    return {**config.set, **config.scripts.get(stage.script, {}), **stage.set}


def _unread(name: str, read: set[str]) -> str:
    return f"no stage reads {{{name}}}{nearest(name, read) or '.'} Stages read: {', '.join(sorted(read))}"
