"""Profile math-verify: what the library says, in workers that end where it would not."""

import pytest
from math_verify import parse, verify

from sq.core.config import build
from sq.eval.checkers import EqualityChecker, grader_version
from sq.eval.equal import math_verify
from sq.eval.grade import Pair, grade_answer
from sq.eval.grade_status import GradeStatus
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig, Profile

CASES = [
    ("So it is $\\boxed{\\frac{1}{2}}$.", "0.5", GradeStatus.CORRECT),
    ("The answer is 3.", "$4$", GradeStatus.WRONG),
    ("It is $x=5$.", "5", GradeStatus.CORRECT),
    ("\\boxed{(1,2)}", "\\boxed{(1,2)}", GradeStatus.CORRECT),
    ("First $7$. So $\\boxed{8}$", "8", GradeStatus.CORRECT),
    ("No idea", "8", GradeStatus.UNPARSED),
    ("\\boxed{5 cm}", "5", GradeStatus.CORRECT),
]


@pytest.mark.parametrize(("output", "reference", "status"), CASES)
def test_the_profile_says_what_the_library_says(output, reference, status):
    grade = grade_answer(Pair(prediction=output, reference=reference), Profile.MATH_VERIFY)
    assert grade.status is status and grade.profile is Profile.MATH_VERIFY
    gold = reference if "$" in reference or "\\boxed" in reference else f"${reference}$"
    assert grade.correct == verify(parse(gold), parse(output))
    assert bool(grade.extracted) == (status is not GradeStatus.UNPARSED)


@pytest.mark.slow
def test_a_worker_ends_before_the_library_would(monkeypatch):
    tower = Pair(prediction="$9^{9^{9^9}}$", reference="5")  # the library's own limit of five seconds ends it
    with Grader(GraderConfig(workers=1, deadline=1)) as grader:
        assert grader.grade_one(Pair(prediction="$1$", reference="1"), "math-verify").correct, "its import has time"
        monkeypatch.setattr(math_verify, "SECONDS", 1)
        assert grader.grade_one(tower, "math-verify").status is GradeStatus.TIMEOUT
        monkeypatch.setattr(math_verify, "SECONDS", 30)
        after = list(grader.grade([Pair(prediction=o, reference=r) for o, r, _ in CASES], "math-verify"))
    assert [grade.status for grade in after] == [status for *_, status in CASES]


def test_the_library_s_release_is_part_of_what_decides_the_grades():
    config = build({}, GraderConfig)
    assert EqualityChecker(config, ["strict", "dart"]).version == grader_version()
    assert EqualityChecker(config, ["strict", "math-verify"]).version.startswith(f"{grader_version()}-0.9.")
