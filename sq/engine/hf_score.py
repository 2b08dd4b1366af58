"""Scores by a reward model or a difficulty regressor of ours.

Replies to one question stand side by side in a pack, where the question is computed once and no padding is; so do
questions, which share the chat's opening. What packs cannot pass is sorted by length and scored in batches of like
length: padding costs as much as text does. The state that is scored is that of the last real token also where the
padding token is the end token, which transformers' own pooling gets wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from transformers.modeling_layers import GenericForSequenceClassification

from sq.core.errors import ConfigError, EngineError
from sq.engine.base import ScoreRequest, ScoreResult
from sq.engine.conversations import Conversations
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
        self._model, self._config, self._named = model, config, named
        self._conversations = Conversations(named, model.config.to_dict(), max_len, config.step_reward)
        self._attention = _attention(model)
        if isinstance(head := getattr(model, "score", None), torch.nn.Module):  # in fp32, as vLLM's
            head.float().register_forward_pre_hook(lambda _, args: (args[0].float(),))
        self._own_pad = model.config.get_text_config().pad_token_id

    def score(self, source: Iterator[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores, reading a window of requests at a time."""
        while window := list(islice(source, self._config.window)):
            alone: list[EncodedConversation] = []
            families: dict[tuple[tuple[tuple[str, str], ...], ...], list[EncodedConversation]] = {}
            for request in window:
                ids = self._conversations.ids(request)
                if isinstance(ids, ScoreResult):
                    yield ids
                    continue
                opening = tuple(tuple(sorted(message.items())) for message in request.messages[:-1])
                family = families.setdefault(opening, []) if self._attention is not None else alone
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
        with own_code(self._named):
            scores = self._model(input_ids=ids.to(device), attention_mask=mask.to(device))[0].float()
        if scores.shape[-1] != (1 if self._conversations.step_id is None else 2):
            raise EngineError(
                f"model {self._named.name} gives {scores.shape[-1]} numbers a conversation; a reward model gives one"
            )
        numbers = [self._read(scores_L, one.ids) for scores_L, one in zip(scores, asked, strict=True)]
        return [self._conversations.result(*one, n) for one, n in zip(asked, numbers, strict=True)]

    def _read(self, scores: torch.Tensor, ids: tuple[int, ...]) -> list[list[float]]:
        """The numbers that count: a conversation's [labels], or of each token's [T, labels] the last or each step's."""
        if scores.dim() == 1:
            return [scores.tolist()]
        step = self._conversations.step_id
        places = [len(ids) - 1] if step is None else [i for i, token in enumerate(ids) if token == step]
        return scores[places].tolist()

    @torch.inference_mode()
    def _pack(self, asked: Sequence[EncodedConversation], shared: int) -> list[ScoreResult]:
        assert self._attention is not None
        states = last_states(self._model, _packed(asked, shared).to(self._model.device), self._attention)
        return [
            self._conversations.result(*one, [n])
            for one, n in zip(asked, self._model.score(states).tolist(), strict=True)
        ]

    def _filler(self, last: set[int]) -> int:
        """The id to pad with, set in the model's config too, which looks for the last id that is another one."""
        own = (self._own_pad,) if self._own_pad is not None and self._own_pad not in last else ()
        filler: int = next(i for i in (*own, *range(len(last) + 1)) if i not in last)
        self._model.config.get_text_config().pad_token_id = filler
        return filler


@contextmanager
def own_code(model: ModelConfig) -> Iterator[None]:
    """Where a model's own code runs, which may be written for another transformers: says so."""
    try:
        yield
    except (AttributeError, TypeError, ImportError) as error:
        if not model.trust_remote_code:
            raise
        raise EngineError(
            f"the code of model {model.name} does not run with transformers {transformers.__version__} ({error}). "
            "Use engine=vllm, or a reward model without code of its own: model=skywork-reward-v2-qwen3-8b"
        ) from error


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
