"""Pairs of our own, by category, each with its reason: `pairs.tsv` beside this file."""

from pathlib import Path

import pytest

from sq.eval.grade import Pair, grade_answer
from sq.eval.grade_status import GradeStatus

_LINES = (Path(__file__).parent / "pairs.tsv").read_text(encoding="utf-8").split("\n")
PAIRS = [line.split("\t") for line in _LINES[1:] if line]


@pytest.mark.parametrize(
    ("verdict", "prediction", "reference"),
    [pytest.param(*row[1:4], id=f"{row[0]}: {row[4]}") for row in PAIRS],
)
def test_pair(verdict, prediction, reference):
    grade = grade_answer(Pair(prediction=prediction, reference=reference))
    if verdict == "wrong":  # what must not score; an answer that cannot be compared does not either
        assert not grade.correct, grade
    else:
        assert grade.status == verdict, grade


def test_the_table_is_large_and_varied():
    assert len(PAIRS) >= 400
    assert len({row[0] for row in PAIRS}) >= 30
    assert all(len(row) == 5 and row[4] for row in PAIRS)
    assert sum(row[1] == "wrong" for row in PAIRS) >= 120


TWO_WAY = [r for r in PAIRS if r[0] in ("fraction", "algebra", "tuple", "set", "trig", "matrix", "root", "complex")]


@pytest.mark.parametrize("row", TWO_WAY, ids=lambda r: r[4])
def test_equality_does_not_depend_on_the_side(row):
    _, verdict, prediction, reference, _ = row
    grade = grade_answer(Pair(prediction=reference, reference=prediction))
    assert grade.correct == (verdict == "correct"), grade


@pytest.mark.parametrize(
    ("prediction", "reference", "verdict"), [("", "5", GradeStatus.UNPARSED), ("5", "", GradeStatus.UNVERIFIABLE)]
)
def test_nothing_on_one_side(prediction, reference, verdict):
    assert grade_answer(Pair(prediction=prediction, reference=reference)).status is verdict


def test_a_tolerance_is_used_where_the_reference_gives_one():
    pair = Pair(prediction="0.002, 5.234", reference="0.003, 5.233")
    assert not grade_answer(pair).correct
    assert grade_answer(Pair(prediction="0.002, 5.234", reference="0.003, 5.233", tolerance=1e-3)).correct
    assert not grade_answer(Pair(prediction="0.002, 5.24", reference="0.003, 5.233", tolerance=1e-3)).correct


def test_verdicts_do_not_change_from_run_to_run():
    first = [grade_answer(Pair(prediction=r[2], reference=r[3])) for r in PAIRS[::7]]
    assert first == [grade_answer(Pair(prediction=r[2], reference=r[3])) for r in PAIRS[::7]]
