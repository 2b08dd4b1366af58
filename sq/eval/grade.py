"""One pair graded, in this process: extraction, then equality, by the rules of a profile.

`grader.Grader` runs this in worker processes that can be killed; call it directly only on text you trust to be short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from sq.eval.equal import dart, math_verify, strict
from sq.eval.equal.numbers import Tolerance
from sq.eval.equal.words import leading_choice
from sq.eval.extract import AnswerLocation, Extraction, announced_text, extract, extract_reference
from sq.eval.grade_status import EqualityResult, GradeStatus
from sq.eval.grader_config import Profile


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model's output and the reference it is held against.

    Attributes:
        prediction: the whole output, or an answer alone.
        reference: the true answer, or a solution that ends in one (a box, or `####`).
        question: the problem; profile dart looks for "find all ... separated by commas" in it.
        tolerance: an absolute error the reference allows, or one for each of its values.
        relative_tolerance: a relative error it allows, or one for each.
        finish_reason: what ended the output; `length` means that it was cut off.
        choices: of a multiple-choice question, in the order of their letters; the reference is a letter.
    """

    prediction: str
    reference: str
    question: str = ""
    tolerance: float | Sequence[float] | None = None
    relative_tolerance: float | Sequence[float] | None = None
    finish_reason: str | None = None
    choices: Sequence[str] = ()

    @property
    def cut_off(self) -> bool:
        """Whether the output ended at the token limit."""
        return self.finish_reason == "length"


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What grading a pair gave."""

    profile: Profile
    status: GradeStatus
    reason: str
    extracted: str = ""
    location: AnswerLocation = AnswerLocation.NOWHERE

    @property
    def correct(self) -> bool:
        """Whether it scores."""
        return self.status is GradeStatus.CORRECT


def grade_answer(pair: Pair, profile: Profile = Profile.STRICT) -> Grade:
    """Extract the answer and compare it with the reference."""
    if profile is Profile.DART:
        extraction, result = _grade_dart(pair)
    elif profile is Profile.MATH_VERIFY:
        extraction, result = math_verify.grade(pair.prediction, pair.reference)
    else:
        extraction, result = _grade_strict(pair)
    return Grade(
        profile=profile,
        status=result.status,
        reason=result.reason,
        extracted=extraction.answer,
        location=extraction.location,
    )


def _grade_strict(pair: Pair) -> tuple[Extraction, EqualityResult]:
    extracted = extract(pair.prediction, finish_reason=pair.finish_reason)
    reference = extract_reference(pair.reference)
    if not reference:
        return extracted, EqualityResult(GradeStatus.UNVERIFIABLE, "the reference is empty")
    found = extracted.has_answer or not pair.cut_off
    chosen = _chosen_by_text(pair, extracted.answer) if pair.choices and found else None
    if chosen:
        result = EqualityResult(_status(chosen == reference), f"choice {chosen}")
        return Extraction(answer=chosen, location=_found(extracted)), result
    bare = extracted.location is not AnswerLocation.BOXED and not pair.cut_off
    if bare and strict.same_text(pair.prediction, reference):
        return Extraction(answer=pair.prediction.strip(), location=AnswerLocation.WHOLE), EqualityResult(
            GradeStatus.CORRECT, "same text"
        )
    if not extracted.has_answer:
        return extracted, EqualityResult(
            GradeStatus.UNPARSED, "cut off before an answer" if pair.cut_off else "no answer was found"
        )
    return extracted, strict.equal(extracted.answer, reference, Tolerance(pair.tolerance, pair.relative_tolerance))


def _chosen_by_text(pair: Pair, answer: str) -> str | None:
    """The letter of the one choice whose text is the answer; None where it is a letter, or the text of none or several.

    A choice in words is a sentence, of which extraction may take a part: what stands behind "the answer is" counts too.
    """
    if leading_choice(answer):
        return None
    announced = announced_text(pair.prediction)
    for text in (answer, announced, pair.prediction):
        letters = [
            a for a, choice in zip(ascii_uppercase, pair.choices, strict=False) if strict.same_text(text, choice)
        ]
        if letters:
            return letters[0] if len(letters) == 1 else None
    return None if answer else leading_choice(announced)


def _found(extracted: Extraction) -> AnswerLocation:
    return extracted.location if extracted.has_answer else AnswerLocation.WHOLE


def _status(correct: bool) -> GradeStatus:
    return GradeStatus.CORRECT if correct else GradeStatus.WRONG


def _grade_dart(pair: Pair) -> tuple[Extraction, EqualityResult]:
    extracted = dart.extract(pair.prediction)
    if pair.cut_off:
        return extracted, EqualityResult(GradeStatus.WRONG, "cut off at the token limit")
    if not extracted.has_answer:
        return extracted, EqualityResult(GradeStatus.UNPARSED, "no answer was found")
    return extracted, dart.equal(extracted.answer, extract_reference(pair.reference), question=pair.question)
