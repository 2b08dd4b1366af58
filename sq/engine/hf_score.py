"""Scores by a sequence classifier with one label: a reward model, or a difficulty regressor of ours.

Replies to one question stand side by side in a pack, where the question is computed once and no padding is. Other
conversations are sorted by length and scored in batches of like length: padding costs as much as text does, so a batch
pads little (naive padding is slower than one at a time on a CPU). The state that is scored is that of the last
real token also where the padding token is the end token, which transformers' own pooling gets wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.modeling_layers import GenericForSequenceClassification

from sq.core.errors import ConfigError, EngineError
from sq.engine.base import ScoreRequest, ScoreResult
from sq.engine.exchange import OVERFLOWED, Exchange
from sq.models.attention import Attention, Kernel, choose_attention
from sq.models.load import ModelConfig
from sq.models.pack import Pack
from sq.models.packed_forward import last_states

if TYPE_CHECKING:
    from sq.engine.hf import HFConfig

PADDING = 0.05
"""Share of a batch's width that its shortest conversation may lack."""


class EncodedConversation(NamedTuple):
    """A conversation as ids."""

    key: str
    ids: tuple[int, ...]


class Scorer:
    """Scores conversations with `model`."""

    def __init__(self, model: Any, named: ModelConfig, config: HFConfig, max_len: int) -> None:
        self._model, self._config, self._name = model, config, named.name
        self._exchange = Exchange(named, model.config.to_dict(), max_len)
        self._attention = _attention(model)
        self._own_pad = model.config.get_text_config().pad_token_id

    def score(self, source: Iterator[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores, reading a window of requests at a time."""
        while window := list(islice(source, self._config.window)):
            alone: list[EncodedConversation] = []
            families: dict[tuple[tuple[tuple[str, str], ...], ...], list[EncodedConversation]] = {}
            for request in window:
                ids = self._exchange.ids(request)
                if isinstance(ids, ScoreResult):
                    yield ids
                    continue
                opening = tuple(tuple(sorted(message.items())) for message in request.messages[:-1])
                family = families.setdefault(opening, []) if opening and self._attention is not None else alone
                family.append(EncodedConversation(request.key, ids))
            for family in families.values():
                if len(family) > 1:
                    yield from self._family(family)
                else:
                    alone += family
            alone.sort(key=lambda a: len(a.ids))
            while alone:
                yield from self._batch(self._next_batch(alone))

    def _family(self, family: list[EncodedConversation]) -> Iterator[ScoreResult]:
        """Replies to one question: what they share is computed once, the rest side by side without padding."""
        first, last = min(a.ids for a in family), max(a.ids for a in family)
        shortest = min(len(a.ids) for a in family)
        shared = next((i for i, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), shortest)
        shared = min(shared, shortest - 1)  # each keeps a token of its own, whose state is scored
        family.sort(key=lambda a: -len(a.ids))
        while family:
            size, tokens = 1, len(family[0].ids)
            while size < min(len(family), self._config.batch_size):
                tokens += len(family[size].ids) - shared
                if tokens > self._config.batch_tokens:
                    break
                size += 1
            yield from self._pack(family[:size], shared)
            del family[:size]

    def _next_batch(self, asked: list[EncodedConversation]) -> list[EncodedConversation]:
        """Take the longest off the end, and what is nearly as long."""
        width = len(asked[-1].ids)
        most = max(1, min(self._config.batch_size, self._config.batch_tokens // width))
        size = sum(len(a.ids) >= width * (1 - PADDING) for a in asked[-most:])
        batch = asked[-size:]
        del asked[-size:]
        return batch

    @torch.inference_mode()
    def _batch(self, asked: Sequence[EncodedConversation]) -> list[ScoreResult]:
        width = len(asked[-1].ids)
        filler = self._filler({a.ids[-1] for a in asked})
        ids = torch.full((len(asked), width), filler)
        mask = torch.zeros(len(asked), width, dtype=torch.long)
        for i, one in enumerate(asked):
            ids[i, : len(one.ids)] = torch.tensor(one.ids)
            mask[i, : len(one.ids)] = 1
        device = self._model.device
        scores = self._model(input_ids=ids.to(device), attention_mask=mask.to(device))[0]
        if scores.shape != (len(asked), 1):
            each = "x".join(map(str, scores.shape[1:]))
            raise EngineError(f"model {self._name} gives {each} numbers a conversation; a reward model gives one")
        values = scores[:, 0].float().tolist()
        return [_result(a, value + self._exchange.bias) for a, value in zip(asked, values, strict=True)]

    @torch.inference_mode()
    def _pack(self, asked: Sequence[EncodedConversation], shared: int) -> list[ScoreResult]:
        assert self._attention is not None
        states = last_states(self._model, _packed(asked, shared).to(self._model.device), self._attention)
        values = self._model.score(states)[:, 0].float().tolist()
        return [_result(a, value + self._exchange.bias) for a, value in zip(asked, values, strict=True)]

    def _filler(self, last: set[int]) -> int:
        """The id to pad with, set in the model's config too, which looks for the last id that is another one."""
        own = (self._own_pad,) if self._own_pad is not None and self._own_pad not in last else ()
        filler: int = next(i for i in (*own, *range(len(last) + 1)) if i not in last)
        self._model.config.get_text_config().pad_token_id = filler
        return filler


def _attention(model: Any) -> Attention | None:
    """What runs packs of this model; none where it has code of its own, or layers that packs cannot pass."""
    hf_config = model.config.to_dict()
    if not isinstance(model, GenericForSequenceClassification) or hf_config.get("attn_logit_softcapping"):
        return None
    if model.config.num_labels != 1 or not model._supports_sdpa:
        return None
    try:
        return choose_attention(model, Kernel.SDPA)
    except ConfigError:
        return None


def _packed(asked: Sequence[EncodedConversation], shared: int) -> Pack:
    """The shared opening, then each conversation's own tokens, at the positions they have in it."""
    ids, positions, segments, last = list(asked[0].ids[:shared]), list(range(shared)), [-1] * shared, []
    for number, one in enumerate(asked):
        ids += one.ids[shared:]
        positions += range(shared, len(one.ids))
        segments += [number] * (len(one.ids) - shared)
        last.append(len(ids) - 1)
    none = torch.zeros(0, dtype=torch.long)
    return Pack(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        segment_ids=torch.tensor(segments),
        prefix=shared,
        lengths=tuple(len(one.ids) - shared for one in asked),
        sources=none,
        targets=none,
        owners=none,
        last=torch.tensor(last),
        rows=tuple(range(len(asked))),
    )


def _result(asked: EncodedConversation, score: float) -> ScoreResult:
    if not math.isfinite(score):
        return ScoreResult(key=asked.key, error=OVERFLOWED)
    return ScoreResult(key=asked.key, score=score, tokens=len(asked.ids))
