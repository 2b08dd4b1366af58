"""The dart profile: what is known of DART-Math's evaluator, leniencies and deaf spots included."""

from pathlib import Path

import pytest

from sq.eval.equal import dart
from sq.eval.grade import Pair, grade_answer
from sq.eval.grade_status import GradeStatus
from sq.eval.grader_config import Profile


@pytest.mark.parametrize(
    ("prediction", "reference", "correct"),
    [
        ("y+x", "x+y", True),
        ("1,2", r"\begin{array}1\\2\end{array}", True),
        ("100", "1", False),
        ("1", "100", False),
        ("3.04", "0.0304", True),  # a factor of 100 passes for a percentage
        ("x>3", "x<-1", False),
        ("5", "5", True),
        ("0.3", "0.30000000000000004", True),
        ("(12,34)", "12,34", True),
        ("5", r"\$ 5", True),
        (r"(3,\frac{\pi}{2})", r"(3,\pi/2)", True),
        ("white", "White", True),
        ("1001", r"\frac{2003}{2}", False),
        (r"\dfrac{1}{2}", "0.5", True),
        (r"5\text{ cm}", "5", True),
        ("x=5", "5", True),
        ("yes", "Yes", True),
        # accepted there, and wrong
        (".5", "5", True),
        ("(0,1)", "[0,1]", True),
        ("no solution", "0", True),
        ("money", "Monday", True),
        # refused there, and right
        (".5", "0.5", False),
        (r"1\frac{1}{2}", "1.5", False),
        ("3<x", "x>3", False),
    ],
)
def test_known_verdicts(prediction, reference, correct):
    assert dart.equal(prediction, reference).correct is correct


def test_sets_are_compared_where_the_question_asks_for_all():
    question = "Find the sum of all values of x, separated by commas."
    assert dart.equal("2,1", "1,2", question=question).correct
    assert not dart.equal("2,1", "1,2").correct


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("The answer is 3. Therefore, the answer is 5.", "5"),
        ("Work: 4\n#### 18", "18"),
        ("Some\n# Answer\n\n$\\boxed{7}$", "7"),
        ("It is $\\boxed{9}$ and $x$.", "9"),
        ("so 12 is the answer", "so 12"),
        ("The answer is $\\frac{1}{2}$.", r"$\frac{1}{2}"),  # the dollar behind goes with the point; the other later
        ("Both \\(a\\) and \\(b\\).", "a\\) and "),  # what opens a formula ends one, too
        ("The statement is true.", "True"),
        ("We see $x=1$ and $y=2$", "y=2"),
        ("He has 3 and then 1,004", "1004"),
        ("nothing", ""),
    ],
)
def test_extraction(output, answer):
    assert dart.extract(output).answer == answer


def test_cut_off_outputs_are_wrong():
    grade = grade_answer(Pair(prediction=r"\boxed{5}", reference="5", finish_reason="length"), Profile.DART)
    assert (grade.status, grade.reason) == (GradeStatus.WRONG, "cut off at the token limit")
    assert grade_answer(Pair(prediction=r"\boxed{5}", reference="5", finish_reason="stop"), Profile.DART).correct


def test_what_goes_wrong_is_wrong():
    assert dart.equal(r"\frac{", "1").status is GradeStatus.WRONG
    assert dart.equal("9^{9^{9^9}}", "1").status is GradeStatus.WRONG
    assert dart.equal("1" * 10_000, "1").status is GradeStatus.WRONG


def test_dart_math_itself_agrees():
    """What DART-Math (its last release, with SymPy 1.12 and ANTLR 4.11) said of our own pairs: `dart_verdicts.tsv`."""
    lines = (Path(__file__).parent / "dart_verdicts.tsv").read_text(encoding="utf-8").split("\n")[1:]
    rows = [line.split("\t") for line in lines if line]
    assert len(rows) > 700
    given = [
        grade_answer(Pair(prediction=o, reference=r), Profile.DART).correct == (v == "correct") for v, o, r in rows
    ]
    assert sum(given) / len(given) >= 0.99, [r for r, same in zip(rows, given, strict=True) if not same][:10]
