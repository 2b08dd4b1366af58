"""Top-p without the sort keeps what the sort keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.engine.nucleus import draw, keep_nucleus

ROUNDING = 1e-6
"""Of sums of float32, by which a token may fall on either side."""


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 5),
    size=st.sampled_from([2, 3, 50, 1024, 5000]),
    p=st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.95, 0.99, 0.9999]),
    spread=st.sampled_from([0.0, 0.3, 2.0, 10.0]),
)
def test_the_least_likely_tokens_of_one_minus_p_go_and_no_other(seed, rows, size, p, spread):
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * spread
    kept = keep_nucleus(logits.clone(), dict.fromkeys(range(rows), p)).isfinite()
    for ours, row in zip(kept, logits, strict=True):
        shares = row.double().softmax(-1)
        gone, least = shares[~ours].sum(), shares[ours].min()
        last = shares[ours & (row == row[ours].min())].sum()  # tokens as likely as the last one stay with it
        assert gone <= 1 - p + ROUNDING and gone + last > 1 - p - ROUNDING
        assert not (shares[~ours] >= least).any()


def test_the_token_that_makes_the_sum_pass_p_stays():
    """By hand, of tokens with 0.5, 0.3, 0.15 and 0.05 of the whole."""
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    for p, stay in ((0.96, [0, 1, 2, 3]), (0.9, [0, 1, 3]), (0.79, [1, 3]), (0.51, [1, 3]), (0.49, [1]), (0.01, [1])):
        assert keep_nucleus(logits.clone(), {0: p}).isfinite()[0].nonzero()[:, 0].tolist() == stay, p


def test_equal_logits_all_stay():
    assert keep_nucleus(torch.zeros(1, 100), {0: 0.5}).isfinite().all()


def test_rows_without_top_p_and_rows_of_one_stay_as_they_are():
    logits = torch.randn(4, 300) * 4
    out = keep_nucleus(logits.clone(), {2: 0.5, 1: 1.0})
    assert torch.equal(out[[0, 1, 3]], logits[[0, 1, 3]]) and not out[2].isfinite().all()


def test_rows_are_told_apart_whatever_the_order_they_are_named_in():
    logits = torch.randn(4, 300) * 4
    top_p = {2: 0.3, 0: 0.9, 3: 0.99, 1: 0.5}
    out = keep_nucleus(logits.clone(), top_p)
    for row, p in top_p.items():
        assert torch.equal(out[row], keep_nucleus(logits[row : row + 1].clone(), {0: p})[0])


@pytest.mark.parametrize("p", [0.5, 0.99])
def test_masked_tokens_stay_masked(p):
    logits = torch.randn(2, 500)
    logits[:, :400] = -torch.inf
    assert not keep_nucleus(logits, {0: p, 1: p})[:, :400].isfinite().any()


@pytest.mark.parametrize(("p", "temperature"), [(1.0, 1.0), (0.9, 0.7), (0.3, 2.0)])
def test_points_spread_evenly_draw_each_token_as_often_as_it_is_likely(p, temperature):
    logits = torch.randn(1, 60, generator=torch.Generator().manual_seed(3)) * 2
    count = 5_000
    points = [(i + 0.5) / count for i in range(count)]
    drawn = torch.tensor([draw(logits, [temperature], [p], [u])[0] for u in points])
    kept = keep_nucleus(logits / temperature, {0: p} if p < 1 else {})
    wanted = kept.double().softmax(-1)[0]
    assert (torch.bincount(drawn, minlength=60) / count - wanted).abs().max() < 5e-4
    assert draw(logits, [temperature], [p], [1 - 2**-53])[0] == int(wanted.nonzero()[-1])


def test_numbers_that_are_none_do_not_stop_the_others():
    logits = torch.tensor([[0.0, torch.nan, 1.0], [-torch.inf, 9.0, -torch.inf]])
    assert draw(logits, [1.0, 1.0], [0.9, 0.9], [0.5, 0.5])[1] == 1
