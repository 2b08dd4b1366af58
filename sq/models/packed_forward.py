"""Run a Hugging Face causal LM on a pack: hidden states, then the head at supervised positions only."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sq.models.attention import Attention, attention_arguments
from sq.models.fused import HeadKernel
from sq.models.head import head_of
from sq.models.losses import TokenLoss, sum_by_owner
from sq.models.pack import Pack


def pack_loss(
    model: PreTrainedModel, pack: Pack, attention: Attention, kernel: HeadKernel = HeadKernel.CHUNKED,
    label_smoothing: float = 0.0,
) -> TokenLoss:  # fmt: skip
    """Cross-entropy summed over the pack's supervised tokens, their number and how many are predicted right.

    Divide `total` by the supervised tokens of the whole global batch, not of the pack.
    """
    head = head_of(model, kernel)
    states = hidden_states(model, pack, attention)[pack.sources]
    total, correct = head.cross_entropy(states, pack.targets, label_smoothing)
    return TokenLoss(total, pack.supervised, correct)


def row_logps(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[N] log-probability of each row of the pack: the sum over its supervised tokens, in fp64."""
    logps, _ = head_of(model).logps(hidden_states(model, pack, attention)[pack.sources], pack.targets)
    return sum_by_owner(logps, pack.owners, len(pack.lengths))


def last_states(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[N, H] hidden state at each row's last token, for a regression; the pack is collated with `keep_last`."""
    return hidden_states(model, pack, attention)[pack.last]


def hidden_states(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[T, H] the body's output for every token of the pack."""
    body = model.base_model
    if attention.packs:
        tokens, pack = pack.tokens, pack.padded(attention.pad_to)
        out = body(
            input_ids=pack.input_ids[None],
            position_ids=pack.position_ids[None],
            use_cache=False,
            **attention_arguments(attention, pack),
        )
        return out.last_hidden_state[0, :tokens]  # type: ignore[no-any-return]
    if pack.prefix:
        raise ValueError("rows that run one by one cannot share a prefix; collate with prefix=0")
    rows = pack.input_ids.split(pack.lengths)
    return torch.cat([body(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in rows])
