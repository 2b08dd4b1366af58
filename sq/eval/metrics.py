"""The figures of an evaluation as torchmetrics: one value a problem, their mean, and the values for intervals.

Tensors are named for their shape: B problems, K answers to each. A metric may be updated in any number of batches, and
its state is concatenated across processes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

NONE = -1
"""The class of an answer that is none: it has no vote."""


class PassAtK(Metric):
    """The chance that one of `k` answers at least is right, unbiased for any n that were drawn (Chen et al. 2021)."""

    full_state_update = False
    values: list[Tensor]

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.k = k
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, correct_BK: Tensor) -> None:
        """Add problems; `correct_BK` says which answers are right."""
        self.values.append(pass_at_k(correct_BK, self.k))

    def compute(self) -> Tensor:
        """The mean over problems."""
        return dim_zero_cat(self.values).mean()


class MajorityAtK(Metric):
    """Whether the answer most voted for among `k` is right; a tie goes to the answer that came first.

    With more than k answers the mean over as many groups of k as there are.
    """

    full_state_update = False
    values: list[Tensor]

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, classes_BK: Tensor, correct_BK: Tensor) -> None:
        """Add problems; equal answers of a problem have the same class, no answer is `NONE`."""
        classes_BGK, correct_BGK = _groups(classes_BK, self.k), _groups(correct_BK.float(), self.k)
        same_BGKK = classes_BGK.unsqueeze(-1) == classes_BGK.unsqueeze(-2)
        votes_BGK = same_BGKK.sum(-1).masked_fill(classes_BGK == NONE, 0)
        chosen_BG1 = _first_of_most(votes_BGK)
        right_BG = correct_BGK.gather(-1, chosen_BG1).squeeze(-1) * (votes_BGK.amax(-1) > 0)
        self.values.append(right_BG.mean(-1).double())

    def compute(self) -> Tensor:
        """The mean over problems."""
        return dim_zero_cat(self.values).mean()


class BestOfN(Metric):
    """Whether the answer with the highest reward among `k` is right; equal rewards: the first."""

    full_state_update = False
    values: list[Tensor]

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, reward_BK: Tensor, correct_BK: Tensor) -> None:
        """Add problems; an answer without a reward has NaN, and is chosen only where all have."""
        reward_BGK = _groups(reward_BK.double().nan_to_num(nan=-torch.inf, neginf=-torch.inf), self.k)
        chosen_BG1 = _first_of_most(reward_BGK)
        right_BG = _groups(correct_BK.double(), self.k).gather(-1, chosen_BG1).squeeze(-1)
        self.values.append(right_BG.mean(-1))

    def compute(self) -> Tensor:
        """The mean over problems."""
        return dim_zero_cat(self.values).mean()


class MeanPerProblem(Metric):
    """The mean of anything counted per answer (cut off or not, tokens), first within a problem, then over them."""

    full_state_update = False
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, counted_BK: Tensor) -> None:
        """Add problems."""
        self.values.append(counted_BK.double().mean(-1))

    def compute(self) -> Tensor:
        """The mean over problems."""
        return dim_zero_cat(self.values).mean()


def pass_at_k(correct_BK: Tensor, k: int) -> Tensor:
    """1 − C(n−c, k) / C(n, k) per problem, for c right among n, as a product that cannot overflow."""
    n = correct_BK.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} answers to each problem; there are {n}")
    wrong_B = n - correct_BK.sum(-1).double()
    missed_B = torch.ones_like(wrong_B)
    for i in range(k):
        missed_B = missed_B * ((wrong_B - i).clamp(min=0) / (n - i))
    return 1 - missed_B


def _groups(values_BK: Tensor, k: int) -> Tensor:
    """As many groups of `k` answers as there are, B x G x k; what is left over is not used."""
    groups = values_BK.shape[-1] // k
    if not groups:
        raise ValueError(f"{k} answers to each problem are needed; there are {values_BK.shape[-1]}")
    return values_BK[:, : groups * k].reshape(values_BK.shape[0], groups, k)


def _first_of_most(values: Tensor) -> Tensor:
    """The first place of the largest value along the last dimension, which stays (argmax promises no order)."""
    largest = values == values.amax(-1, keepdim=True)
    return (largest & (largest.cumsum(-1) == 1)).float().argmax(-1, keepdim=True)
