"""What reads what: `@STAGE` references in a recipe's settings, the order that follows, and parts of it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from sq.core.config import nearest
from sq.core.errors import ConfigError

REFERENCE = re.compile(r"@(?P<stage>[\w.+-]+)(?P<path>/.*)?")
Reading = Mapping[str, Sequence[str]]
"""Stage -> the stages that it reads."""


def references(value: Any) -> Iterator[str]:
    """The stages that a setting refers to, in lists and dictionaries (their keys too)."""
    if isinstance(value, str):
        if match := REFERENCE.fullmatch(value):
            yield match["stage"]
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from references(pair)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from references(child)


def reads(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages that a stage's settings refer to, each once."""
    return tuple(dict.fromkeys(name for value in settings.values() for name in references(value)))


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The setting with references to a key of `names` turned into references to what it names."""
    return _replaced(value, lambda stage: f"@{names.get(stage, stage)}")


def resolved(value: Any, directories: Mapping[str, Path]) -> Any:
    """The setting with paths in the place of references."""
    return _replaced(value, lambda stage: str(directories[stage]))


def ordered(reading: Reading) -> list[str]:
    """The stages so that each comes after all it reads; otherwise in the order given."""
    problems = [
        f"stage {name} reads @{other}, which is no stage of this recipe{nearest(other, reading)}"
        for name, others in reading.items()
        for other in others
        if other not in reading
    ]
    if problems:
        raise ConfigError(*problems)
    try:
        TopologicalSorter(reading).prepare()
    except CycleError as error:
        raise ConfigError(f"stages read each other in a circle: {' reads '.join(reversed(error.args[1]))}") from error
    done: dict[str, None] = {}
    waiting = list(reading)
    while waiting:
        ready = next(name for name in waiting if all(other in done for other in reading[name]))
        done[ready] = None
        waiting.remove(ready)
    return list(done)


def closure(reading: Reading, names: Sequence[str]) -> set[str]:
    """These stages and all that they need."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += reading[name]
    return needed


def dependents(reading: Reading, names: Sequence[str]) -> set[str]:
    """These stages and all that need them."""
    after = set(names)
    for name in ordered(reading):
        if after.intersection(reading[name]):
            after.add(name)
    return after


def matching(pattern: str, templates: Mapping[str, str], flag: str) -> list[str]:
    """The stages that a person means: by name, by the name before it was repeated, or by a pattern with a star.

    Args:
        pattern: what was typed after the flag.
        templates: stage -> its name in the YAML, before it was repeated.
        flag: for the message.

    Raises:
        ConfigError: where there is none.
    """
    plain = {name: plain_name(template) for name, template in templates.items()}
    meant = [n for n in templates if fnmatch.fnmatchcase(n, pattern) or pattern in (templates[n], plain[n])]
    if not meant:
        names = dict.fromkeys([*templates, *plain.values()])
        raise ConfigError(f"{flag} {pattern}: no stage has that name{nearest(pattern, names) or '.'} "
                          f"Stages: {', '.join(templates)}")  # fmt: skip
    return meant


def plain_name(template: str) -> str:
    """The name of a stage that is repeated without what it is repeated over: sft of sft-{of}."""
    return re.sub(r"-?\{\w+\}", "", template)


def _replaced(value: Any, stage_text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        match = REFERENCE.fullmatch(value)
        return stage_text(match["stage"]) + (match["path"] or "") if match else value
    if isinstance(value, Mapping):
        return {_replaced(key, stage_text): _replaced(child, stage_text) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(child, stage_text) for child in value]
    return value
