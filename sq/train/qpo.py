"""QPO: preference optimisation of the question writer, DPO without a prompt (paper, section 2.2).

A pair is an improved question (chosen) and the sampled one it was made from (rejected). Both follow the same prefix
ids as in QFT and sampling. The reference's log-probabilities are computed once, before the first step, in the very
packs that training uses; then the loss starts at ln 2 exactly, which is checked (the released code, with a policy in
fp16 and a reference in bf16, does not).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError, SqError
from sq.data.module import StepPack
from sq.data.tokens import TokenizedExample
from sq.models.losses import QPOLoss, qpo_loss
from sq.models.pack import Pack, TokenSequence
from sq.models.packed_forward import row_logps
from sq.train.base import BaseModule
from sq.train.config import Precision, TrainJob
from sq.train.rows import Task, UnusableRow
from sq.train.stages import QPOStage

LN2 = math.log(2)


class QPOModule(BaseModule):
    """−log σ of how much more the policy has moved towards chosen than towards rejected."""

    stage: QPOStage
    metric_names = (
        "loss", "accuracy", "margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected",
        "tokens_chosen", "tokens_rejected", "kl",
    )  # fmt: skip

    def prepare(self) -> None:
        """Dropout would make policy and reference differ at step 0 already."""
        switch_off_dropout(self.model)

    def reference_of(self, pack: Pack) -> Tensor:
        """[N] log-probability of each side of the pack's pairs under the weights as they are."""
        return row_logps(self.model, pack, self.attention)

    def loss_of(self, batch: StepPack, kind: str) -> Tensor:
        reference = self.reference[kind][list(batch.pack.rows)]
        logps = row_logps(self.model, batch.pack, self.attention)
        out = qpo_loss(logps[0::2], logps[1::2], reference[:, 0], reference[:, 1], beta=self.stage.beta)
        if kind == "train" and batch.divisor and self.global_step == 0 and torch.is_grad_enabled():
            self._check_start(float(out.loss.detach()), batch.pack)
        self._note(out, logps.detach(), reference, batch, kind)
        return out.loss * len(batch.pack.rows)

    def _check_start(self, loss: float, pack: Pack) -> None:
        dtype = torch.float32 if self.job.trainer.precision is Precision.FP32 else torch.bfloat16
        bound = rounding_bound(dtype, self.stage.beta, pack.supervised, len(pack.rows))
        if not abs(loss - LN2) <= bound:
            raise SqError(
                f"QPO starts at a loss of {loss:.8f} instead of ln 2 = {LN2:.8f}, further off than rounding in "
                f"{str(dtype).removeprefix('torch.')} explains ({bound:.1e} for {len(pack.rows)} pairs of "
                f"{pack.supervised} tokens in all): policy and reference are not the same model. Dropout or a changed "
                "cache may be why: delete the cached reference log-probabilities, or try trainer.compile=false and "
                "trainer.precision=fp32"
            )

    def _note(self, out: QPOLoss, logps: Tensor, reference: Tensor, batch: StepPack, kind: str) -> None:
        pack = batch.pack
        tokens = torch.bincount(pack.owners, minlength=len(pack.lengths)).float()
        metrics = {
            "loss": out.loss.detach(),
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
        for name, values in metrics.items():
            self.metric(kind, name).update(values.mean(), weight=len(pack.rows) if batch.divisor else 0)


def rounding_bound(dtype: torch.dtype, beta: float, tokens: int, pairs: int) -> float:
    """How far from ln 2 a pack of `pairs` with `tokens` in all may start.

    Kernels that repeat themselves give ln 2 exactly. Those that do not (another order of sums, a compiled forward pass)
    move each token's log-probability by a few units of `dtype`'s rounding, at random: 3 were measured (bf16, rows in
    packs against rows one by one). 16 are allowed, beyond chance and still far below dropout or other weights.
    """
    return 1e-6 + 16 * torch.finfo(dtype).eps * beta / 2 * math.sqrt(tokens) / pairs


def task(job: TrainJob, chat: ChatFormat) -> Task:
    """Pairs of questions. A pair without a difference teaches nothing and is rejected, as is one with an empty side."""
    if job.trainer.lora.dropout:
        raise ConfigError(
            f"trainer.lora.dropout={job.trainer.lora.dropout} must be 0 in QPO: it compares log-probabilities"
        )

    def encode(row: dict[str, Any]) -> TokenizedExample:
        for side in ("chosen", "rejected"):
            if not row[side].strip():
                raise UnusableRow("empty", f"{side} is empty")
        chosen, rejected = chat.question_ids(row["chosen"]), chat.question_ids(row["rejected"])
        if chosen == rejected:
            raise UnusableRow("same", "chosen and rejected are the same")
        return TokenizedExample((TokenSequence(*chosen), TokenSequence(*rejected)), row["id"])

    return Task(need=("chosen", "rejected"), encode=encode, chat=chat, domain=job.domain.create())


def switch_off_dropout(model: torch.nn.Module) -> None:
    """No dropout anywhere: neither in layers of that kind nor in rates that attention reads from its module."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
