r"""The final answer in a model's output, and where it was found.

In order of trust: the last complete `\boxed{}`; what follows `####` or "the answer is"; bold text; the last formula or
number. What is called no answer (`negated_answers.py`) is none. Every search is linear in the output, of which only
the end is looked at (`MAX_OUTPUT`), but for the marks of reasoning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from sq.core import thinking
from sq.core.files import code_version
from sq.core.thinking import tail
from sq.eval.announced import (
    as_value,
    before_reason,
    ending_words,
    is_changed,
    last_choice,
    last_hashes,
    last_phrase,
    stated_last,
    states_a_value,
)  # fmt: skip
from sq.eval.answer_text import after_thinking, visible_text
from sq.eval.boxes import boxed, last_boxes
from sq.eval.equal import han
from sq.eval.equal.notation import SHARE
from sq.eval.equal.words import is_prose, is_words, unwrap
from sq.eval.named_values import given_either, in_english, joined
from sq.eval.negated_answers import without_negated_answers

MAX_OUTPUT = 60_000
"""Characters looked at, from the end: an answer stands at the end."""
MAX_SEGMENT = 600
MAX_TAIL = 12_000
"""Characters from the end in which a formula or number is looked for where nothing announces it."""

_CODE = (
    "announced",
    "answer_text",
    "boxes",
    "extract",
    "named_values",
    "negated_answers",
    "equal/han",
    "equal/normalise",
    "equal/notation",
    "equal/words",
)


class AnswerLocation(StrEnum):
    """Where an answer was found."""

    BOXED = "boxed"
    HASHES = "hashes"
    PHRASE = "phrase"
    BOLD = "bold"
    WHOLE = "whole"
    FORMULA = "formula"
    NUMBER = "number"
    NOWHERE = "nowhere"


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """An answer, and where it was found."""

    answer: str
    location: AnswerLocation

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer."""
        return self.location is not AnswerLocation.NOWHERE


