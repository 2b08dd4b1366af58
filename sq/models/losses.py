"""The losses of rows, as pure functions of tensors: QPO, regression, reward (paper §3.1, §3.2).

Cross-entropy of tokens is in `head.py`, where their logits are. Sums and counts come apart where a mean would be wrong:
with gradient accumulation and several ranks the divisor is that of the whole global batch, which no single pack knows.
"""

from __future__ import annotations

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


def sum_by_owner(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """One fp64 sum of per-token values for each of `count` rows, whose tokens lie together in the order of the rows.

    Each sum is taken in the same order at every call: `index_add` has none on a GPU, and fp32 sums in two orders differ
    by more than QPO's start may.
    """
    lengths = torch.bincount(owners, minlength=count)
    return torch.segment_reduce(values.double(), "sum", lengths=lengths, initial=0, unsafe=True)


def qpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float
) -> QPOLoss:
    """−log σ(β[(log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l))]), the mean over pairs.

    Args:
        chosen: [pairs] log-probabilities of the improved questions under the policy, summed over tokens (in fp64: they
            are large, and what counts is their difference).
        rejected: the same of the original questions.
        reference_chosen: [pairs] the same under the reference; with `reference_rejected` equal to the policy's the
            loss is ln 2 exactly.
        beta: how strongly the policy is held to the reference.
    """
    chosen_rewards = beta * (chosen - reference_chosen).float()
    rejected_rewards = beta * (rejected - reference_rejected).float()
    loss = -F.logsigmoid(chosen_rewards - rejected_rewards).mean()
    return QPOLoss(loss, chosen_rewards.detach(), rejected_rewards.detach())


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
