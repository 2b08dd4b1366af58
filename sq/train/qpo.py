"""QPO: preference optimisation of the question writer, DPO without a prompt (paper, section 2.2).

A pair is an improved question (chosen) and the sampled one it was made from (rejected). Both follow the same prefix
ids as in QFT and sampling. The reference's log-probabilities are computed once, before the first step, in the very
packs that training uses; then all margins start at 0 exactly and the loss at ln 2 (or what another `loss` is at 0),
which is checked (the released code, with a policy in fp16 and a reference in bf16, does not).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sq.core.config import setting
from sq.core.errors import SqError
from sq.train.stage import (
    EncodedRow,
    Encoding,
    LossInput,
    PackLoss,
    RowContext,
    StageConfig,
    StageLoss,
    TrainableModel,
    UnusableRow,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sq.models.losses import PairLoss, QPOLoss
    from sq.models.pack import Pack


ROUNDINGS = 16
"""Units of rounding by which a token's log-probability may be off. Kernels that repeat themselves give it exactly;
others (another order of sums, a compiled pass) move it at random, by up to 10 in 30 layers (docs/training.md)."""


class Preference(Enum):
    """What is made of a pair's margin; the functions are in `models/losses.py`."""

    SIGMOID = "sigmoid"
    IPO = "ipo"
    HINGE = "hinge"
    ROBUST = "robust"


@dataclass(frozen=True, kw_only=True)
class QPOStage(StageConfig):
    """Question preference optimisation: DPO without a prompt over pairs of questions."""

    reads: ClassVar[str] = "rewrite"
    needs_reference: ClassVar[bool] = True
    next_command: ClassVar[str] = "synthesize stage=questions {domain} {tuned}"

    beta: float = setting(0.1, gt=0, help="how strongly the model is held to where it began")
    loss: Preference = setting(Preference.SIGMOID, help="sigmoid (the paper's), ipo, hinge or robust")
    length_normalised: bool = setting(False, help="divide each side's log-probability by its tokens")
    nll: float = setting(0.0, ge=0, help="how much of the SFT loss on the chosen question is added")
    label_smoothing: float = setting(0.0, ge=0, lt=0.5, help="loss=robust: the share of pairs that are flipped")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing and self.loss is not Preference.ROBUST:
            raise ValueError(f"label_smoothing={self.label_smoothing} is for loss=robust; set it to 0")

    def encoding(self, context: RowContext) -> Encoding:
        """Pairs of questions. One without a difference teaches nothing and is rejected, as is one with no text."""
        chat = context.chat

        def encode(row: dict[str, Any]) -> EncodedRow:
            for side in ("chosen", "rejected"):
                if not row[side].strip():
                    raise UnusableRow("empty", f"{side} is empty")
            chosen, rejected = chat.question_ids(row["chosen"]), chat.question_ids(row["rejected"])
            if chosen == rejected:
                raise UnusableRow("same", "chosen and rejected are the same")
            return EncodedRow([chosen, rejected])

        return Encoding(need=("chosen", "rejected"), encode=encode)

    def make_loss(self, trained: TrainableModel) -> StageLoss:
        return QPOStageLoss(trained, self)

    def pair_loss(self) -> PairLoss:
        """The function of margins that `loss` names."""
        from sq.models import losses

        if self.loss is Preference.IPO:
            return partial(losses.ipo_loss, beta=self.beta)
        if self.loss is Preference.ROBUST:
            return partial(losses.robust_loss, label_smoothing=self.label_smoothing)
        return losses.hinge_loss if self.loss is Preference.HINGE else losses.sigmoid_loss


