"""Metrics against counting by hand, closed forms and brute force."""

from contextlib import closing
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.core.config import build
from sq.core.intervals import paired_difference, share_interval, wilson
from sq.core.metrics import EVALUATION, find_metric
from sq.domains.base import Candidates
from sq.domains.qa import QAConfig
from sq.eval.checkers import EqualityChecker
from sq.eval.grader_config import GraderConfig
from sq.eval.metrics import (
    NONE,
    GradedAnswers,
    answer_classes,
    best_of_k,
    compute_metrics,
    majority_at_k,
    pass_at_k,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_pass_at_k_is_the_mean_over_all_ways_to_draw_k(right, k):
    k = min(k, len(right))
    draws = [any(d) for d in combinations(right, k)]
    assert pass_at_k(np.array([right]), k).item() == pytest.approx(sum(draws) / len(draws), abs=1e-12)


def test_pass_at_k_does_not_overflow_and_refuses_what_cannot_be_known():
    many = np.zeros((1, 4000), dtype=bool)
    many[0, 0] = True
    assert pass_at_k(many, 2000).item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="pass@3 needs at least 3 answers to each problem; there are 2"):
        pass_at_k(np.ones((1, 2)), 3)


def test_the_majority_wins_ties_go_to_the_first_and_silence_has_no_vote():
    classes = np.array([[0, 1, 1, 2], [0, 1, 0, 1], [NONE, NONE, NONE, 0], [NONE] * 4])
    correct = np.array([[False, True, True, False], [True, False, True, False], [False] * 3 + [True], [False] * 4])
    assert majority_at_k(classes, correct, 4).tolist() == [1, 1, 1, 0]
    assert majority_at_k(classes, correct, 2).tolist() == [0.5, 1, 0.5, 0], "the mean of two groups of two"


def test_best_of_k_takes_the_highest_reward_and_a_missing_one_last():
    nan, inf = float("nan"), float("inf")
    reward = np.array([[0.1, 0.9, 0.9], [nan, -5.0, nan], [nan, nan, nan], [-inf, 1e30, inf]])
    correct = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)
    assert best_of_k(reward, correct, 3).tolist() == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def voters():
    """The vote of an evaluation, and that of selection in the mathematics domain."""
    checker = EqualityChecker(GraderConfig(workers=1), ["dart"])
    domain = build({"name": "math", "seeds": {"input": "nowhere"}}, QAConfig).create()
    with closing(checker):
        yield (
            checker.vote,
            lambda item, answers: domain.vote(Candidates(question={}, answers=answers, responses=answers)).keys,
        )


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (["12", " 12.0 ", "1,200", "\\frac{1}{2}", "0.5", "1/2"], [0, 0, 1, 2, 2, 2]),
        (["x+1", "x + 1", "1+x", "(x^2-1)/(x-1)"], [0, 0, 0, 0]),
        ([None, "", "3"], [NONE, NONE, 0]),
        (["1/0", "\\frac{1}{0}", "-\\frac{2}{4}", "-1/2"], [0, 0, 1, 1]),
        (["(1,2)", "(1, 2)", "(2,1)"], [0, 0, 1]),
        (["x=2, x=3", "3, 2", "2"], [0, 0, 1]),
        (["9" * 5000, "9" * 5000, "1"], [0, 0, 1]),
    ],
)
def test_answers_vote_together_as_they_do_in_selection(answers, classes, voters):
    for vote in voters:
        assert answer_classes({"p": answers}, vote).tolist() == [classes]


def test_one_answer_to_each_problem_asks_for_no_vote():
    def refuse(item, answers):
        raise AssertionError(item)

    assert compute_metrics(graded([["correct"], ["wrong"]]), refuse)["accuracy"].value == 0.5


def test_a_paired_difference_is_seen_where_scores_alone_overlap():
    a = [0.0] * 300 + [1.0] * 300
    b = [1.0] * 25 + a[25:]  # 25 problems gained, none lost
    found = paired_difference(a, b)
    assert share_interval(a).high > share_interval(b).low, "the two intervals overlap"
    assert found.real and found.low > 0 and found.p < 0.001 and found.value == pytest.approx(25 / 600)


def by_text(item, answers):
    return answers


def graded(verdicts, **columns):
    rows = {
        f"p{i}": [
            {
                "item": f"p{i}", "sample": k, "correct": v == "correct", "verdict": v, "extracted": v[:1],
                "level": None, "topic": None, "source": None, "steps": None, "parents": [f"a{i}{k}"],
                "prediction_finish_reason": "stop", "prediction_tokens": 10 * (k + 1),
                **{name: values[i] for name, values in columns.items()},
            }
            for k, v in enumerate(several)
        ]
        for i, several in enumerate(verdicts)
    }  # fmt: skip
    return GradedAnswers(profile="strict", rows=rows)


def test_metrics_of_one_answer_each_with_groups_in_natural_order():
    one = graded([["correct"], ["wrong"], ["unparsed"], ["correct"]], level=["10", "2", "2", "10"], topic=["A & b"] * 4)
    found = compute_metrics(one, by_text)
    assert found["accuracy"].value == 0.5 and found["accuracy"].count == 4
    assert [n for n in found if n.startswith("accuracy_")] == ["accuracy_level_2", "accuracy_level_10"]
    assert (found["accuracy"].low, found["accuracy"].high) == wilson(2, 4)
    assert (found["unparsed"].low, found["unparsed"].high) == wilson(1, 4)
    assert found["accuracy_level_10"].value == 1 and found["accuracy_level_2"].value == 0
    assert found["unparsed"].value == 0.25 and found["tokens"].value == 10
    assert not any(n.startswith(("avg_at", "pass_at", "maj_at", "best_of")) for n in found)


def test_groups_of_one_problem_each_are_left_out():
    one = graded([["correct"], ["wrong"], ["correct"]], source=["a", "b", "c"], topic=["x", "y", "y"])
    found = compute_metrics(one, by_text)
    assert [n for n in found if n.startswith("accuracy_")] == ["accuracy_topic_x", "accuracy_topic_y"]


def test_metrics_of_several_answers_and_rewards():
    several = graded([["correct", "wrong", "wrong"], ["wrong", "correct", "correct"]])
    rewards = {"a00": 2.0, "a01": 1.0, "a02": 0.0, "a10": 5.0, "a11": 1.0}
    found = compute_metrics(several, by_text, rewards=rewards)
    assert not [name for name in found if find_metric(name, EVALUATION) is None]
    assert found["accuracy"].value == pytest.approx(0.5)
    assert found["avg_at_3"] == found["accuracy"] and found["avg_at_3"].low < 0.5 < found["avg_at_3"].high
    assert found["pass_at_3"].value == 1 and found["pass_at_2"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["maj_at_3"].value == 0.5 and found["best_of_3"].value == 0.5
    assert (
        "pass_at_2" not in compute_metrics(several, by_text, ks=[3])
        and compute_metrics(GradedAnswers(profile="x", rows={}), by_text) == {}
    )
