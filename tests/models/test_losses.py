"""Losses against numbers computed by hand, closed forms and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from sq.models.losses import (
    PairLoss,
    correctness_loss,
    hinge_loss,
    ipo_loss,
    nll_loss,
    preference_loss,
    qpo_loss,
    regression_loss,
    robust_loss,
    sigmoid_loss,
    sum_by_owner,
    token_losses,
)


def test_qpo_is_ln_2_exactly_where_policy_is_reference() -> None:
    chosen, rejected = torch.randn(8) * 100, torch.randn(8) * 100
    loss = qpo_loss(chosen, rejected, chosen, rejected, beta=0.1)
    assert loss.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert loss.margins.abs().max() == 0 and loss.accuracies.sum() == 0


def test_qpo_golden_numbers() -> None:
    loss = qpo_loss(
        torch.tensor([-10.0, -20.0]),
        torch.tensor([-12.0, -15.0]),
        torch.tensor([-11.0, -18.0]),
        torch.tensor([-11.0, -16.0]),
        beta=0.5,
    )
    # Pair 1: 0.5·((−10+11) − (−12+11)) = 1; pair 2: 0.5·((−20+18) − (−15+16)) = −1.5.
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(1.5))) / 2
    assert loss.loss.item() == pytest.approx(expected, rel=1e-6)
    assert loss.chosen_rewards.tolist() == [0.5, -1.0] and loss.rejected_rewards.tolist() == [-0.5, 0.5]
    assert loss.margins.tolist() == [1.0, -1.5] and loss.accuracies.tolist() == [1.0, 0.0]


PAIRS = ([-10.0, -20.0], [-12.0, -15.0], [-11.0, -18.0], [-11.0, -16.0])  # at beta 0.5, margins of 1 and −1.5
LENGTHS = (torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]))  # log-ratios a token: 0.5 + 1 = 1.5 and −0.5 − 0.5 = −1


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("loss", "summed", "normalised", "start"),
    [
        (sigmoid_loss, [softplus(-1), softplus(1.5)], [softplus(-0.75), softplus(0.5)], math.log(2)),
        (hinge_loss, [0.0, 2.5], [0.25, 1.5], 1.0),
        # (1/β · margin − 1/2β)² = (2 − 1)² and (−3 − 1)²; a token: (1.5 − 1)² and (−1 − 1)².
        (partial(ipo_loss, beta=0.5), [1.0, 16.0], [0.25, 4.0], 1.0),
        (
            partial(robust_loss, label_smoothing=0.25),
            [1.5 * softplus(-1) - 0.5 * softplus(1), 1.5 * softplus(1.5) - 0.5 * softplus(-1.5)],
            [1.5 * softplus(-0.75) - 0.5 * softplus(0.75), 1.5 * softplus(0.5) - 0.5 * softplus(-0.5)],
            math.log(2),
        ),
    ],
)
def test_preference_losses_by_hand(loss: PairLoss, summed: list[float], normalised: list[float], start: float) -> None:
    pairs = [torch.tensor(side, dtype=torch.float64) for side in PAIRS]
    for lengths, expected in ((None, summed), (LENGTHS, normalised)):
        out = qpo_loss(*pairs, beta=0.5, loss=loss, lengths=lengths)
        assert out.loss.item() == pytest.approx(sum(expected) / 2, rel=1e-6)
    same = qpo_loss(*pairs[:2], *pairs[:2], beta=0.5, loss=loss, lengths=LENGTHS)
    assert same.loss.item() == pytest.approx(start, rel=1e-6)


def test_nll_is_a_mean_over_rows_of_a_mean_over_tokens() -> None:
    logps = torch.tensor([-10.0, -3.0], dtype=torch.float64)
    assert nll_loss(logps, torch.tensor([4.0, 1.0])).item() == pytest.approx((2.5 + 3) / 2)


def test_qpo_gradient_in_closed_form() -> None:
    """d/d chosen = −β σ(−margin) / pairs: at step 0 each pair pulls with β/2."""
    chosen = torch.tensor([-10.0, -20.0], requires_grad=True)
    rejected = torch.tensor([-12.0, -15.0], requires_grad=True)
    qpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.1).loss.backward()
    torch.testing.assert_close(chosen.grad, torch.full((2,), -0.1 / 2 / 2))
    torch.testing.assert_close(rejected.grad, torch.full((2,), 0.1 / 2 / 2))


def test_qpo_does_not_overflow() -> None:
    far = torch.tensor([-1e4])
    near = torch.tensor([0.0])
    assert qpo_loss(far, near, near, near, beta=1.0).loss.item() == pytest.approx(1e4)
    assert qpo_loss(near, far, near, near, beta=1.0).loss.item() == 0.0


def test_label_smoothing_by_hand() -> None:
    logps = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]] * 2).log()
    targets = torch.tensor([0, 2])
    # −log2 p is 1 and 3 for the targets, 9/4 for the mean of the vocabulary; 0.8·1 + 0.2·9/4 = 1.25.
    for smoothing, expected in ((0.0, [1.0, 3.0]), (0.2, [1.25, 2.85])):
        assert (token_losses(logps, targets, smoothing) / math.log(2)).tolist() == pytest.approx(expected)


def test_regression_by_hand() -> None:
    predicted, labels = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.5, 1.0, 1.0])
    assert regression_loss(predicted, labels, torch.ones(3)).item() == pytest.approx(0.5)
    assert regression_loss(predicted, labels, torch.tensor([1.0, 5.0, 3.0])).item() == pytest.approx(0.25 + 0.75)


def test_sums_by_owner() -> None:
    values = torch.tensor([2.0, 1.0, 4.0], requires_grad=True)
    sums = sum_by_owner(values, torch.tensor([0, 2, 2]), 4)
    assert sums.tolist() == [2.0, 0.0, 5.0, 0.0] and sums.dtype is torch.float64
    (grad,) = torch.autograd.grad((sums * torch.tensor([3.0, 5.0, 7.0, 9.0])).sum(), values)
    assert grad.tolist() == [3.0, 7.0, 7.0]
    assert sum_by_owner(torch.empty(0), torch.empty(0, dtype=torch.long), 2).tolist() == [0.0, 0.0]


def test_qpo_starts_at_ln_2_in_whatever_order_tokens_are_added_up() -> None:
    """Packs of 8 pairs of 250 tokens a side, each summed twice, as a GPU's atomic additions do: in an order of its own.

    Summed in fp32, a good part of the packs start further from ln 2 than 1e-6, which stopped them.
    """
    draw = torch.Generator().manual_seed(0)
    owners = torch.arange(16).repeat_interleave(250)

    def order() -> torch.Tensor:  # any within each row
        return torch.rand(16, 250, generator=draw).argsort(1).add(250 * torch.arange(16)[:, None]).flatten()

    def start(sums: Callable[[torch.Tensor], torch.Tensor]) -> float:
        policy, reference = sums(logps[order()]), sums(logps[order()])
        return qpo_loss(policy[0::2], policy[1::2], reference[0::2], reference[1::2], beta=0.1).loss.item()

    single, ours = [], []
    for _ in range(100):
        logps = torch.rand(4000, generator=draw).log()  # a nat a token
        single.append(start(lambda values: torch.zeros(16).index_add(0, owners, values)))
        ours.append(start(lambda values: sum_by_owner(values, owners, 16)))
    assert sum(abs(loss - math.log(2)) > 1e-6 for loss in single) > 20
    assert max(abs(loss - math.log(2)) for loss in ours) < 1e-7


def test_gradients_by_finite_differences() -> None:
    """The losses compute in fp32, hence the coarse steps and tolerances."""
    torch.manual_seed(0)
    policy = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    reference = [torch.randn(3) for _ in range(2)]
    loose = {"eps": 1e-2, "atol": 1e-3, "rtol": 1e-3, "nondet_tol": 0.0}
    assert gradcheck(lambda c, r: qpo_loss(c, r, *reference, beta=0.7).loss.double(), policy, **loose)
    labels, weights = torch.rand(3), torch.rand(3)
    assert gradcheck(lambda p: regression_loss(p, labels, weights).double(), policy[:1], **loose)


def test_correctness_is_cross_entropy_of_the_logit() -> None:
    scores, right = torch.tensor([0.0, math.log(3.0), -math.log(4.0)]), torch.tensor([1.0, 1.0, 0.0])
    # σ: 1/2, 3/4, 1/5: −log 1/2 − log 3/4 − log 4/5.
    expected = math.log(2) + math.log(4 / 3) + math.log(5 / 4)
    assert correctness_loss(scores, right).item() == pytest.approx(expected, rel=1e-6)
    weights = torch.tensor([3.0, 0.0, 1.0])
    assert correctness_loss(scores, right, weights).item() == pytest.approx(3 * math.log(2) + math.log(5 / 4), rel=1e-6)


def test_preference_depends_on_the_difference_alone() -> None:
    better, worse = torch.tensor([1.0, -2.0]), torch.tensor([1.0, -2.0 + math.log(2.0)])
    expected = math.log(2) + math.log(3)  # σ(0) = 1/2, σ(−ln 2) = 1/3
    assert preference_loss(better, worse).item() == pytest.approx(expected, rel=1e-6)
    assert preference_loss(better + 7, worse + 7).item() == pytest.approx(expected, rel=1e-5)


def test_reward_gradients() -> None:
    scores = torch.randn(5, dtype=torch.double, requires_grad=True)
    other = torch.randn(5, dtype=torch.double, requires_grad=True)
    right = torch.tensor([1.0, 0, 0, 1, 1])
    correctness_loss(scores, right).backward()
    assert scores.grad is not None
    assert scores.grad == pytest.approx(scores.detach().sigmoid() - right, abs=1e-6)  # the closed form σ(r) − y
    scores.grad = None
    preference_loss(scores, other).backward()
    assert scores.grad == pytest.approx(-(other - scores).detach().sigmoid(), abs=1e-6)
