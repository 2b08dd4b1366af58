"""The final Yes or No of a reply that reasons first, and what follows from it.

Only the last line counts, and in it only a plain answer: "yes" somewhere in the reasoning, "Yes and no", "Yes, if …"
or "No conditions are missing" are none. A reply without one is unparsable, which is neither yes nor no.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

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
# An answer is followed by the end, a stop, or what plainly explains it; never by a noun ("no conditions") or a "but".
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


class YesNo(Enum):
    """What a judge answers, as rows keep it. A member that is added must get its place in each `match` below."""

    YES = "yes"
    NO = "no"
    UNPARSABLE = "unparsable"

    @classmethod
    def _missing_(cls, value: object) -> YesNo:
        return cls.UNPARSABLE  # nothing in a row's column, or a word of somebody else's

    @property
    def vote(self) -> int:
        """What it adds where several answers to one question are counted."""
        match self:
            case YesNo.YES:
                return 1
            case YesNo.NO:
                return -1
            case YesNo.UNPARSABLE:
                return 0

    @property
    def reject_reason(self) -> str | None:
        """Why a question is rejected of which the judge of solvability says this; None: it is kept."""
        match self:
            case YesNo.YES:
                return None
            case YesNo.NO:
                return "unsolvable"
            case YesNo.UNPARSABLE:
                return "unparsable"


def majority(answers: Iterable[YesNo]) -> YesNo:
    """The answer with more votes; a tie is none."""
    votes = sum(answer.vote for answer in answers)
    return YesNo.UNPARSABLE if votes == 0 else YesNo.YES if votes > 0 else YesNo.NO


def parse_yes_no(reply: str) -> YesNo:
    """The final Yes or No of a reply.

    Raises:
        Unparsable: if the last line holds no plain answer.
    """
    lines = [line for line in after_thinking(reply).splitlines() if _has_words(line)]
    if not lines:
        raise Unparsable("empty reply")
    line = lines[-1][-LINE:]
    answer = _boxed(line) or _plain(_without_markup(line), alone=[line] == lines)
    if answer is None:
        raise Unparsable("no plain Yes or No at the end")
    return YesNo(answer)


def _has_words(line: str) -> bool:
    return any(c.isalnum() for c in (MARKUP.sub("", line) if "<" in line else line))


def _boxed(line: str) -> str | None:
    answers = {answer.lower() for answer in BOXED.findall(line)}
    return answers.pop() if len(answers) == 1 and line.count("\\boxed") <= 1 else None


def _plain(line: str, *, alone: bool) -> str | None:
    """The answer that opens the line, or else the one in its last sentence.

    Without a label ("Answer:") the opening counts only where the line is the whole reply: elsewhere it may be
    reasoning, as in "No, that is x. So the rest ...".
    """
    opening = OPENS.match(line)
    if opening and (alone or opening.start(1)) and (answer := _only(opening, line)):
        return answer
    sentence = re.split(r"(?<=[.!?;:]) ", line)[-1]
    if answer := _only(OPENS.match(sentence), sentence):
        return answer
    closing = CLOSES.search(sentence)
    if closing and HEDGED.search(" ".join(sentence[: closing.start(1)].split()[-4:])):
        return None
    return _only(closing, sentence)


def _only(match: re.Match[str] | None, text: str) -> str | None:
    """The answer in `match`, unless `text` takes it back."""
    if match is None or UNCLEAR.search(text):
        return None
    answers = {answer.lower() for answer in SPOKEN.findall(text)}
    return match[1].lower() if answers <= {match[1].lower()} else None


def _without_markup(line: str) -> str:
    """Words, stops and single spaces: "**Answer:** $\\text{Yes}$ (see above)" becomes "Answer: Yes, see above"."""
    text = MARKUP.sub(" ", line)
    text = text.replace("(", ", ").replace("’", "'").translate(DECORATION)
    text = re.sub(r" +([.,;:!?])", r"\1", " ".join(text.split()))
    return text.lstrip(" ,.;:!?-–—=").rstrip(" ,;:-–—")