_SCRIPT = re.compile("[\u0400-\u04ff\u0590-\u06ff\u0900-\u0e7f\u3040-\u9fff\uac00-\ud7af]")
_LETTERED = re.compile(r"\([A-J]\)\s+(?:[a-z]|\\text)", re.ASCII)
_YES = re.compile(r"\W{0,4}(Yes|No)\b(?:[,.!:;]|\s*$)")
_AMOUNTS = re.compile(r"(\d[\d.,/]*\s*[A-Za-z]{1,12},?\s+(?:and\s+)?){1,2}\d[\d.,/]*\s*[A-Za-z]{1,12}\.?", re.ASCII)
_LISTED = re.compile(r"(?:solutions|roots|answers|zeros|values)\b[^.\n]{0,80}?\bare[ :]+([^\n]{1,200})$", re.IGNORECASE)
_LABEL_TAIL = re.compile(
    r"(?:^|(?<=[\s:*]))(?:is|are|be|equals|(?<!or )equal to|was|=|get|gives|yields|obtain|have)(?=[\s:$\\])[ \t]*:?",
    re.IGNORECASE,
)
_ITEMS = re.compile(
    r"(?:solutions|roots|answers|zeros|values)\b[^.\n]{0,80}?(?:\bare|:)[:* \t]*\n\s*"
    r"((?:(?:[-*•]|\d{1,2}[.)])[ \t]+[^\n]{1,200}(?:\n+[ \t]*|$)){2,})$",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^\s*\S+[ \t]+(.*?)[\s.,;]*(?:\s\([a-zA-Z]+ [a-zA-Z ]+\)[\s.,;]*)?$", re.MULTILINE)
_TELLING = re.compile(r"\d|=|[<>]|\\(?:frac|sqrt|in|le|ge|pm|infty|pi|text|cup)|[-+]")
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*|\\textbf\{([^{}\n]{1,300})\}")
_FORMULA = re.compile(
    r"\$\$(.{1,1500}?)\$\$|\\\[(.{1,1500}?)\\\]|\\\((.{1,1500}?)\\\)|(?<!\\)\$((?:\\\$|[^$]){1,1500}?)(?<!\\)\$",
    re.DOTALL,
)
_DISPLAYED = re.compile(r"(?:\$\$|\\\])\s*\n\s*(?:\$\$|\\\[)")
_NUMBER = re.compile(
    r"(?<![\w.])(?:-\s?|\$\s?-?|-\$)?"
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+,\d\d(?![\d,])|\d+ \d+(?=/\d)|\d+(?:\.\d+)?|\.\d+)"
    rf"(?:\s*/\s*\d+(?!\d|\.\d)|(?::\d+)+)?(?:\s?(?:\\?%|percent\b|[€£°]|(?:m|cm|km|ft)[²³]|(?<=\d)[KM]\b|{han.SCALE}))?",
    re.ASCII,
)
_THEN = re.compile(
    r"\s*(?:\(|[,;]?\s+(?:because|since|as|when|where|which|for|if|with|so|at(?! (?:most|least))|"
    r"attained|achieved|after|in|given)\b|"
    r",?(?:\s[A-Za-z]{1,15})?\s(?:(?:correct|rounded|accurate)\s)?to\s(?:the\snearest|\w+\s(?:decimal|significant))\b)"
)
_EQUATION = r"[A-Za-z](?:_\w)?\s*=\s*-?[\w./^*+\\{}]+"
_LINE = re.compile(_EQUATION, re.ASCII)
_EQUATIONS = re.compile(
    rf"(?:^|[\s,])({_EQUATION}(?:(?:\s*,\s*(?:(?:and|or)\s+)?|\s+and\s+|\s+or\s+)(?:{_EQUATION}|-?[\d./]+))*)$",
    re.ASCII,
)
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z(\[]|\s*$)|\n\s*\n|\n(?=[A-Z#*【-])|(?<=\S)(?=【)|[!?](?=\s|$)|[。！？]")
_ENDED = re.compile(r".*(?:\n|[.!?](?=\s)|[。！？])", re.DOTALL)  # up to where the last line or sentence ends
_BARE_CHOICE = re.compile(r"\(([A-H])\)[.!\s]*$|\b(?:option|choice)\s+([A-H])[.!\s]*$", re.ASCII)
_BARE_NAME = re.compile(
    r"\b(?:is|are|becomes|called)\s+(?:an?\s+|the\s+)?([A-Za-z][a-z-]+(?:\s[a-z-]{3,}){0,2})[.!\s]*$", re.ASCII
)
_RATIO = re.compile(r"\d[\d.]*\s+to\s+\d[\d.]*", re.ASCII)
_CASES = re.compile(r"\$*[^.\n$]{0,40}\\begin\{cases\}.{1,1000}\\end\{cases\}\s*[.$]*", re.DOTALL)
_STARTS = ("answer", "final answer", "solution is", "the solution is", "solution", "ans")


@lru_cache
def extractor_version() -> str:
    """A digest of the code that finds a final answer."""
    return code_version([*(Path(__file__).parent / f"{name}.py" for name in _CODE), Path(thinking.__file__)])


def extract(output: str, *, finish_reason: str | None = None) -> Extraction:
    """The final answer of an output.

    Args:
        output: all that the model wrote.
        finish_reason: what the engine says ended it; `length` means it was cut off.
    """
    cut = finish_reason == "length"
    text, thinking = after_thinking(visible_text(tail(output, MAX_OUTPUT)))
    text = without_negated_answers(text)
    if thinking:
        return Extraction(answer="", location=AnswerLocation.NOWHERE)
    ended = "".join(_ENDED.findall(text)) if cut else text
    box, end = last_boxes(text)
    if cut and "\\boxed" in text[end:]:  # cut within a further box
        box = None
    if box is not None and not (cut and end == len(text) and not text.endswith("}")):
        later = stated_last(ended[end:])
        if later:
            return Extraction(answer=later, location=AnswerLocation.PHRASE)
        announced = _announced(unwrap(box)) if len(box) < 100 and is_prose(box) else None
        return Extraction(answer=announced[0] if announced else box, location=AnswerLocation.BOXED)
    if cut:  # what stands last in a cut-off text is no final answer
        answer, where = _announced_whole(text, ended) or ("", AnswerLocation.NOWHERE)
        return Extraction(answer=answer, location=where)
    answer, where = _announced(text) or _itemised(text) or _bold(text) or _whole(text) or _last(text) or _named(text)
    return Extraction(answer=answer, location=where)


def extract_reference(text: str) -> str:
    r"""The answer in a reference: its box, what follows `####`, or the whole of it."""
    box = boxed(text)
    if box is not None:
        return box
    unclosed = re.search(r"\\boxed\s*\{", text)
    if unclosed:  # or empty, as one of MATH's is: then so is the reference
        if text[unclosed.end() :].lstrip().startswith("}"):
            return ""
        return text[unclosed.end() :].strip()
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    return text.strip()


def _announced(text: str) -> tuple[str, AnswerLocation] | None:
    """What follows the last `####` or the last "the answer is"."""
    hashes, phrase, chosen = last_hashes(text), last_phrase(text), last_choice(text)
    if chosen and not hashes:
        return chosen, AnswerLocation.PHRASE
    if hashes and (phrase is None or hashes.start() > phrase.start()):
        line = hashes.group(1).strip()
        return (_from_segment(line) if is_prose(line) else line) or line, AnswerLocation.HASHES
    segment = _segment(text, phrase.end()) if phrase else ""
    answer = _from_segment(segment) or ending_words(text, segment)
    return (answer, AnswerLocation.PHRASE) if answer else None


def _announced_whole(text: str, ended: str) -> tuple[str, AnswerLocation] | None:
    """What a cut-off text announces last, if it was cut after the end of it: `#### 12` may be the start of 125."""
    rest = text[len(ended) :]
    if last_hashes(rest) or last_phrase(rest):
        return None
    announced = _announced(ended)
    if announced is None or announced[0].replace("$$", "$").count("$") % 2 or "\\[" in announced[0].split("\\]")[-1]:
        return None  # cut within a formula
    if ended.rstrip().endswith((" or", " and", ",")):
        return None  # or within a list
    return announced


def announced_text(output: str) -> str:
    """All of the sentence that the last "the answer is" announces; nothing where there is none."""
    text = without_negated_answers(after_thinking(visible_text(tail(output, MAX_OUTPUT)))[0])
    phrase = last_phrase(text)
    return _segment(text, phrase.end()).replace("**", "").strip() if phrase else ""


def _segment(text: str, start: int) -> str:
    """The sentence that starts at `start`, over one line break where nothing stands on the line."""
    piece = text[start : start + MAX_SEGMENT].lstrip(" \t*:").lstrip("\n").lstrip(" \t*")
    for match in _SENTENCE_END.finditer(piece):
        if piece[: match.start()].count("$") % 2 == 0 and piece[: match.start()].strip(" $*\n"):
            return piece[: match.start()]
    return piece


def _from_segment(segment: str) -> str:
    """The answer in a sentence that announces it."""
    segment = as_value(segment.replace("**", "").replace('\\"', '"').strip().strip('"').strip())
    reasoned = before_reason(segment)
    if reasoned:
        return reasoned
    if not segment:
        return ""
    if not _is_sentence(segment):
        return segment
    for first in (_FORMULA.match(segment), _NUMBER.match(segment)):
        if first and _THEN.match(segment, first.end()):
            return first.group().strip()
    tails = list(_LABEL_TAIL.finditer(segment))
    if tails:
        tail = segment[tails[-1].end() :].strip()
        if tail and not _is_sentence(tail):
            return tail
    last = _last(segment)
    return (segment if is_changed(segment, last[0]) else last[0]) if last else ""


def _named(text: str) -> tuple[str, AnswerLocation]:
    """Where there is no mathematics at all: the choice or the name that the last sentence ends in."""
    tail = text[-200:].rstrip()
    choice = _BARE_CHOICE.search(tail)
    if choice:
        return choice.group(1) or choice.group(2), AnswerLocation.PHRASE
    name = _BARE_NAME.search(tail)
    return (name.group(1), AnswerLocation.PHRASE) if name else ("", AnswerLocation.NOWHERE)


def _is_sentence(text: str) -> bool:
    """Whether there is more around the answer than a unit or a name."""
    outside = _without_math(text)
    if _is_short_phrase(text) or (len(text) < 100 and _AMOUNTS.fullmatch(text.strip())):
        return False
    if is_prose(outside):
        return True
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", unwrap(outside))
    return len(words) > 3 or (len(words) == 3 and bool(re.search(r"\d", outside)))


def _is_short_phrase(text: str) -> bool:
    return is_words(text) and len(text.split()) <= 4 and not re.match(r"\s*(?:I|we|you)\b", text, re.IGNORECASE)


def _without_math(text: str) -> str:
    return _FORMULA.sub(lambda m: m.group() if _is_money(m) else " ", text)


def _is_money(formula: re.Match[str]) -> bool:
    """Whether what stands between two dollar signs is a sentence about money, or a sum of it: `$34 = $88`."""
    inside = formula.group(4)
    return inside is not None and (is_prose(inside) or inside.rstrip().endswith(("=", "+", "-")))


def _bold(text: str) -> tuple[str, AnswerLocation] | None:
    pieces = [(m.start(), m.end(), (m.group(1) or m.group(2)).strip()) for m in _BOLD.finditer(text)]
    if not pieces or text[pieces[-1][1] :].strip(" .\n!") or not text[: pieces[-1][0]].strip():
        return None
    inside = pieces[-1][2]
    return (joined(text, pieces), AnswerLocation.BOLD) if inside and not is_prose(_without_math(inside)) else None


def _whole(text: str) -> tuple[str, AnswerLocation] | None:
    """The whole output, where it is an answer and no sentence."""
    plain = text.strip()
    for start in _STARTS:
        if plain[: len(start) + 1].lower() in (start + " ", start + ":"):
            plain = plain[len(start) + 1 :].strip(" :")
    if not plain or len(plain) > 2_000 or "\n\n" in plain or "####" in plain or _DISPLAYED.search(plain):
        return None
    yes_or_no = _YES.match(plain) if len(plain) < 400 and not re.search(r"\d", plain) else None
    if yes_or_no and yes_or_no.end() < len(plain):
        return yes_or_no.group(1), AnswerLocation.WHOLE
    if len(plain) < 200 and _LETTERED.match(plain):
        return plain, AnswerLocation.WHOLE
    if (_SCRIPT.search(plain) and any(c.isdigit() for c in plain)) or states_a_value(plain):
        return None
    lines = plain.split("\n")
    if 1 < len(lines) <= 6 and all(_LINE.fullmatch(line.strip()) for line in lines):
        return ", ".join(line.strip() for line in lines), AnswerLocation.WHOLE
    plain = re.sub(r"^[A-Za-z][A-Za-z ]{1,40}:\s*(?=[$\\])", "", plain)
    outside = _without_math(plain)
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", unwrap(outside)) if outside != plain else []
    usual = _RATIO.fullmatch(plain) or SHARE.match(plain) or _CASES.fullmatch(plain) or _is_short_phrase(plain)
    if not usual and (is_prose(outside) or len(words) > 3):
        return None
    return plain, AnswerLocation.WHOLE


def _itemised(text: str) -> tuple[str, AnswerLocation] | None:
    """The items of the list that "the solutions are" ends the output with."""
    items = _ITEMS.search(text[-MAX_SEGMENT:].rstrip())
    values = [value.replace("**", "") for value in _ITEM.findall(items.group(1).rstrip())] if items else []
    return (", ".join(values), AnswerLocation.FORMULA) if values and not any(map(_is_sentence, values)) else None


def _last(text: str) -> tuple[str, AnswerLocation] | None:
    """The last formula, or the last number where that comes later."""
    text = in_english(text)
    listed = _LISTED.search(text[-400:].rstrip(" .\n"))
    if listed and not _is_sentence(listed.group(1)):
        return listed.group(1), AnswerLocation.FORMULA
    equations = _EQUATIONS.search(text[-200:].rstrip(" .\n"))
    if equations:
        return equations.group(1), AnswerLocation.FORMULA
    either = given_either(text[-200:])
    if either:
        return either, AnswerLocation.FORMULA
    text = text[-MAX_TAIL:]
    formulas: list[tuple[int, int, str]] = []
    number = None
    for match in _FORMULA.finditer(text):
        if _is_money(match):
            continue
        inside = next(g for g in match.groups() if g is not None).strip()
        if not formulas or _TELLING.search(inside):
            formulas.append((match.start(), match.end(), inside))
    for match in _NUMBER.finditer(text, formulas[-1][1] if formulas else 0):
        number = match.group().strip()
    if number is not None and not (formulas and "=" in formulas[-1][2] and len(text) - formulas[-1][1] < 3):
        return number, AnswerLocation.NUMBER
    return (joined(text, formulas), AnswerLocation.FORMULA) if formulas else None
