"""What reads what: `@STAGE` references in a recipe's settings, the order that follows, and parts of it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sq.core.config import nearest
from sq.core.errors import ConfigError

REFERENCE = re.compile(r"@(?P<stage>[\w.+-]+)(?P<path>/.*)?")


def references(value: Any) -> Iterator[str]:
    """The stages that a setting refers to, in lists and dictionaries (their keys too)."""
    if isinstance(value, str):
        if found := REFERENCE.fullmatch(value):
            yield found["stage"]
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from references(key)
            yield from references(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from references(child)


def reads(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages that a stage's settings refer to, each once."""
    return tuple(dict.fromkeys(name for value in settings.values() for name in references(value)))


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The setting with references to a key of `names` turned into references to what it names."""

    def place(stage: str, path: str) -> str:
        return f"@{names.get(stage, stage)}{path}"

    return _mapped(value, place)


def resolved(value: Any, directories: Mapping[str, Path]) -> Any:
    """The setting with paths in the place of references."""

    def place(stage: str, path: str) -> str:
        return f"{directories[stage]}{path}"

    return _mapped(value, place)


def ordered(reading: Mapping[str, Sequence[str]]) -> list[str]:
    """The stages so that each comes after all it reads; otherwise in the order given.

    Raises:
        ConfigError: for a name that is no stage, and for stages that read each other in a circle.
    """
    problems = [
        f"stage {name} reads @{other}, which is no stage of this recipe{nearest(other, reading)}"
        for name, others in reading.items()
        for other in others
        if other not in reading
    ]
    if problems:
        raise ConfigError(*problems)
    done: dict[str, None] = {}
    waiting = list(reading)
    while waiting:
        ready = next((name for name in waiting if all(other in done for other in reading[name])), None)
        if ready is None:
            raise ConfigError(f"stages read each other in a circle: {' reads '.join(_circle(reading, waiting))}")
        done[ready] = None
        waiting.remove(ready)
    return list(done)


def closure(reading: Mapping[str, Sequence[str]], names: Sequence[str]) -> set[str]:
    """These stages and all that they need."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += reading[name]
    return found


def dependents(reading: Mapping[str, Sequence[str]], names: Sequence[str]) -> set[str]:
    """These stages and all that need them."""
    found = set(names)
    for name in ordered(reading):
        if found.intersection(reading[name]):
            found.add(name)
    return found


def named(pattern: str, bases: Mapping[str, str], flag: str) -> list[str]:
    """The stages that a person means: by name, by the name before it was repeated, or by a pattern with a star.

    Raises:
        ConfigError: where there is none.
    """
    plain = {name: plain_name(base) for name, base in bases.items()}
    found = [n for n in bases if fnmatch.fnmatchcase(n, pattern) or pattern in (bases[n], plain[n])]
    if not found:
        names = dict.fromkeys([*bases, *plain.values()])
        raise ConfigError(f"{flag} {pattern}: no stage has that name{nearest(pattern, names) or '.'} "
                          f"Stages: {', '.join(bases)}")  # fmt: skip
    return found


def plain_name(base: str) -> str:
    """The name of a stage that is repeated without what it is repeated over: sft of sft-{of}."""
    return re.sub(r"-?\{\w+\}", "", base)


def _circle(reading: Mapping[str, Sequence[str]], waiting: Sequence[str]) -> list[str]:
    path = [waiting[0]]
    while True:
        following = next(other for other in reading[path[-1]] if other in waiting)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _mapped(value: Any, place: Any) -> Any:
    if isinstance(value, str):
        found = REFERENCE.fullmatch(value)
        return place(found["stage"], found["path"] or "") if found else value
    if isinstance(value, Mapping):
        return {_mapped(key, place): _mapped(child, place) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(child, place) for child in value]
    return value