class QPOStageLoss(StageLoss):
    """How much more the policy has moved towards chosen than towards rejected, and what that costs."""

    def __init__(self, trained: TrainableModel, stage: QPOStage) -> None:
        super().__init__(trained)
        self.stage, self.half, self.pair_loss = stage, trained.half, stage.pair_loss()
        switch_off_dropout(self.model)  # it would make policy and reference differ at step 0 already

    def reference(self, pack: Pack) -> Tensor:
        """[sequences] log-probability of each side of the pack's pairs under the weights as they are."""
        from sq.models.packed_forward import row_logps

        return row_logps(self.model, pack, self.attention)

    def __call__(self, batch: LossInput) -> PackLoss:
        from sq.models.losses import nll_loss, qpo_loss

        assert batch.reference is not None
        stage, reference, tokens = self.stage, batch.reference, _targets(batch.pack)
        logps = self.reference(batch.pack)
        lengths = (tokens[0::2], tokens[1::2])
        out = qpo_loss(
            logps[0::2], logps[1::2], reference[:, 0], reference[:, 1],
            beta=stage.beta, loss=self.pair_loss, lengths=lengths if stage.length_normalised else None,
        )  # fmt: skip
        if batch.first_step:
            self._check_start(float(out.loss.detach()), logps.detach() - reference.flatten(), tokens)
        loss, extra = out.loss, {}
        if stage.nll:
            nll = nll_loss(logps[0::2], lengths[0])
            loss, extra = loss + stage.nll * nll, {"nll": nll.detach()}
        pairs = len(batch.pack.rows)
        measured = self._measured(out, logps.detach(), reference, tokens) | extra | {"loss": loss.detach()}
        return PackLoss(total=loss * pairs, means={name: (value.mean(), pairs) for name, value in measured.items()})

    def _check_start(self, loss: float, apart: Tensor, tokens: Tensor) -> None:
        """The loss is what it is at a margin of 0, and no side moved: errors of sides cancel in the loss."""
        import torch

        name, eps = "float32", torch.finfo(torch.float32).eps
        if self.half:
            name, eps = "bfloat16", torch.finfo(torch.bfloat16).eps
        elif torch.get_float32_matmul_precision() != "highest":
            name, eps = "TF32", torch.finfo(torch.float16).eps  # which has as many digits
        pairs = len(tokens) // 2
        start, slope = start_of(self.pair_loss)
        variance = float((1 / tokens if self.stage.length_normalised else tokens).sum())
        bound = 1e-6 * max(1.0, start) + rounding_bound(eps, slope * self.stage.beta, variance, pairs)
        moved, most = float((apart**2 / tokens).mean().sqrt()), ROUNDINGS * eps
        if not (abs(loss - start) <= bound and moved <= most):
            raise SqError(
                f"QPO starts at a loss of {loss:.8f} instead of {start:.8f} (stage.loss={self.stage.loss.value} where "
                "policy and reference are the same; sigmoid: ln 2), further off than rounding in "
                f"{name} explains ({bound:.1e} for {pairs} pairs of {int(tokens.sum())} tokens in all), or its "
                f"log-probabilities are: off by {moved:.1e} nats times the root of a side's tokens, where {most:.1e} "
                "is explained. Policy and reference are not the same model. Dropout or a "
                "changed cache may be why: delete the cached reference log-probabilities, or try trainer.compile=false "
                "and trainer.precision=fp32"
            )

    @staticmethod
    def _measured(out: QPOLoss, logps: Tensor, reference: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        return {
            "accuracy": out.accuracies,
            "margin": out.margins,
            "reward_chosen": out.chosen_rewards,
            "reward_rejected": out.rejected_rewards,
            "logp_chosen": logps[0::2],
            "logp_rejected": logps[1::2],
            "tokens_chosen": tokens[0::2],
            "tokens_rejected": tokens[1::2],
            # Rejected questions were sampled from the reference: this estimates KL(reference ‖ policy) of a question.
            "kl": reference[:, 1] - logps[1::2],
        }


def _targets(pack: Pack) -> Tensor:
    """[sequences] supervised tokens of each."""
    from sq.models.losses import count_by_owner

    return count_by_owner(pack.owners, len(pack.lengths)).float()


def start_of(pair_loss: PairLoss) -> tuple[float, float]:
    """The loss where policy and reference are the same, and how fast it changes with the margin there."""
    import torch

    with torch.enable_grad():
        margins = torch.zeros(1, requires_grad=True)
        loss = pair_loss(margins)
        (slope,) = torch.autograd.grad(loss.sum(), margins)
    return loss.item(), abs(slope.item())


def rounding_bound(eps: float, slope: float, variance: float, pairs: int) -> float:
    """How far from its start the loss of a pack of `pairs` may be by rounding; `slope` is d loss / d log-ratio.

    The variance of all sides' sums of random errors of one unit a token is their number of tokens.
    """
    return ROUNDINGS * eps * slope * math.sqrt(variance) / pairs


def switch_off_dropout(model: torch.nn.Module) -> None:
    """No dropout anywhere: neither in layers of that kind nor in rates that attention reads from its module."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
