"""Run a Hugging Face causal LM on a pack: hidden states, then the head at supervised positions only, in chunks.

Full-vocabulary logits are made chunk by chunk; the loss and its gradient are taken while a chunk's are at hand, and
they are gone (`sq/models/head.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sq.models.attention import Attention, attention_arguments
from sq.models.fused import HeadKernel
from sq.models.head import RowsLoss, head_of
from sq.models.losses import TokenLoss
from sq.models.pack import Pack


def pack_loss(
    model: PreTrainedModel, pack: Pack, attention: Attention, kernel: HeadKernel = HeadKernel.CHUNKED
) -> TokenLoss:
    """Cross-entropy summed over the pack's supervised tokens, their number and how many are predicted right.

    Divide `total` by the supervised tokens of the whole global batch, not of the pack.
    """
    head = head_of(model, kernel)
    states = hidden_states(model, pack, attention)[pack.sources]
    total, correct = head.cross_entropy(states, pack.targets)
    return TokenLoss(total, pack.supervised, correct)


def rows_loss(model: PreTrainedModel, pack: Pack, attention: Attention, loss: RowsLoss) -> tuple[Tensor, Tensor]:
    """`loss`, a sum over the pack's rows (or pairs), and the rows' [N] log-probabilities without gradients."""
    states = hidden_states(model, pack, attention)[pack.sources]
    rows, group = len(pack.lengths), 1 + pack.paired
    return head_of(model).rows_loss(states, pack.targets, pack.owners, rows, loss, group=group)


def row_logps(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[N] log-probability of each row of the pack, its supervised tokens' summed, without gradients."""
    with torch.no_grad():
        return rows_loss(model, pack, attention, lambda logps, rows: logps.sum())[1]


def last_states(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[N, H] hidden state at each row's last token, for a regression; the pack is collated with `keep_last`."""
    return hidden_states(model, pack, attention)[pack.last]


def hidden_states(model: PreTrainedModel, pack: Pack, attention: Attention) -> Tensor:
    """[T, H] the body's output for every token of the pack."""
    body = model.base_model
    if attention.packs:
        out = body(
            input_ids=pack.input_ids[None],
            position_ids=pack.position_ids[None],
            use_cache=False,
            **attention_arguments(attention, pack),
        )
        return out.last_hidden_state[0]  # type: ignore[no-any-return]
    if pack.prefix:
        raise ValueError("rows that run one by one cannot share a prefix; collate with prefix=0")
    rows = pack.input_ids.split(pack.lengths)
    return torch.cat([body(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in rows])
