"""Profile math-verify: what Hugging Face's math-verify says of an output, for figures beside those that others publish.

Called as its README shows. Its own limits (five seconds for each side and for each comparison) make an answer wrong;
the worker that this runs in is killed later than they end.
"""

from __future__ import annotations

from sq.eval.extract import MAX_OUTPUT, AnswerLocation, Extraction
from sq.eval.grade_status import EqualityResult, GradeStatus

_MATHEMATICS = ("$", "\\boxed", "\\(", "\\[")
SECONDS = 30.0
"""The deadline of a pair, where the config's is shorter: both sides parsed, and every reading compared."""


def grade(prediction: str, reference: str) -> tuple[Extraction, EqualityResult]:
    """The expression that math-verify finds in an output, and whether it holds it for the reference.

    Args:
        prediction: the whole output.
        reference: the true answer, or a solution that ends in one; between dollar signs where it has no TeX.
    """
    from math_verify import parse, verify

    gold = parse(reference if any(sign in reference for sign in _MATHEMATICS) else f"${reference}$")
    given = parse(prediction[-MAX_OUTPUT:])
    extraction = Extraction(
        answer=str(given[-1]) if given else "", location=AnswerLocation.WHOLE if given else AnswerLocation.NOWHERE
    )
    if not gold:
        return extraction, EqualityResult(GradeStatus.UNVERIFIABLE, "math-verify reads no reference")
    if not given:
        return extraction, EqualityResult(GradeStatus.UNPARSED, "math-verify finds no answer")
    if verify(gold, given):
        return extraction, EqualityResult(GradeStatus.CORRECT, "math-verify: the same")
    return extraction, EqualityResult(GradeStatus.WRONG, "math-verify: not the same")
