"""The strict profile: whether an answer says what the reference says, as a mathematician would read the two.

Stages, cheapest first: the same text; choices and words; both read to trees and compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from sq.eval.equal.compare import Comparison
from sq.eval.equal.normalise import MAX_ANSWER, literal, tidy
from sq.eval.equal.number_words import as_ratio, in_full, spellings
from sq.eval.equal.numbers import EXACT, Tolerance
from sq.eval.equal.numerals import close_repeating
from sq.eval.equal.parser import readings
from sq.eval.equal.tree import Node, ParseError, Seq, Text
from sq.eval.equal.value import Uncomputable
from sq.eval.equal.words import (
    choice,
    empty_answer,
    is_prose,
    is_words,
    same_choice,
    same_figure,
    same_label,
    same_words,
    split_choice,
    without_labels,
)
from sq.eval.grade_status import EqualityResult, GradeStatus

_LABEL = re.compile(
    r"^(?:(?:\\text\s*\{\s*)?(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|ans\.?)\s*(?:is\b\s*:?|[:=])\s*\}?|"
    r"\\text\s*\{[^{}]{0,60}\b(?:is|are|equals)\s*:?\s*\})\s*(?=\S)",
    re.IGNORECASE,
)
_LISTED = re.compile(r",\s|;|=|\band\b|\bor\b|[{(]")
_UNREAD_BEFORE_VALUE = re.compile(
    r"(?:[A-Za-z]\s*=)?[^=,;]*\\(?:choose|gcd|lcm|begin\s*\{vmatrix\})(?![A-Za-z])"
    r"(?:\([^()]*\)|(?!\b(?:and|or)\b|\\text)[^;,(])*"
    r"=\s*(-?(?:\\frac\s*\{)?\d[^=,;A-Za-z]*)"
)
"""A quantity in a notation that is not read, worked out: `{9 \\choose 2} = 36`."""
_IMPLICATION = re.compile(r"[A-Za-z]\s*\\(?:to|rightarrow)\s*[A-Za-z]")


def equal(answer: str, reference: str, tolerance: Tolerance = EXACT) -> EqualityResult:
    """Compare an extracted answer with an extracted reference.

    Args:
        answer: what the model answered, without the text around it.
        reference: the true answer.
        tolerance: the error that the reference allows (OlympiadBench gives one for some problems).
    """
    if not reference.strip():
        return EqualityResult(GradeStatus.UNVERIFIABLE, "the reference is empty")
    if max(len(answer), len(reference)) > MAX_ANSWER:
        same = answer.strip() == reference.strip()
        return EqualityResult(GradeStatus.CORRECT, "same text") if same else _too_long(reference)
    ours, theirs = _cleaned(answer), _cleaned(reference)
    ours, theirs = without_labels(in_full(ours, theirs), in_full(theirs, ours))
    if theirs and (literal(ours) == literal(theirs) or same_figure(ours, theirs)):
        return EqualityResult(GradeStatus.CORRECT, "same text")
    wanted, given = split_choice(theirs), split_choice(ours)
    if wanted and not given:  # the letter or the value is the answer
        return equal(ours, wanted[0] if choice(ours) else wanted[1], tolerance)
    if given and not wanted and choice(theirs) is None:
        ours = given[1]
    if any(_IMPLICATION.fullmatch(one) and "=" in other for one, other in ((ours, theirs), (theirs, ours))):
        return EqualityResult(GradeStatus.WRONG, "an implication is no equation")
    result = _in_words(ours, theirs)
    return result if result is not None else _as_mathematics(ours, theirs, tolerance)


def value_counts(reference: str) -> set[int]:
    """How many values a reference may be read as: `1.2, 3.4` are two."""
    return {len(node.items) if isinstance(node, Seq) else 1 for node in _read(_cleaned(reference))[0]}


def same_text(output: str, reference: str) -> bool:
    """Whether a short output is the reference, letter by letter or word by word."""
    if len(output) > 2 * len(reference) + 20 or len(output) > MAX_ANSWER:
        return False
    ours, theirs = tidy(output), tidy(reference)
    return bool(theirs) and (literal(ours) == literal(theirs) or same_words(ours, theirs))


def _too_long(reference: str) -> EqualityResult:
    if len(reference) > MAX_ANSWER:
        return EqualityResult(GradeStatus.UNVERIFIABLE, "the reference is too long to compare but as text")
    return EqualityResult(GradeStatus.WRONG, "the answer is too long to be compared")


def _in_words(ours: str, theirs: str) -> EqualityResult | None:
    """Choices, phrases and prose; None where both are to be read as mathematics."""
    chosen = same_choice(ours, theirs)
    if chosen is not None:
        return _result(chosen, "the same choice", "another choice")
    if same_words(ours, theirs) or same_label(ours, theirs):
        return EqualityResult(GradeStatus.CORRECT, "same words")
    if empty_answer(ours) and empty_answer(theirs):
        return EqualityResult(GradeStatus.CORRECT, "both say there is none")
    if is_prose(theirs):
        return EqualityResult(GradeStatus.UNVERIFIABLE, "the reference is prose, and the answer is not the same text")
    if is_words(theirs) and (is_words(ours) or is_prose(ours)):
        return EqualityResult(GradeStatus.WRONG, "other words")
    return None


def _as_mathematics(ours: str, theirs: str, tolerance: Tolerance) -> EqualityResult:
    references, problem = _read(theirs)
    worked_out = _UNREAD_BEFORE_VALUE.fullmatch(ours) if len(ours) < 500 else None
    ours = worked_out[1] if worked_out else ours
    answers, trouble = ((), "it is prose") if is_prose(ours) and not is_words(ours) else _read(ours)
    try:
        if any(Comparison(tolerance)(a, r) for a, r in _fitting(answers, references, ours)):
            return EqualityResult(GradeStatus.CORRECT, "equal")
        if answers and references:
            return EqualityResult(GradeStatus.WRONG, "not equal")
    except (Uncomputable, ParseError, RecursionError) as error:
        problem = problem or str(error)
    if not references:
        return EqualityResult(GradeStatus.UNVERIFIABLE, f"the reference is not read as mathematics: {problem}")
    if not answers:
        return EqualityResult(GradeStatus.WRONG, f"the answer is not read as mathematics: {trouble}")
    return EqualityResult(GradeStatus.UNVERIFIABLE, f"the two cannot be compared: {problem}")


def _fitting(answers: Sequence[Node], references: Sequence[Node], ours: str) -> list[tuple[Node, Node]]:
    """Readings to hold against one another: the likeliest of each, and a second where the answer asks for it.

    `200, 100` is a list, so `100,200` may be one; that `500,58` and `58,500` are lists of the same two is chance.
    """
    pairs = [(answers[0], references[0])] if answers and references else []
    pairs += [
        (answers[0], r) for r in references[1:] if answers and (_LISTED.search(ours) or not isinstance(answers[0], Seq))
    ]
    return pairs + [(a, references[0]) for a in answers[1:] if len(references) == 1]


@lru_cache(maxsize=256)  # one answer is held against several, in a vote and of a reference
def _cleaned(text: str) -> str:
    return as_ratio(_LABEL.sub("", tidy(text)))


@lru_cache(maxsize=256)
def _read(text: str) -> tuple[tuple[Node, ...], str]:
    """The trees that a text may be read as; why there is none."""
    try:
        return tuple(node for spelling in spellings(text) for node in readings(close_repeating(spelling))), ""
    except (ParseError, RecursionError, ValueError) as error:
        if is_words(text):
            return (Text(text),), ""
        return (), str(error)


def _result(same: bool, yes: str, no: str) -> EqualityResult:
    return EqualityResult(GradeStatus.CORRECT, yes) if same else EqualityResult(GradeStatus.WRONG, no)
