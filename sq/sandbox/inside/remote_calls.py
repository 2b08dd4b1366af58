"""Two processes that call each other's functions and exchange plain values: the program's, and its tests'.

Objects that are not plain stay where they were made; the other side holds a `Remote`. A Remote answers calls,
attributes, items, iteration, length and truth by asking; equality it does not ask: it is equal to itself alone.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sq.sandbox.messages import DisconnectedError, receive, send
from sq.sandbox.plain_values import PlainError, decode, encode

_LONGEST_TEXT = 300


class EndedError(BaseException):
    """The other process ended, or broke the protocol. No `except Exception` of a test hides it."""


class RemoteError(Exception):
    """What the other side raised, where it is no exception of Python's own."""


class Peer:
    """One end of the line, whose messages come from `read` and go to `write`.

    `allow` says whether an operation on an object may be asked of this side; `longest` are the bytes of a message read.
    """

    def __init__(self, read: int, write: int, allow: Callable[[str, Any, Any], bool], longest: int) -> None:
        self._read, self._write, self._allow, self._longest = read, write, allow, longest
        self._objects: list[Any] = []  # what the other side may refer to; kept, so that an id stays its own
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Remote] = {}
        self._asked = 0
        self.ended = ""

    def ask(self, op: str, *arguments: Any) -> Any:
        """Have the other side do something; its result, or its exception raised here."""
        self._asked += 1
        number = self._asked
        self._send({"ask": number, "op": op, "with": [self.to_data(a) for a in arguments]})
        reply = self._await(number)
        changed = reply.get("changed")
        if changed is not None:
            for ours, theirs in zip(arguments, changed, strict=False):
                _restore(ours, self.from_data(theirs))
        if "error" in reply:
            raise _exception(reply["error"])
        return self.from_data(reply.get("value"))

    def serve(self) -> None:
        """Do what is asked until the other side is gone."""
        with contextlib.suppress(DisconnectedError):
            while True:
                self._answer(receive(self._read, self._longest))

    def first(self) -> Remote:
        """The object that the other side gave out first, unasked."""
        return self._remotes.setdefault(0, Remote(self, 0, "program"))

    def to_data(self, value: Any) -> Any:
        """A value as it is sent."""
        return encode(value, self._export)

    def from_data(self, data: Any) -> Any:
        """The value of what was sent."""
        try:
            return decode(data, self._object)
        except (PlainError, RecursionError) as error:
            raise self._end(str(error)) from error

    def _await(self, number: int) -> Any:
        while True:
            try:
                message = receive(self._read, self._longest)
            except DisconnectedError as error:
                raise self._end(str(error)) from error
            if "ask" in message:
                self._answer(message)
            elif message.get("reply") == number:
                return message
            else:
                raise self._end("an answer that was not asked for")

    def _end(self, why: str) -> EndedError:
        self.ended = why
        return EndedError(why)

    def _send(self, message: Any) -> None:
        try:
            send(self._write, message)
        except DisconnectedError as error:
            raise self._end(str(error)) from error

    def _answer(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"reply": message.get("ask")}
        given = message.get("with")
        if not isinstance(given, list):
            raise self._end("what came is no message")
        try:
            if not (given and isinstance(given[0], dict) and "l" in given[0]):
                # A value that was sent is nothing to be asked: `type` among them makes classes that equal everything.
                raise TypeError("what is asked must be an object of this side")
            arguments = [self.from_data(a) for a in given]
            before = self._containers(arguments, given)
            try:
                reply["value"] = self.to_data(self._do(str(message.get("op")), arguments))
            finally:
                after = self._containers(arguments, given)
                if after != before:
                    reply["changed"] = after
        except EndedError:
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: the program's, not ours
            reply.pop("value", None)
            reply["error"] = describe(error)
        self._send(reply)

    def _containers(self, arguments: list[Any], given: list[Any]) -> list[Any]:
        """Those arguments that a call may change, as data."""
        return [self.to_data(a) if _mutable(g) else None for a, g in zip(arguments, given, strict=True)]

    def _do(self, op: str, arguments: list[Any]) -> Any:
        if op not in _OPERATIONS or not self._allow(op, arguments[0], arguments[1:]):
            raise TypeError(f"{op} is not allowed here")
        return _OPERATIONS[op](*arguments)

    def _export(self, value: Any) -> Any:
        if isinstance(value, Remote) and object.__getattribute__(value, "_peer") is self:
            return {"l": object.__getattribute__(value, "_number")}
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return {"h": [number, type(value).__name__]}

    def _object(self, data: Any) -> Any:
        if "l" in data:
            number = data["l"]
            if not isinstance(number, int) or not 0 <= number < len(self._objects):
                raise PlainError("no such object")
            return self._objects[number]
        number, kind = data["h"]
        if not isinstance(number, int):
            raise PlainError("no such object")
        return self._remotes.setdefault(number, Remote(self, number, str(kind)))


