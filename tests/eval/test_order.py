"""A verdict does not depend on what was graded before it: no profile and no pair leaves anything behind."""

from sq.eval.equal.tree import Const, Op, Sym, Text, symbols
from sq.eval.grade import Pair, grade_answer
from sq.eval.grader_config import Profile

PAIRS = [
    Pair(prediction=rf"\boxed{{{answer}}}", reference=reference)
    for answer, reference in [
        (r"2\pi", "6.283185307"), ("e^{2}", "7.389056099"), ("2e", "5.436563657"), (r"\frac{\pi}{2}", r"90^\circ"),
        ("i^2", "-1"), (r"2\mathbf{i}+\mathbf{j}", "(2,1)"), ("2i+1", "1+2i"), (r"\sin\frac{\pi}{6}", "0.5"),
    ]
]  # fmt: skip


def test_a_variable_a_number_and_a_word_of_one_name_are_three_things():
    assert len({Sym("e"), Const("e"), Text("e")}) == 3
    assert Sym("pi") != Const("pi") and Const("pi") != Sym("pi")
    assert symbols(Op("neg", (Sym("pi"),))) == {"pi"}
    assert symbols(Op("neg", (Const("pi"),))) == frozenset()


def test_profiles_do_not_colour_one_another():
    symbols.cache_clear()
    strict = [grade_answer(p) for p in PAIRS]
    symbols.cache_clear()
    dart = [grade_answer(p, Profile.DART) for p in PAIRS]
    assert [grade_answer(p) for p in PAIRS] == strict
    assert [grade_answer(p, Profile.DART) for p in reversed(PAIRS)][::-1] == dart
    assert any(s.correct != d.correct for s, d in zip(strict, dart, strict=True))
