"""Estimates: each with its interval; a change only where that leaves out zero; students compared by problem."""

import pytest
from report_run import student

from sq.core.intervals import paired_difference
from sq.core.rows import JUDGED
from sq.report.estimates import (
    CHOOSERS,
    Change,
    accuracy,
    change,
    change_of_students,
    change_over_seeds,
    over_seeds,
    share,
)
from sq.report.render import interval, percent, points


def test_changes_are_gains_only_beyond_their_interval():
    assert change(share(10, 100), share(60, 100)).direction == "gain"
    assert change(share(60, 100), share(10, 100)).direction == "loss"
    assert change(share(50, 100), share(55, 100)).direction == "no difference shown"
    three = over_seeds([share(10, 100), share(20, 100), share(30, 100)])
    assert three.value == pytest.approx(0.2) and three.high - three.value == pytest.approx(4.30265 * 0.1 / 3**0.5)
    assert three.low == 0.0, "a share is none below 0"
    assert over_seeds([share(1, 2)]) == share(1, 2)
    same = over_seeds([share(50, 100)] * 4)
    assert same.high - same.low == pytest.approx((share(50, 100).high - share(50, 100).low) / 2), "not certainty"


def test_two_students_are_compared_problem_by_problem(tmp_path):
    before, after = [i % 2 == 0 for i in range(40)], [i % 2 == 0 or i < 12 for i in range(40)]
    a, b = student(tmp_path / "a", before), student(tmp_path / "b", after)
    assert accuracy(a, "b").value == 0.5 and accuracy(b, "b").value == 0.65
    step = change_of_students(a, b, "b")
    paired = paired_difference([float(x) for x in before], [float(x) for x in after])
    assert (step.value, step.low, step.high) == (paired.value, paired.low, paired.high) and step.direction == "gain"
    apart = change(accuracy(a, "b"), accuracy(b, "b"))
    assert apart.direction == "no difference shown", "the problems themselves differ more than the students"


def test_a_change_over_seeds_is_of_each_seed_with_itself():
    """Seeds lie 40 points apart, and each gains about 5: apart no gain is seen, seed by seed it is."""
    before, after = [share(n, 1000) for n in (100, 300, 500)], [share(n, 1000) for n in (160, 360, 555)]
    assert change(over_seeds(before), over_seeds(after)).direction == "no difference shown"
    paired = change_over_seeds(list(map(change, before, after)))
    assert paired.value == pytest.approx(0.0583, abs=1e-4) and paired.direction == "gain"
    assert change_over_seeds([change(before[0], after[0])]) == change(before[0], after[0])
    gains = [Change(value=v, low=v - 0.01, high=v + 0.01) for v in (0.02, 0.03, 0.04)]
    three = change_over_seeds(gains)
    assert three.low == pytest.approx(0.03 - 4.30265 * 0.01 / 3**0.5, rel=1e-4), "wider than each"


def test_a_number_stands_with_its_interval():
    assert interval(share(10, 100)) == "10.0% (5.5% to 17.4%)" and interval(None) == "–"
    assert interval(share(1, 3), digits=2) == "33.33% (6.15% to 79.23%)"
    assert interval(share(1, 2), shares=False) == "0.50 (0.09 to 0.91)"
    assert points(change(share(10, 100), share(60, 100))).startswith("+50.0 (+37.") and percent(None) == "–"


def test_every_model_that_filters_ask_is_one_that_chooses():
    assert sorted(CHOOSERS.values()) == sorted(name for name in JUDGED.names if name.endswith("_model"))
