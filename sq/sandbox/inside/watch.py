"""What tests are made of, watched while they share a process with the program that they test.

`Watch` holds builtins and the modules and classes that decide whether a test passes. After the program has been
defined they are put back; from then on a change of them is a forgery, as no honest program has a reason for one.
`guarded` looks for it whenever the tested function has been called, before a test does anything with the answer.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

PREFIXES = ("unittest", "contextlib", "json")
_MAY_BE_PATCHED = ("json", "json.decoder", "json.scanner")
"""Modules whose functions tests replace by mocks; a verdict does not pass through them."""
_DEEPEST, _MOST = 6, 20_000
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, dict)
_mro, _space = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
Space = dict[str, Any]


class ForgeryError(BaseException):
    """The program changed its tests, or answers with what says itself what it equals."""


class Watch:
    """The state that tests depend on, as it was before the program was defined."""

    def __init__(self) -> None:
        self._modules = {n: m for n, m in list(sys.modules.items()) if n.partition(".")[0] in PREFIXES}
        self._held: list[tuple[Any, Space]] = [(module, dict(vars(module))) for module in self._modules.values()]
        kinds = {kind for _, held in self._held for kind in held.values() if isinstance(kind, type)}
        self._held += [(k, dict(vars(k))) for k in kinds if k.__module__.partition(".")[0] in PREFIXES]
        self._others = [(module, dict(vars(module))) for module in (builtins, sys.modules["os"])]
        self._exc_info = sys.exc_info
        self._fixed: list[tuple[Any, tuple[int, ...], Space]] = []

    def put_back(self) -> None:
        """Make all of it what it was."""
        for owner, held in (*self._others, *self._held):  # builtins first, as this very loop needs them
            space = vars(owner)
            if type(space) is dict:
                space.update(held)
            for name in [name for name, value in held.items() if space.get(name) is not value]:
                setattr(owner, name, held[name])
            for name in [n for n in space if n not in held]:
                delattr(owner, name)
        sys.modules.update(self._modules)
        sys.exc_info = self._exc_info

    def fix(self, kinds: Iterable[type]) -> None:
        """From here on no function and no class in it may change, nor in these classes of tests."""
        patched = [module for name, module in self._modules.items() if name in _MAY_BE_PATCHED]
        owners = [*(o for o, _ in self._held if not any(o is module for module in patched)), *kinds]
        self._fixed = [(owner, _ids(vars(owner)), dict(vars(owner))) for owner in owners]

    def changed(self) -> bool:
        """Whether something of it is not as it was fixed."""
        if sys.exc_info is not self._exc_info:
            return True
        return any(_ids(vars(owner)) != ids and _differs(owner, held) for owner, ids, held in self._fixed)


def _ids(space: Any, tuple: Any = tuple, map: Any = map, id: Any = id) -> tuple[int, ...]:
    """What a space holds, told by identity: equality is a matter of what the program put there."""
    return tuple(map(id, space.values()))  # type: ignore[no-any-return]


def _differs(owner: Any, held: Space) -> bool:
    """Whether anything that can be called is another, or hides what a class inherits.

    What is new besides may be a test's own, as `setUpClass` leaves it.
    """
    space = vars(owner)
    if any(space.get(name) is not value for name, value in held.items() if _acts(value)):
        return True
    bases = _mro(owner)[1:] if isinstance(owner, type) else ()
    new = [name for name, value in space.items() if name not in held and _acts(value)]
    return any(name in _space(base) for base in bases for name in new)


def _acts(value: Any) -> bool:
    return callable(value) or isinstance(value, classmethod | staticmethod | property)


def guarded(entry: Any, watch: Callable[[], bool], name: str) -> Any:
    """The tested function, after each call of which the tests are still what they were.

    Args:
        entry: what the program defined.
        watch: says whether something was changed.
        name: of the program's module, of whose classes an answer may not be if they say themselves what it equals.
    """
    if isinstance(entry, type) or not callable(entry):
        return entry

    running = False

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal running
        if running:  # it calls itself; the first call looks after all of them
            return entry(*arguments, **named)
        before, running = _ids(vars(builtins)), True
        try:
            answer = entry(*arguments, **named)
        finally:
            running = False
            sys.settrace(None)
            sys.setprofile(None)
            if _ids(vars(builtins)) != before or watch():
                raise ForgeryError("it changed what its tests are made of")
        kind = _says_itself(answer, name)
        if kind:
            raise ForgeryError(f"the answer is a {kind}, which says itself what it equals")
        return answer

    sys.setrecursionlimit(2 * sys.getrecursionlimit())  # as a function that calls itself goes through here too
    functools.update_wrapper(call, entry)
    for attribute in ("cache_info", "cache_clear"):
        if hasattr(entry, attribute):
            setattr(call, attribute, getattr(entry, attribute))
    return call


def _says_itself(answer: Any, module: str) -> str:
    """The name of a class of the program's own, in an answer, that has an `__eq__` of its own; or nothing."""
    waiting, seen = [(answer, 0)], 0
    while waiting and seen < _MOST:
        value, depth = waiting.pop()
        seen += 1
        kind = type(value)
        for base in _mro(kind):
            space = _space(base)
            if "__eq__" in space:
                if _is_own(base, space["__eq__"], module):
                    return kind.__name__
                break
        for container in _CONTAINERS:
            if depth < _DEEPEST and issubclass(kind, container):
                inner = [*dict.keys(value), *dict.values(value)] if container is dict else container.__iter__(value)
                waiting += [(item, depth + 1) for item in islice(inner, _MOST)]
    return ""


def _is_own(kind: type, method: Any, module: str) -> bool:
    """Whether a class, or its `__eq__`, is the program's own, or claims a home where it is not to be found."""
    if isinstance(method, types.FunctionType) and method.__globals__.get("__name__") == module:
        return True
    if not kind.__flags__ & 1 << 9:  # not made by a class statement, but in C
        return False
    home: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        home = None if name == "<locals>" else getattr(home, name, None)
    return home is not kind or kind.__module__ == module
