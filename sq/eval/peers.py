"""Our grader inside other harnesses: a scorer for Inspect, and a filter for lm-evaluation-harness.

Inspect: `Task(dataset, solver, scorer=sq_grader())`. lm-evaluation-harness: in the task's `utils.py` beside its YAML
`from sq.eval.peers import grade_responses`, and in the YAML

    filter_list:
      - name: sq
        filter:
          - function: custom
            filter_fn: !function utils.grade_responses
          - function: take_first

Answers are graded in our worker processes, which can be killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sq.eval.grade import Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig


def grade_responses(
    responses: Iterable[Sequence[str]],
    docs: Iterable[Mapping[str, Any]],
    *,
    target: str = "answer",
    profile: str = "strict",
) -> list[list[str]]:
    """For each response the target itself where it is right, so that `exact_match` counts it, else why it is not.

    Args:
        responses: of the harness: those to each doc.
        docs: the problems.
        target: the doc's column with the reference, or a solution that ends in it.
        profile: whose rules decide.
    """
    grader, graded = _grader(), []
    for several, doc in zip(responses, docs, strict=True):
        reference = str(doc[target])
        pairs = [Pair(prediction=text, reference=reference) for text in several]
        grades = grader.grade(pairs, profile)
        graded.append([reference if g.correct else f"[{g.status.value}] {g.extracted}" for g in grades])
    return graded


def sq_grader(profile: str = "strict", relative_tolerance: float | None = None) -> Any:
    """A scorer for Inspect: correct or not by a profile of our grader, with the answer found and the reason."""
    from anyio import to_thread
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer, stderr

    def of_profile(profile: str, relative_tolerance: float | None) -> Any:
        async def score(state: Any, target: Any) -> Score:
            reason = "length" if state.output.stop_reason == "max_tokens" else "stop"
            pairs = [
                Pair(prediction=state.output.completion, reference=text, finish_reason=reason,
                     relative_tolerance=relative_tolerance)
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

    return scorer(metrics=[accuracy(), stderr()], name="sq_grader")(of_profile)(profile, relative_tolerance)


@cache
def _grader() -> Grader:
    return Grader(GraderConfig())