class Remote:
    """An object of the other process."""

    __slots__ = ("_kind", "_number", "_peer")

    def __init__(self, peer: Peer, number: int, kind: str) -> None:
        for name, value in (("_peer", peer), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _ask(self, "call", list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # numpy and copy look for protocols by such names
            raise AttributeError(name)
        return _ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "setattr", name, value)

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "setitem", key, value)

    def __iter__(self) -> Iterator[Any]:
        inner = _ask(self, "iter")
        while True:
            more = _ask(inner, "next")
            if not more:
                return
            yield more[0]

    def __next__(self) -> Any:
        more = _ask(self, "next")
        if not more:
            raise StopIteration
        return more[0]

    def __len__(self) -> int:
        length = _ask(self, "len")
        if type(length) is not int:
            raise TypeError("the length is no number")
        return length

    def __bool__(self) -> bool:
        return _ask(self, "bool") is True

    def __str__(self) -> str:
        return str(_ask(self, "str"))

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_kind')} of the program>"


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as plain data: the names of its type and bases, and its text."""
    try:
        text = str(error)[:_LONGEST_TEXT]
    except BaseException:
        text = ""
    return {"types": [kind.__name__ for kind in type(error).__mro__], "text": text}


def reason_of(error: BaseException) -> str:
    """An exception in a line."""
    plain = describe(error)
    return f"{plain['types'][0]}: {plain['text']}".rstrip(": ").replace("\n", " ")[:_LONGEST_TEXT]


def _ask(remote: Remote, op: str, *arguments: Any) -> Any:
    if type(remote) is not Remote:
        raise TypeError("what was to be asked is not there")
    return object.__getattribute__(remote, "_peer").ask(op, remote, *arguments)


def _next(iterator: Any) -> list[Any]:
    try:
        return [next(iterator)]
    except StopIteration:
        return []


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, arguments, named: target(*arguments, **named),
    "getattr": getattr,
    "setattr": setattr,
    "getitem": lambda target, key: target[key],
    "setitem": lambda target, key, value: target.__setitem__(key, value),
    "iter": iter,
    "next": _next,
    "len": len,
    "bool": bool,
    "str": str,
}


def _mutable(data: Any) -> bool:
    """Whether what was sent holds a list, a dict or a set, which the other side may have changed."""
    return isinstance(data, list) or (isinstance(data, dict) and not data.keys() & {"l", "h"})


def _restore(ours: Any, theirs: Any) -> None:
    """Make our container what the other side made of its copy of it, in place."""
    if type(ours) is not type(theirs):
        return
    if isinstance(ours, list) and len(ours) != len(theirs):
        ours[:] = theirs
    elif isinstance(ours, list | tuple):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            if isinstance(ours, tuple) or _same_container(one, other):
                _restore(one, other)
            else:
                ours[place] = other
    elif isinstance(ours, dict):
        for key in [k for k in ours if k not in theirs]:
            del ours[key]
        for key, value in theirs.items():
            if key in ours and _same_container(ours[key], value):
                _restore(ours[key], value)
            else:
                ours[key] = value
    elif isinstance(ours, set):
        ours.clear()
        ours.update(theirs)


def _same_container(one: Any, other: Any) -> bool:
    return isinstance(one, list | dict | set) and type(one) is type(other)


def _exception(described: Any) -> BaseException:
    """The exception to raise for what the other side raised: of Python's own types, or a RemoteError."""
    names, text = (described.get("types"), described.get("text")) if isinstance(described, dict) else (None, None)
    for name in names if isinstance(names, list) else ():
        kind = builtins.__dict__.get(name) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            try:
                return kind(text)
            except TypeError:  # UnicodeDecodeError and its like want more than a text
                break
    return RemoteError(f"{names[0] if isinstance(names, list) and names else 'error'}: {text}")
