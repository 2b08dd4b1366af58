"""The final Yes or No of a reply that reasons first.

Only the last line speaks, and in it only a plain verdict: "yes" somewhere in the reasoning, "Yes and no", "Yes, if …"
or "No conditions are missing" are none. A reply without a verdict is unparsable, which is an outcome of its own.
"""

from __future__ import annotations

import re
from typing import Any

from sq.core.reply_parsers import Unparsable, after_thinking

LINE = 2_000  # characters of the last line that are looked at

BOXED = re.compile(r"\\(?:boxed|fbox) ?\{(?:\\\w{1,8} ?\{)? ?(yes|no) ?[.!]?\}", re.IGNORECASE)
MARKUP = re.compile(
    r"</?\|?\w{1,20}\|?>|\\(?:boxed|fbox|text\w{0,6}|math\w{0,4})(?=\W)"
    r"|(?<![A-Za-z])'|'(?![A-Za-z])|[\u200b-\u200f\u2060\ufeff]"
)
LABEL = (
    r"(?:(?:so|thus|hence|therefore|finally|overall|in conclusion)[,:]? )?(?:(?:(?:my|the|our) )?(?:final )?"
    r"(?:answer|verdict|judge?ment|conclusion|decision|result|output|solvable)(?: is)? ?[:=–—-]? ?)?"
)
DECORATION = str.maketrans(dict.fromkeys('*_#`$"“”‘[]{}<>|~)\\✅❌✔✓✗\ufe0f', " "))
# A verdict is followed by the end, a stop, or what plainly explains it; never by a noun ("no conditions") or a "but".
FOLLOWED = r"(?= ?$| ?[.!,;:](?!\d| \d)| [–—-] | (?:it|this|the|because|since)\b)"
UNCLEAR = re.compile(
    r"\b(?:yes|no) ?(?:/|,? ?(?:and|or) (?:yes|no)\b|[,;:]? ?(?:but|if|provided|assuming|unless|only|maybe|perhaps)\b)"
    r"|\b(?:however|wait|actually)\b",
    re.IGNORECASE,
)
OPENS = re.compile(rf"{LABEL}\b(yes|no)\b{FOLLOWED}", re.IGNORECASE)
CLOSES = re.compile(
    r"(?:\b(?:is|so|thus|hence|therefore|say|be|answer|verdict)[,:]?|[,:=–—-]) (yes|no) ?[.!]?$", re.IGNORECASE
)
HEDGED = re.compile(
    r"\b(?:not|cannot|neither|nor|or|and|either|maybe|perhaps|possibly|probably|unclear|unsure|sure)\b|n't\b",
    re.IGNORECASE,
)
SPOKEN = re.compile(rf"\b(yes|no)\b(?!-){FOLLOWED}", re.IGNORECASE)


def parse_yes_no(reply: str) -> tuple[bool, dict[str, Any]]:
    """True for a final Yes, False for a final No.

    Raises:
        Unparsable: if the last line holds no plain verdict.
    """
    lines = [line for line in after_thinking(reply).splitlines() if _has_words(line)]
    if not lines:
        raise Unparsable("empty reply")
    line = lines[-1][-LINE:]
    verdict = _boxed(line) or _plain(_without_markup(line), alone=[line] == lines)
    if verdict is None:
        raise Unparsable("no plain Yes or No at the end")
    return verdict == "yes", {"verdict": verdict}


def _has_words(line: str) -> bool:
    return any(c.isalnum() for c in (MARKUP.sub("", line) if "<" in line else line))


def _boxed(line: str) -> str | None:
    found = {verdict.lower() for verdict in BOXED.findall(line)}
    return found.pop() if len(found) == 1 and line.count("\\boxed") <= 1 else None


def _plain(line: str, *, alone: bool) -> str | None:
    """The verdict that opens the line, or else the one in its last sentence.

    Without a label ("Answer:") the opening counts only where the line is the whole reply: elsewhere it may be
    reasoning, as in "No, that is x. So the rest ...".
    """
    opening = OPENS.match(line)
    if opening and (alone or opening.start(1)) and (verdict := _only(opening, line)):
        return verdict
    sentence = re.split(r"(?<=[.!?;:]) ", line)[-1]
    if verdict := _only(OPENS.match(sentence), sentence):
        return verdict
    closing = CLOSES.search(sentence)
    if closing and HEDGED.search(" ".join(sentence[: closing.start(1)].split()[-4:])):
        return None
    return _only(closing, sentence)


def _only(match: re.Match[str] | None, text: str) -> str | None:
    """The verdict of `match`, unless `text` takes it back."""
    if match is None or UNCLEAR.search(text):
        return None
    said = {verdict.lower() for verdict in SPOKEN.findall(text)}
    return match[1].lower() if said <= {match[1].lower()} else None


def _without_markup(line: str) -> str:
    """Words, stops and single spaces: "**Answer:** $\\text{Yes}$ (see above)" becomes "Answer: Yes, see above"."""
    text = MARKUP.sub(" ", line)
    text = text.replace("(", ", ").replace("’", "'").translate(DECORATION)
    text = re.sub(r" +([.,;:!?])", r"\1", " ".join(text.split()))
    return text.lstrip(" ,.;:!?-–—=").rstrip(" ,;:-–—")
