"""The exact word on a task's text: can it be programmed, if not why, in how many steps, and what must come out.

Everything is read from the text alone, so a question that a model wrote is judged like one of ours.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import StrEnum

from sq.domains.programs.grammar import (
    END,
    VAGUE,
    Args,
    Header,
    Sentence,
    program,
    read_header,
    read_sentence,
    split,
)

MAX_CHARS = 1200
MOST_STEPS = 8
TESTS = 8


class Reason(StrEnum):
    """Why a task can be programmed (`OK`) or not."""

    OK = "ok"
    EMPTY = "empty text"
    TOO_LONG = "text too long"
    UNPARSED = "sentence not understood"
    NO_FUNCTION = "no function named"
    MISSING = "missing number"
    UNKNOWN = "a name that is no parameter"
    NO_START = "no value to start from"
    ZERO = "division by what may be zero"
    CONTRADICTION = "two functions, or two starting values"
    NO_RETURN = "nothing returned"
    TRAILING = "text after the end"
    NOTHING = "nothing to compute"


@dataclass(frozen=True, kw_only=True)
class TaskAnalysis:
    """What the oracle finds in a text; program, tests and solution only where it can be solved."""

    reason: Reason
    detail: str = ""
    steps: int = 0
    header: Header | None = None
    sentences: tuple[Sentence, ...] = ()
    text: str = ""

    @property
    def solvable(self) -> bool:
        """Whether a right program exists and is decided by the text."""
        return self.reason is Reason.OK

    @property
    def program(self) -> str | None:
        """The reference program."""
        return program(self.header, self.sentences) if self.header and self.solvable else None

    @property
    def solution(self) -> str | None:
        """The reference as a model should write it: the program in a fenced block, its comments the way there."""
        return f"```python\n{self.program}\n```" if self.program is not None else None

    @property
    def answer(self) -> str | None:
        """The tests, as text: the function's name, and calls with what they must return."""
        if self.header is None or not self.solvable:
            return None
        calls = [[list(args.values()), self.run(args)] for args in _arguments(self.header, self.text)]
        return json.dumps({"function": self.header.name, "calls": calls})

    def run(self, args: Args) -> int:
        """What the function returns for these arguments."""
        result = 0
        for sentence in self.sentences:
            result = sentence.run(result, args)
        return result


def analyse(text: str) -> TaskAnalysis:
    """Judge any text as a task."""
    if not text.strip():
        return TaskAnalysis(reason=Reason.EMPTY)
    if len(text) > MAX_CHARS:
        return TaskAnalysis(reason=Reason.TOO_LONG)
    parts = split(text)
    header = read_header(parts[0])
    if header is None:
        return _without_header(parts)
    steps: list[Sentence] = []
    for i, part in enumerate(parts[1:], 1):
        if part == END:
            rest = Reason.TRAILING if i + 1 < len(parts) else Reason.OK
            return _whole(header, steps, rest, text)
        if read_header(part):
            return TaskAnalysis(reason=Reason.CONTRADICTION, detail=part)
        sentence = read_sentence(part)
        fault = Reason.UNPARSED if sentence is None else _fault(sentence, header, first=not steps)
        if fault is not Reason.OK or sentence is None:
            return TaskAnalysis(reason=fault, detail=part, header=header)
        steps.append(sentence)
    return TaskAnalysis(reason=Reason.NO_RETURN, header=header)


def arguments(text: str) -> tuple[str, list[list[int | list[int]]]] | None:
    """The function that a text names and the calls to try it with, whatever else the text says; None without one."""
    header = next(filter(None, map(read_header, split(text[:MAX_CHARS]))), None)
    return (header.name, [list(args.values()) for args in _arguments(header, text)]) if header else None


def _without_header(parts: list[str]) -> TaskAnalysis:
    known = read_sentence(parts[0]) is not None or parts[0] == END
    return TaskAnalysis(reason=Reason.NO_FUNCTION if known else Reason.UNPARSED, detail=parts[0])


def _fault(sentence: Sentence, header: Header, *, first: bool) -> Reason:
    if sentence.kind.starts is not first:
        return Reason.NO_START if first else Reason.CONTRADICTION
    for slot, word in sentence.slots.items():
        if word in VAGUE:
            return Reason.MISSING
        if slot == "n" and word.lstrip("-").isdigit():
            if sentence.kind.fixed and int(word) <= 0:
                return Reason.ZERO
        elif word not in header.params or header.params[word] is not (list if slot == "l" else int):
            return Reason.UNKNOWN
        elif sentence.kind.fixed:
            return Reason.ZERO
    return Reason.OK


def _whole(header: Header, steps: list[Sentence], rest: Reason, text: str) -> TaskAnalysis:
    count = sum(sentence.kind.steps for sentence in steps)
    if rest is Reason.OK:
        if not steps:
            rest = Reason.NO_START
        elif not count:
            rest = Reason.NOTHING
        elif count > MOST_STEPS:
            rest = Reason.TOO_LONG
    return TaskAnalysis(reason=rest, steps=count, header=header, sentences=tuple(steps), text=text)


def _arguments(header: Header, text: str) -> list[Args]:
    """Calls to test with: the same for the same text, with signs, zero and lists of one element among them."""
    rng = random.Random(f"tests:{' '.join(text.split())}")
    calls: list[Args] = []
    for i in range(TESTS):
        args: Args = {}
        for name, kind in header.params.items():
            if kind is list:
                args[name] = [rng.randint(-20, 20) for _ in range(1 if i == 0 else rng.randint(2, 6))]
            else:
                args[name] = 0 if i == 1 else rng.randint(-30, 30) if i % 2 else rng.randint(1, 30)
        calls.append(args)
    return calls
