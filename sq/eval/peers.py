"""Our grader inside other harnesses: a scorer for Inspect, and a filter for lm-evaluation-harness.

Inspect: `Task(dataset, solver, scorer=sq_grader())`. lm-evaluation-harness: in the task's `utils.py` beside its YAML
`from sq.eval.peers import grade_responses`, and in the YAML

    filter_list:
      - name: sq
        filter:
          - function: custom
            filter_fn: !function utils.grade_responses
          - function: take_first

The errors that references allow are the problem's columns `tolerance` and `relative_tolerance`, or are given: to
`sq_grader`, or in that `utils.py` by `functools.partial(grade_responses, relative_tolerance=0.01)`.

Answers are graded in our worker processes, which can be killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from sq.eval.equal.numbers import EXACT, Tolerance
from sq.eval.grade import Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig
from sq.eval.tolerances import COLUMNS, tolerance_of

Allowed: TypeAlias = "float | str | None"
"""An error that a reference allows, or the column that has it."""


def grade_responses(
    responses: Iterable[Sequence[str]],
    docs: Iterable[Mapping[str, Any]],
    *,
    target: str = "answer",
    profile: str = "strict",
    tolerance: Allowed = "tolerance",
    relative_tolerance: Allowed = "relative_tolerance",
) -> list[list[str]]:
    """For each response the target itself where it is right, so that `exact_match` counts it, else why it is not.

    Args:
        responses: of the harness: those to each doc.
        docs: the problems.
        target: the doc's column with the reference, or a solution that ends in it.
        profile: whose rules decide.
        tolerance: an absolute error that references allow, or the doc's column with it.
        relative_tolerance: the same of a relative one.
    """
    grader, graded = _grader(), []
    for several, doc in zip(responses, docs, strict=True):
        reference, allowed = str(doc[target]), _allowed(doc, tolerance, relative_tolerance)
        pairs = [
            Pair(prediction=text, reference=reference, tolerance=allowed.absolute, relative_tolerance=allowed.relative)
            for text in several
        ]
        grades = grader.grade(pairs, profile)
        graded.append([reference if g.correct else f"[{g.status.value}] {g.extracted}" for g in grades])
    return graded


def sq_grader(
    profile: str = "strict", tolerance: Allowed = "tolerance", relative_tolerance: Allowed = "relative_tolerance"
) -> Any:
    """A scorer for Inspect: correct or not by a profile of our grader, with the answer found and the reason.

    Args:
        profile: whose rules decide.
        tolerance: an absolute error that targets allow, or the name of it in a sample's metadata.
        relative_tolerance: the same of a relative one.
    """
    from anyio import to_thread
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer, stderr

    def of_profile(profile: str, tolerance: Allowed, relative_tolerance: Allowed) -> Any:
        async def score(state: Any, target: Any) -> Score:
            reason = "length" if state.output.stop_reason == "max_tokens" else "stop"
            allowed = _allowed(state.metadata or {}, tolerance, relative_tolerance)
            pairs = [
                Pair(prediction=state.output.completion, reference=text, finish_reason=reason,
                     tolerance=allowed.absolute, relative_tolerance=allowed.relative)
                for text in target
            ]  # fmt: skip
            grades = await to_thread.run_sync(lambda: list(_grader().grade(pairs, profile)))
            best = next((grade for grade in grades if grade.correct), grades[0])
            return Score(
                value=CORRECT if best.correct else INCORRECT,
                answer=best.extracted,
                explanation=f"{best.status.value}: {best.reason}",
            )

        return score

    return scorer(metrics=[accuracy(), stderr()], name="sq_grader")(of_profile)(profile, tolerance, relative_tolerance)


def _allowed(problem: Mapping[str, Any], tolerance: Allowed, relative_tolerance: Allowed) -> Tolerance:
    """The errors as they are given, or as the problem's columns of those names have them."""
    given = (problem.get(each) if isinstance(each, str) else each for each in (tolerance, relative_tolerance))
    return tolerance_of(dict(zip(COLUMNS, given, strict=True)), EXACT)


@cache
def _grader() -> Grader:
    return Grader(GraderConfig())
