"""Faults planted in true answers, to measure what a grader lets pass: digits, order of tuples, brackets."""

from __future__ import annotations

import random
import re

_TUPLE = re.compile(r"\(([^()\[\]{}]{1,200},[^()\[\]{}]{1,200})\)")
_INTERVAL = re.compile(r"([(\[])([^()\[\]]{1,100},[^()\[\]]{1,100})([)\]])")
_FLIPPED = {"(": "[", "[": "(", ")": "]", "]": ")"}


def digit_changed(answer: str, rng: random.Random) -> str | None:
    """The answer with one of its digits another; None where it has none."""
    places = [m.start() for m in re.finditer(r"[0-9]", answer)]
    if not places:
        return None
    at = rng.choice(places)
    return answer[:at] + rng.choice([d for d in "0123456789" if d != answer[at]]) + answer[at + 1 :]


def swapped(answer: str) -> str | None:
    """The answer with the items of its first tuple reversed; None where there is no tuple or both ends are alike."""
    plain = answer.replace(r"\left", "").replace(r"\right", "")
    match = _TUPLE.search(plain)
    if match is None or r"\cup" in plain or r"\infty" in plain:
        return None
    items = match.group(1).split(",")
    turned = [i.strip() for i in reversed(items)]
    if turned == [i.strip() for i in items]:
        return None
    return plain[: match.start(1)] + ", ".join(turned) + plain[match.end(1) :]


def flipped(answer: str) -> str | None:
    """The answer with the brackets of its first interval of the other kind; None where there is none."""
    plain = answer.replace(r"\left", "").replace(r"\right", "")
    match = _INTERVAL.search(plain)
    if match is None or len(match.group(2).split(",")) != 2 or not {"[", "]"} & set(match.group(0)):
        return None
    left, inside, right = match.groups()
    return plain[: match.start()] + _FLIPPED[left] + inside + _FLIPPED[right] + plain[match.end() :]
