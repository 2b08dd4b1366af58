"""Several values that an output gives one name: `$x=2$ or $x=-3$`, `$x$ is $2$ or $-3$`."""

from __future__ import annotations

import re

MAX_JOINED = 20

_HAN_JOINT = re.compile(r"(?<=[\d$)}\]])\s{0,3}(或者?|和|，)\s{0,3}(?=\$|\\\(|-?\d|[A-Za-z](?:_\w)?\s?=)", re.ASCII)
_ENGLISH = {"和": " and ", "，": ", "}
_EITHER = re.compile(
    r"(?:^|[\s,])([A-Za-z]) (?:is|equals|(?:can|must|could) be)(?: either)? "
    r"(-?[\d./]+(?:, ?-?[\d./]+){0,9},? or -?[\d./]*\d)$",
    re.ASCII,
)
_ROOT = re.compile(r"([tx-z])_\{?\d\}?", re.ASCII)
"""One of several roots, which a number tells apart: `x_1`. Terms of a sequence are `a_1`."""

_JOINT = re.compile(
    r"(?:\s*+\([^()$\n]{1,60}\))?+\s*+[,;]?\s*+"
    r"(?:\b(or|and)\b(?:\s+(?:else|alternatively|also|(hence|thus|therefore|so)))?\b,?\s*+|(?<=[,;]\s))",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:\$|\\\()\s*(?:[A-Za-z]|\\[a-z]+)\s*(?:\$|\\\))\s+(?:is|are|equals|(?:can|must|could) be)(?:\s+either)?\s+$"
)
_FOR = re.compile(r",?\s+for(?: all| any| every)?(?: integers?)?\s+")
_RANGE = re.compile(r"[kmn]\s*(?:(?:[>≥]|\\geq?(?![a-z]))\s*[01]|\\in(?![a-z]).{1,40})", re.ASCII)
"""What a letter of the formula before it runs over: `$n=2^k$ for $k \\ge 0$`."""
_DONE = re.compile(r"=\s*-?\d[\d.]*$", re.ASCII)
"""A value that no further step makes simpler."""
_VALUE = r"(?:[^=A-Za-df-hj-z\\]|\\(?:text|mathrm)\{[^{}]*\}|\\(?!text|mathrm)[A-Za-z]++|\\[^A-Za-z])++"
_GIVEN = re.compile(rf"\{{?\s*(?:((?:[A-Za-z]|\\[a-z]+)(?:_\{{?\w+\}}?)?)\s*=)?{_VALUE}", re.ASCII)
"""A name with its value, or a value alone: no letters but e and i, no further equals sign."""


def in_english(text: str) -> str:
    """The text with `或`, `和` and the full-width comma between values in English: `x=2 或 3` as `x=2 or 3`."""
    return _HAN_JOINT.sub(lambda joint: _ENGLISH.get(joint[1], " or "), text).rstrip("。")


def given_either(text: str) -> str | None:
    """The values that the text ends by giving a name, without any formula: `x=2 or 3` of `So x is 2 or 3.`"""
    either = _EITHER.search(text.rstrip(" .\n"))
    return f"{either[1]}={either[2]}" if either else None


def joined(text: str, pieces: list[tuple[int, int, str]]) -> str:
    """The last piece, with those before it that give one name other values: `$x=2$ or $x=-3$`, `$x=2$ or $-3$`."""
    if len(pieces) > 1 and _RANGE.fullmatch(pieces[-1][2]) and _FOR.fullmatch(text, pieces[-2][1], pieces[-1][0]):
        pieces = pieces[:-1]
    start, end, value = pieces[-1]
    last = _GIVEN.fullmatch(value.strip("$"))
    if not last or not (last[1] or not text[end:].strip(" .!\n")):
        return value
    name, run, words, nameless = last[1], value, False, not last[1]
    for before, after, piece in reversed(pieces[-MAX_JOINED:-1]):
        given, joint = _GIVEN.fullmatch(piece.strip("$")), _JOINT.fullmatch(text, after, start)
        if not given or not joint or (name and given[1] and not _same_name(name, given[1])):
            break
        if joint[2] and not _DONE.search(piece.strip("$ .")):  # "$x=2+3$ and hence $x=5$": a step, and its value
            break
        words, nameless = words or bool(joint[1]), nameless or not given[1]
        if given[1] and nameless and not words:  # "at $x=2$, $7$": a comma alone gives a name no other value
            break
        start, run = before, f"{piece.rstrip(' .,;')} {joint[1] or ','} {run}"
        if given[1]:
            name, value = given[1], run
    return run if words and not name and _NAMED.search(text, max(0, start - 60), start) else value


def _same_name(a: str, b: str) -> bool:
    one, other = _ROOT.fullmatch(a), _ROOT.fullmatch(b)
    return a == b or bool(one and other and one[1] == other[1])
