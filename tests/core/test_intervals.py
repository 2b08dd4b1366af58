"""Intervals and the paired test: by hand, against scipy, and how often they hold the truth, by exact enumeration."""

from itertools import product
from math import comb, prod

import pytest
from scipy.stats import binomtest, permutation_test, ttest_1samp

from sq.core.intervals import (
    confidence_sequence,
    mean_interval,
    paired_difference,
    share_interval,
    student,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 1000, 0.00018, 0.00565), (0, 0, 0, 1)],
)
def test_wilson_by_hand(k, n, low, high):
    assert wilson(k, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def right(k, n):
    return [1.0] * k + [0.0] * (n - k)


def test_a_share_of_single_answers_has_wilsons_interval_and_more_right_is_never_less_sure():
    for n in (1, 2, 20, 41):
        shown = [share_interval(right(k, n)) for k in range(n + 1)]
        for k, one in enumerate(shown):
            ends = binomtest(k, n).proportion_ci(method="wilson")
            assert (one.value, one.low, one.high) == pytest.approx((k / n, ends.low, ends.high), abs=1e-12)
            assert one.count == n
        assert all(a.low < b.low and a.high < b.high for a, b in zip(shown, shown[1:], strict=False))
    assert share_interval([]).low == 0 and share_interval([]).high == 1 and share_interval([]).count == 0


def coverage(outcomes, truth, interval):
    """The chance that the interval holds the truth, over every (chance, values) that can come out."""
    held = 0.0
    for chance, values in outcomes:
        found = interval(values)
        held += chance * (found.low - 1e-12 <= truth <= found.high + 1e-12)
    return held


def single_answers(n, p):
    return [(comb(n, k) * p**k * (1 - p) ** (n - k), right(k, n)) for k in range(n + 1)]


@pytest.mark.parametrize("n", [10, 30, 40, 100])
def test_coverage_of_single_answers(n):
    held = {p: coverage(single_answers(n, p / 20), p / 20, share_interval) for p in range(1, 20)}
    assert min(held.values()) > 0.90 and 0.94 < sum(held.values()) / len(held) < 0.97
    if n == 40:
        assert held[18] == pytest.approx(0.943, abs=0.001), "a percentile bootstrap has 0.914"


def several_answers(n, answers, mixture):
    """Every number of problems with 0, 1, ... right answers; `mixture`: the share of problems of each difficulty."""
    chance = [
        sum(w * comb(answers, k) * p**k * (1 - p) ** (answers - k) for w, p in mixture) for k in range(answers + 1)
    ]
    for counts in product(range(n + 1), repeat=answers):
        if (rest := n - sum(counts)) >= 0:
            every, left, ways = (*counts, rest), n, 1
            for count in every:
                ways, left = ways * comb(left, count), left - count
            yield (
                ways * prod(c**count for c, count in zip(chance, every, strict=True)),
                [k / answers for k, count in enumerate(every) for _ in range(count)],
            )


@pytest.mark.parametrize(
    "mixture",
    [
        [(1.0, 0.5)], [(1.0, 0.9)],  # problems alike: answers as good as independent
        [(0.5, 1.0), (0.5, 0.0)],  # every problem all right or all wrong: two answers are worth one
        [(0.8, 1.0), (0.2, 0.5)], [(0.95, 0.02), (0.05, 0.5)], [(0.3, 0.3), (0.7, 0.99)],
    ],
)  # fmt: skip
def test_coverage_of_several_answers_clustered_by_problem(mixture):
    truth = sum(w * p for w, p in mixture)
    assert coverage(several_answers(30, 2, mixture), truth, share_interval) > 0.93


def test_several_answers_are_worth_between_one_and_all_of_them():
    n, k = 40, 4
    alike = share_interval([0.25, 0.5, 0.75, 0.5] * 10)  # less spread between problems than one answer each would have
    apart = share_interval(right(n // 2, n))
    assert apart.high - apart.low == pytest.approx(2 * (wilson(20, 40)[1] - 0.5))
    assert alike.high - alike.low < wilson(n * k // 2, n * k)[1] - wilson(n * k // 2, n * k)[0]
    assert share_interval([0.5] * 9).low == wilson(4.5, 9)[0], "no spread at all says nothing of the error"
    assert share_interval([1.0] * 29 + [0.75]).high < 1 and share_interval([1.0] * 30).low == wilson(30, 30)[0]


def test_a_mean_has_students_interval():
    values = [3.0, 4.5, 1.0, 8.0, 2.5]
    ends, found = ttest_1samp(values, 0).confidence_interval(), mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((3.8, ends.low, ends.high))
    assert mean_interval([7.5]).high == mean_interval([7.5] * 9).low == 7.5 and mean_interval([]).count == 0
    assert [student(n) for n in (1, 9, 1000)] == pytest.approx([12.7062, 2.2622, 1.9623], abs=1e-4)


def two_runs(n, gained, lost):
    """A and B on n problems that both have right, but for those gained and lost."""
    rest = [1.0] * (n - gained - lost)
    return [0.0] * gained + [1.0] * lost + rest, [1.0] * gained + [0.0] * lost + rest


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (3, 3), (30, 12), (12, 30), (200, 150)])
def test_the_paired_test_is_mcnemars_exact_one(gained, lost):
    found = paired_difference(*two_runs(400, gained, lost))
    exact = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p == pytest.approx(exact, rel=1e-6, abs=1e-12)
    assert found.value == pytest.approx((gained - lost) / 400) and found.low < found.value < found.high
    assert found.real == (exact < 0.05)
    back = paired_difference(*reversed(two_runs(400, gained, lost)))
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_of_several_answers_every_sign_of_every_gap_is_counted():
    a, b = [0.0, 1 / 3, 0.5, 1.0, 0.75, 0.2], [0.25, 2 / 3, 0.5, 0.5, 1.0, 0.8]
    gaps = [y - x for x, y in zip(a, b, strict=True)]
    flipped = [sum(s * g for s, g in zip(signs, gaps, strict=True)) for signs in product((-1, 1), repeat=6)]
    by_hand = sum(abs(f) >= abs(sum(gaps)) - 1e-9 for f in flipped) / 64
    theirs = permutation_test((b, a), lambda x, y: sum(x) - sum(y), permutation_type="samples", n_resamples=10**4)
    found = paired_difference(a, b)
    assert found.p == pytest.approx(by_hand, abs=1e-12) == pytest.approx(theirs.pvalue)
    ends = ttest_1samp(gaps, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def outcomes_of_two(n, gained, lost):
    for i in range(n + 1):
        for j in range(n - i + 1):
            ways = comb(n, i) * comb(n - i, j)
            yield ways * gained**i * lost**j * (1 - gained - lost) ** (n - i - j), two_runs(n, i, j)


@pytest.mark.parametrize(("gained", "lost"), [(0.1, 0.1), (0.3, 0.3), (0.02, 0.02), (0.05, 0.02), (0.2, 0.05)])
def test_coverage_of_the_difference_and_how_often_chance_is_called_one(gained, lost):
    drawn = [(chance, paired_difference(*runs)) for chance, runs in outcomes_of_two(40, gained, lost)]
    assert sum(c for c, d in drawn if d.low - 1e-12 <= gained - lost <= d.high + 1e-12) > 0.94
    if gained == lost:
        assert sum(chance for chance, found in drawn if found.real) < 0.05
        assert sum(chance for chance, found in drawn if found.p < 0.05) < 0.05


def test_few_problems_prove_nothing_and_what_is_not_paired_is_refused():
    one = paired_difference([0.0], [1.0])
    assert not one.real and one.p == 1 and (one.low < 0 < one.high)
    assert (paired_difference([0.5], [0.75]).low, paired_difference([0.5], [0.75]).high) == (-1, 1)
    same = paired_difference([1.0] * 50, [1.0] * 50)
    assert same.p == 1 and same.low == -same.high < 0, "50 problems without a change do not prove that there is none"
    with pytest.raises(ValueError, match="3 and 2 values cannot be paired"):
        paired_difference([0.0] * 3, [0.0] * 2)


def ever_missed(interval, share, answers, step):
    """The chance that an interval looked at after every `step` answers misses the share at any look: exact."""
    left, missed = {0: 1.0}, 0.0
    for n in range(1, answers + 1):
        after = dict.fromkeys(range(n + 1), 0.0)
        for right_ones, chance in left.items():
            after[right_ones] += chance * (1 - share)
            after[right_ones + 1] += chance * share
        left = {}
        for right_ones, chance in after.items():
            low, high = interval(right_ones, n) if n % step == 0 else (0.0, 1.0)
            if low <= share <= high:
                left[right_ones] = chance
            else:
                missed += chance
    return missed


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.97])
def test_a_confidence_sequence_holds_at_every_look_where_wilsons_does_not(share, step):
    assert ever_missed(confidence_sequence, share, 96, step) < 0.05 < ever_missed(wilson, share, 96, step)


def test_a_confidence_sequence_by_hand():
    # all right of n: the end p solves B(n + 1/2, 1/2) / B(1/2, 1/2) = 20 p^n
    assert confidence_sequence(4, 4) == (pytest.approx((comb(8, 4) / 4**4 / 20) ** (1 / 4), abs=1e-9), 1.0)
    low, high = confidence_sequence(30, 100)
    assert (low, high) == (
        pytest.approx(1 - confidence_sequence(70, 100)[1]),
        pytest.approx(1 - confidence_sequence(70, 100)[0]),
    )
    assert low < wilson(30, 100)[0] < 0.3 < wilson(30, 100)[1] < high and confidence_sequence(0, 0) == (0, 1)
    assert confidence_sequence(30, 100, 0.5)[0] > low and confidence_sequence(300, 1000)[1] < high
