"""All losses, as pure functions of tensors: of tokens, QPO, regression, reward (paper §3.1, §3.2).

Sums and counts come apart where a mean would be wrong:
with gradient accumulation and several ranks the divisor is that of the whole global batch, which no single pack knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """Cross-entropy summed over supervised tokens, their number, and how many were predicted right (where known)."""

    total: Tensor
    count: int
    correct: Tensor | None


@dataclass(frozen=True, slots=True)
class QPOLoss:
    """Mean loss over pairs, and per pair what is watched during training."""

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor

    @property
    def margins(self) -> Tensor:
        """Reward of chosen less reward of rejected."""
        return self.chosen_rewards - self.rejected_rewards

    @property
    def accuracies(self) -> Tensor:
        """1 where the chosen side is rewarded more."""
        return (self.margins > 0).float()


def token_losses(logps: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """[S] −log p of the targets, from the [S, V] log-probabilities of the vocabulary; every token loss comes from here.

    Label smoothing ε asks for (1 − ε) of the target and ε of the whole vocabulary evenly (arXiv 1512.00567, section 7).
    """
    losses = -logps.gather(1, targets[:, None])[:, 0]
    return losses if not label_smoothing else (1 - label_smoothing) * losses - label_smoothing * logps.mean(-1)


def count_by_owner(owners: Tensor, count: int) -> Tensor:
    """How many tokens each of `count` rows has. (`bincount` would wait for the GPU.)"""
    return owners.new_zeros(count).scatter_add_(0, owners, torch.ones_like(owners))


def sum_by_owner(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """One fp64 sum of per-token values for each of `count` rows, whose tokens lie together in the order of the rows.

    Each sum is taken in the same order at every call: `index_add` has none on a GPU, and fp32 sums in two orders differ
    by more than QPO's start may.
    """
    lengths = count_by_owner(owners, count)
    return torch.segment_reduce(values.double(), "sum", lengths=lengths, initial=0, unsafe=True)


PairLoss = Callable[[Tensor], Tensor]
"""[pairs] margins (reward of chosen less reward of rejected) to [pairs] losses."""


def sigmoid_loss(margins: Tensor) -> Tensor:
    """−log σ(m): DPO (arXiv 2305.18290)."""
    return -F.logsigmoid(margins)


def hinge_loss(margins: Tensor) -> Tensor:
    """max(0, 1 − m): SLiC (arXiv 2305.10425) with a reference."""
    return torch.relu(1 - margins)


def ipo_loss(margins: Tensor, beta: float) -> Tensor:
    """(m/β − 1/2β)²: IPO (arXiv 2310.12036, equation 17), with β for its τ."""
    return ((margins - 0.5) / beta).square()


def robust_loss(margins: Tensor, label_smoothing: float) -> Tensor:
    """(−(1 − ε) log σ(m) + ε log σ(−m)) / (1 − 2ε): unbiased where ε of the pairs are flipped (arXiv 2403.00409)."""
    straight, flipped = F.logsigmoid(margins), F.logsigmoid(-margins)
    return (label_smoothing * flipped - (1 - label_smoothing) * straight) / (1 - 2 * label_smoothing)


def qpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    loss: PairLoss = sigmoid_loss,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> QPOLoss:
    """The mean over pairs of `loss` at β[(log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l))].

    Args:
        chosen: [pairs] log-probabilities of the improved questions under the policy, summed over tokens (in fp64: they
            are large, and what counts is their difference).
        rejected: the same of the original questions.
        reference_chosen: [pairs] the same under the reference; with `reference_rejected` equal to the policy's all
            margins are 0 exactly, and the sigmoid loss is ln 2.
        beta: how strongly the policy is held to the reference.
        loss: what is made of a margin.
        lengths: tokens of both sides, by which their log-probabilities are divided.
    """
    chosen_ratios, rejected_ratios = chosen - reference_chosen, rejected - reference_rejected
    if lengths is not None:
        chosen_ratios, rejected_ratios = chosen_ratios / lengths[0], rejected_ratios / lengths[1]
    chosen_rewards, rejected_rewards = beta * chosen_ratios.float(), beta * rejected_ratios.float()
    losses = loss(chosen_rewards - rejected_rewards)
    return QPOLoss(losses.mean(), chosen_rewards.detach(), rejected_rewards.detach())


def nll_loss(logps: Tensor, lengths: Tensor) -> Tensor:
    """The mean over rows of −log π(y) / |y|: the SFT term beside a preference (arXiv 2404.19733, equation 2)."""
    return -(logps / lengths).float().mean()


def regression_loss(predicted: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Σ w·(d − y)², summed; labels known better may count for more."""
    return torch.dot((predicted.float() - labels.float()).square(), weights.float())


def correctness_loss(scores: Tensor, right: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ w·BCE: −log σ(r) of a right solution, −log σ(−r) of a wrong one, summed; r is the logit of being right."""
    each = F.binary_cross_entropy_with_logits(scores.float(), right.float(), reduction="none")
    return each.sum() if weights is None else torch.dot(each.flatten(), weights.float().flatten())


def preference_loss(better: Tensor, worse: Tensor) -> Tensor:
    """Σ −log σ(r_better − r_worse) over pairs of solutions to one question (Bradley and Terry), summed."""
    return -F.logsigmoid(better.float() - worse.float()).sum()
