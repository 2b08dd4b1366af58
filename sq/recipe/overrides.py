"""What a person's overrides change in a recipe, and a refusal of those that would change nothing."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from sq.core.compose import unreadable
from sq.core.config import conf_dir, nearest
from sq.core.errors import ConfigError
from sq.core.quoting import QUOTED
from sq.recipe.config import RecipeConfig
from sq.recipe.graph import plain_name
from sq.recipe.stages import Stage, settings_of, words_in

FIELDS = sorted(f.name for f in dataclasses.fields(RecipeConfig))
_PARTS = {"counts": 2, "let": 2, "set": 2, "tiny": 2, "variants": 2, "scripts": 3, "profile": 4, "stages": 4}
"""Into how many parts a key falls whose last part is a name of one's own, dots and all."""

_PROFILE_WORDS = {"gpus": {"gpus", "all"}, "nodes": {"nodes", "all"}, "address": {"address"}}
"""Fields of a profile with the words that make something of them."""


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of `key=value`, read as Hydra reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is no override; write key=value")
    if key.rpartition(".")[2] == "where" and not QUOTED.fullmatch(value):
        return key.lstrip("+"), None if value == "null" else value
    try:
        return key.lstrip("+"), plain(OverridesParser.create().parse_override(f"value={value}").value())
    except HydraException as error:
        raise ConfigError(unreadable(text, str(error))) from error


def plain(value: Any) -> Any:
    """Hydra's values as Python's: its quoted strings are objects of their own."""
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.text if hasattr(value, "text") else value


def apply_override(node: dict[str, Any], key: str, value: Any) -> None:
    """Put one override in its place in a recipe's YAML."""
    first, _, rest = key.partition(".")
    path = key.split(".", _PARTS.get(first, 99) - 1)
    stages = node.get("stages") or {}
    if first in ("counts", "let") and rest in (node.get("let" if first == "counts" else "counts") or {}):
        raise _unknown_key(node, key, value)
    if key in ("tracking", "profile"):
        node[key] = _group(key, value)
    elif key == "seeds" and not isinstance(value, list):
        also = f"; the count is counts.seeds={value}" if "seeds" in (node.get("counts") or {}) else ""
        raise ConfigError(f"seeds={value!r} is no list: give seeds=[0,1,2]{also}")
    elif first == "stages" and len(path) > 2:
        names = _stages_called(stages, path[1])
        if not names:
            near = nearest(path[1], stages) or "."
            raise ConfigError(f"{key}: {path[1]} is no stage of this recipe{near} Stages: {', '.join(stages)}")
        for name in names:
            _put(stages[name], path[2:], value)
    elif first in FIELDS:
        _put(node, path, value)
    elif rest and (names := _stages_called(stages, first)):
        for name in names:
            _put(stages[name], ["set", rest], value)
    elif group := next((g for g in ("counts", "let") if key in (node.get(g) or {})), None):
        node[group][key] = value
    else:
        raise _unknown_key(node, key, value)


def check_used(
    config: RecipeConfig, stages: Sequence[Stage], given: Mapping[str, Any], mentioned: Collection[str]
) -> None:
    """Refuse words that no stage reads, and overrides that reach no stage.

    Args:
        config: The recipe with its overrides.
        stages: Its stages.
        given: The overrides, key -> value.
        mentioned: The words of the YAML itself. An override may take the place of the only setting that reads a word.

    Raises:
        ConfigError: with every such key, its value, why, and the nearest name that would do something.
    """
    read = _words_read(config)
    problems = [
        f"{group}.{name}={value!r} changes nothing: {_unread(config, name, read)}"
        for group in ("counts", "let")
        for name, value in getattr(config, group).items()
        if name not in read and (name not in mentioned or {name, f"{group}.{name}"} & given.keys())
    ]
    for key, value in given.items():
        problems += [f"{key}={value!r} changes nothing: {why}" for why in _why_unused(config, stages, read, key)]
    if problems:
        raise ConfigError(*problems)


