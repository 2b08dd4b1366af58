"""A command composed with Hydra in this process, as its entry script would compose it, and the words for what is wrong.

Most of a composition is the choice of groups (`model=tiny`). Commands that choose the same, as many stages of a recipe
do, share that part; each has its own values applied to a copy of it, by Hydra itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sq.core.config import build, conf_dir, nearest, own_conf_dir
from sq.core.config_help import groups, stage_problem, stages_of
from sq.core.errors import ConfigError
from sq.core.quoting import QUOTED, word

MOVED = {
    ("engine", name): f"engine={name} is now a setting of synthesize.py, beside the engine of each worker: "
    f"engine=vllm {now}. An evaluation has one engine (engine.tensor_parallel=2 spreads it over GPUs); for more, "
    "engine=openai engine.ids=true asks a `vllm serve --data-parallel-size 8`"
    for name, now in {"ray": "workers=8 cluster.address=auto", "node-vllm": "workers=8"}.items()
}
"""Options that there were, and what to say in their place."""
SOURCE = "source@stage.source"
"""Where Hydra has the group `source`: the defaults of conf/stage/questions.yaml choose it for that stage alone."""


def compose(script: str, overrides: Sequence[str], package: str) -> DictConfig:
    """The configuration of a command of `script`, whose config is in `package`.

    Raises:
        ConfigError: for overrides that cannot be composed.
    """
    check_stage(overrides, package)
    texts, own = [loosened(text) for text in overrides], own_conf_dir()
    search = (f"hydra.searchpath=[file://{own}]",) if own else ()
    try:
        parsed = [_parsed(text) for text in texts]
        if any(each.is_sweep_override() for each in parsed):
            return _chosen(script, (*search, *texts))  # Hydra says that several values are a sweep
        choices = tuple(text for text, each in zip(texts, parsed, strict=True) if _is_choice(each))
        config = copy.deepcopy(_chosen(script, (*search, *choices)))
        ConfigLoaderImpl._apply_overrides_to_config([each for each in parsed if not _is_choice(each)], config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error
    return config


def load_option(group: str, name: str) -> Any:
    """What the option of a group builds, with the options that its YAML takes in; None where there is none."""
    own = own_conf_dir()
    if not any((place / group / f"{name}.yaml").is_file() for place in (conf_dir(), own) if place is not None):
        return None
    try:
        config = _chosen(f"{group}/{name}", (f"hydra.searchpath=[file://{own}]",) if own else ())
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error
    return build(config[group], key=group)


def plain(config: DictConfig) -> dict[str, Any]:
    """A composition as plain values; interpolations stay as written."""
    return dict(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]


def loosened(argument: str) -> str:
    """`key=value` may set any key that the config's dataclass has, whether or not the YAML mentions it.

    Hydra would ask for a plus sign. An unknown key is found later, with all other problems, by `build`. An expression
    (`where=fail_rate >= 0.5`) is quoted for Hydra, whose grammar has no comparisons. `source=evol` is the group of
    stage=questions.
    """
    key, equals, value = argument.partition("=")
    if key == "source" and not value.startswith("{"):
        return f"{SOURCE}={value}"
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key) or key in groups():
        return argument
    if key.rpartition(".")[2] == "where" and not QUOTED.fullmatch(value):
        value = word(None if value == "null" else value)
    return f"++{key}={value}"


def check_stage(overrides: Sequence[str], package: str) -> None:
    """Refuse a stage of another script, or none at all, before Hydra composes anything."""
    own = stages_of(package)
    given = [o.partition("=")[2] for o in overrides if o.startswith("stage=")]
    if own and not given:
        raise ConfigError(f"stage= must be given: one of {', '.join(own)}")
    for stage in (s.strip() for text in given for s in text.split(",")):
        if own and (problem := stage_problem(stage, package)):
            raise ConfigError(problem)


def explain(error: Exception) -> str:
    """Hydra's and OmegaConf's errors in the words of this project: key, value, what is allowed, nearest name."""
    text = "\n".join(
        dict.fromkeys(str(e).strip() for e in (error, error.__cause__) if e is not None and str(e).strip())
    )
    if match := re.search(r"Could not (?:find|load) '(\w+)/(.+?)'", text):
        group, option = match.groups()
        if (group, option) in MOVED:
            return MOVED[group, option]
        options = groups().get(group, [])
        return f"{group}={option} is not one of {', '.join(options)}{nearest(option, options)}"
    if re.search(r"Unknown function", text):
        return unreadable(_override(error), text)
    if match := re.search(r"Could not override '(.+?)'", text):
        if match[1] == SOURCE:
            return "source= chooses where stage=questions has its questions from; settings of the input are source.KEY="
        return f"{match[1]}= is no setting of this script; --help lists those it has"
    if re.search(r"mismatched input|extraneous input|no viable alternative|token recognition|Lexer", text):
        return unreadable(_override(error), text)
    if match := re.search(r"Ambiguous value for argument '\+*(.+?)'", text):
        return f"{match[1]}: several values need -m (a sweep); as one list write key=[a,b], as one text key='\"a,b\"'"
    return text


def unreadable(override: str, text: str) -> str:
    """That Hydra's grammar cannot read an override, why by its own error, and how it is written."""
    if match := re.search(r"evaluating '(.+?)': Unknown function", text):
        return (
            f"{override} cannot be read: {match[1]} looks like a function. Quote a text with brackets: "
            "'key=\"a (b)\"', 'columns={question: \"a (b)\"}'"
        )
    if not override.isascii():
        return (
            f"{override} cannot be read. Quote a text with letters beyond a to z: "
            "'key=\"Größe\"', 'columns={solution: \"Lösung\"}'"
        )
    return (
        f"{override} cannot be read: {text.splitlines()[0].replace('++', '')}\n"
        "Overrides are key=value; quote a value with special characters: 'key=\"a,b\"'"
    )


@lru_cache(maxsize=256)
def _chosen(script: str, choices: tuple[str, ...]) -> DictConfig:
    """The composition of a script with these choices of groups, as `hydra.compose` makes it.

    That would compose Hydra's own settings too, ten files, and then drop them.
    """
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        parsed, repository = loader._parse_overrides_and_create_caching_repo(script, list(choices))
        loader.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=False)
        own = [each for each in parsed if not each.key_or_group.startswith("hydra.")]
        defaults = create_defaults_list(repository, script, own, prepend_hydra=False, skip_missing=False)
        config = loader._compose_config_from_defaults_list(defaults.defaults, repository)
    config.pop("hydra", None)  # what the YAMLs say of it
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config(defaults.config_overrides, config)
    return config


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_overrides([text])[0]


def _is_choice(override: Override) -> bool:
    """Whether it chooses an option of a group, by Hydra's rule (a dictionary for a group's key is a value)."""
    return override.key_or_group in groups() and not isinstance(override.value(), dict)


def _override(error: Exception) -> str:
    return str(error.override).lstrip("+") if isinstance(error, OverrideParseException) else "an override"
