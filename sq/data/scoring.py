"""Difficulty of many questions at once: packed without padding, the shared prefix computed once per pack."""

from __future__ import annotations

from collections.abc import Sequence

from sq.data.bin_packing import pack_rows
from sq.data.collate import collate, shared_prefix
from sq.models.pack import TokenSequence
from sq.models.regressor import Regressor


def score_questions(regressor: Regressor, questions: Sequence[str], *, pack_tokens: int = 4096) -> list[float]:
    """The predicted fail rate of each question, in their order."""
    rows = [TokenSequence(*regressor.chat.question_ids(text)) for text in questions]
    prefix = shared_prefix(rows) if regressor.attention.shares_prefix else 0
    capacity = max(pack_tokens, max((len(row.ids) for row in rows), default=0))
    device = next(regressor.model.parameters()).device
    scores = [0.0] * len(rows)
    for items in pack_rows([len(row.ids) for row in rows], capacity, prefix=prefix).packs:
        pack = collate([rows[i] for i in items], prefix=prefix, keep_last=True)
        for item, score in zip(items, regressor.score(pack.to(device)), strict=True):
            scores[item] = score
    return scores