def _put(node: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, part in enumerate(path[:-1], 1):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{'.'.join(path)}={value!r}: {'.'.join(path[:depth])} is one value and has no keys")
    node[path[-1]] = value


def _stages_called(stages: Mapping[str, Any], name: str) -> list[str]:
    """The stages' keys in the YAML: `sft` also stands for `sft-{of}`, where no stage is called just that."""
    return [name] if name in stages else [key for key in stages if plain_name(key) == name]


def _unknown_key(node: Mapping[str, Any], key: str, value: Any) -> ConfigError:
    """A key that sets nothing, with the nearest that a person can set."""
    first, _, rest = key.partition(".")
    stages = node.get("stages") or {}
    words = [name for group in ("counts", "let") for name in node.get(group) or {}]
    keys = _settable(node.get("counts") or {}, node.get("let") or {})
    if first in ("counts", "let") and rest in keys:
        hint = f", did you mean '{keys[rest]}'?"
    elif rest and (template := _repeats(stages, first)):
        short = plain_name(template)
        stage = short if _stages_called(stages, short) == [template] else template
        hint = f", did you mean '{stage}.{rest}'? It sets all of {template}."
    elif setting := _of_a_stage(node, key):
        hint = f", did you mean '{setting}'?"
    else:
        fields = [name for name in FIELDS if not (rest and name == "stages")]  # a stage and a field of it would follow
        near = {name: f"{name}.{rest}" if rest else name for name in (*fields, *stages, *map(plain_name, stages))}
        hint = _nearest(near | keys, first) or "."
    return ConfigError(
        f"{key}={value!r} sets nothing of this recipe{hint} There are: {', '.join(FIELDS)}; "
        f"{', '.join(words) or 'no counts'}; and STAGE.KEY for the stages {', '.join(stages)}"
    )


def _of_a_stage(node: Mapping[str, Any], key: str) -> str | None:
    """With the stage in front, a setting of one: the first that sets it; STAGE where only its group is known."""
    scripts, taken = node.get("scripts") or {}, set[str]()
    for name, stage in (node.get("stages") or {}).items():
        if isinstance(stage, Mapping):
            settings = {**(scripts.get(stage.get("script")) or {}), **(stage.get("set") or {})}
            if key in settings:
                return f"{plain_name(name)}.{key}"
            taken |= settings.keys()
    groups = {setting.partition(".")[0] for setting in taken}
    return f"STAGE.{key}" if key.partition(".")[0] in groups else None


def _repeats(stages: Mapping[str, Any], name: str) -> str | None:
    """The template of which `name` is a repetition: sft-{of} for sft-raw."""
    for template in stages:
        pattern = re.sub(r"\\\{\w+\\\}", r"[\\w.+-]+", re.escape(template))
        if re.fullmatch(rf"{pattern}(-s\d+)?", name):
            return template
    return None


def _settable(counts: Mapping[str, Any], let: Mapping[str, Any]) -> dict[str, str]:
    """Each count and word of `let` with the key that sets it: its name alone, where no field of the recipe has it."""
    return {
        name: f"{group}.{name}" if name in FIELDS else name
        for group, names in (("counts", counts), ("let", let))
        for name in names
    }


def _nearest(keys: Mapping[str, str], name: str) -> str:
    close = difflib.get_close_matches(name, keys, n=1)
    return f", did you mean '{keys[close[0]]}'?" if close else ""


def _group(group: str, option: Any) -> Any:
    """A YAML of conf/GROUP/, as Hydra would take it for `group=option`."""
    path = conf_dir() / group / f"{option}.yaml"
    if not path.is_file():
        options = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"{group}={option} is not one of {', '.join(options)}{nearest(str(option), options)}")
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)


def _words_read(config: RecipeConfig) -> set[str]:
    """The words that stand as {WORD} in what the stages take, and in the words that these read."""
    read: set[str] = set()
    for name, stage in config.stages.items():
        read.update(words_in([name, settings_of(config, stage), stage.each, stage.variant, stage.tags, stage.gain]))
    return read | {inner for name in read & config.let.keys() for inner in words_in(config.let[name])}


def _unread(config: RecipeConfig, name: str, read: set[str]) -> str:
    keys = {word: word for word in ("engine", "domain", "seed")} | _settable(config.counts, config.let)
    keys = {word: key for word, key in keys.items() if word in read}
    return f"no stage reads {{{name}}}{_nearest(keys, name) or '.'} Stages read: {', '.join(sorted(keys))}"


def _why_unused(config: RecipeConfig, stages: Sequence[Stage], read: set[str], key: str) -> Iterator[str]:
    """Why this override reaches no stage; nothing where it reaches one."""
    group, _, name = key.partition(".")
    templates = list(config.stages.values())
    if key == "seed" and config.seeds:
        yield f"the recipe runs for seeds={config.seeds}; give seeds=[...]"
    elif key == "seed" and "seed" not in read and all("seed" in settings_of(config, t) for t in templates):
        yield "every stage sets its own; give STAGE.seed="
    elif key in ("engine", "domain") and key not in read:
        yield _unread(config, key, read)
    elif key in ("scale", "least") and not config.counts:
        yield "the recipe has no counts"
    elif (
        group == "profile"
        and name in _PROFILE_WORDS
        and not _PROFILE_WORDS[name] & {*words_in([config.profile.set, config.profile.launch])}
    ):
        yield f"profile={config.profile.name} sets nothing by it; give profile=node or profile=cluster"
    elif group == "tiny":
        yield f"it is what --tiny changes, which is in place already; give {name or 'KEY'}=VALUE itself"
    elif group == "variants" and name and config.variants[name] not in {stage.variant for stage in stages}:
        yield f"no stage has variant: {name}{nearest(name, [v for v in config.variants if v != name])}"
    elif group == "set" and name and all(name in {**config.scripts.get(t.script, {}), **t.set} for t in templates):
        yield f"every stage that could take it sets its own; give STAGE.{name}="
    elif group == "scripts" and name:
        script, _, setting = name.partition(".")
        own = [template.set for template in templates if template.script == script]
        if not own:
            yield "the recipe has no stage of that script"
        elif all(setting in settings for settings in own):
            yield f"every stage that could take it sets its own; give STAGE.{setting}="
