"""Scores by a sequence classifier with one label: a reward model, or a difficulty regressor of ours.

Conversations are sorted by length and scored in batches of like length: padding costs as much as text does, so a
batch pads little (naive padding is slower than one at a time on a CPU). The state that is scored is that of the last
real token also where the padding token is the end token, which transformers' own pooling gets wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sq.core.chat import ChatFormat
from sq.core.errors import EngineError, RowError
from sq.engine.base import ScoreRequest, ScoreResult
from sq.models.load import ModelConfig, eos_ids, locate

if TYPE_CHECKING:
    from sq.engine.hf import HFConfig

PADDING = 0.05
"""Share of a batch's width that its shortest conversation may lack."""
REGRESSOR_NOTE = "regressor.json"


class Asked(NamedTuple):
    """A conversation as ids."""

    key: str
    ids: tuple[int, ...]


class Scorer:
    """Scores conversations with `model`."""

    def __init__(self, model: Any, tokenizer: Any, named: ModelConfig, config: HFConfig, max_len: int) -> None:
        self._model, self._tokenizer, self._config, self._max_len = model, tokenizer, config, max_len
        self._name = named.name
        self._own_pad = model.config.get_text_config().pad_token_id
        # Some reward models read the score off a token of its own.
        self._reward_id: int | None = model.config.to_dict().get("reward_token_id")
        note = Path(locate(named)) / REGRESSOR_NOTE
        self._bias, self._chat = 0.0, None
        if note.is_file():
            told = json.loads(note.read_text())
            self._bias = float(told["bias"])
            self._chat = ChatFormat.from_tokenizer(tokenizer, named.chat, eos_ids=eos_ids(named))
            self._chat.require_same(told["chat"], named.path)
        elif not tokenizer.chat_template:
            raise EngineError(f"model {named.name} has no chat template to put a conversation to it")

    def score(self, source: Iterator[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores, reading a window of requests at a time."""
        while window := list(islice(source, self._config.window)):
            asked: list[Asked] = []
            for request in window:
                ids = self._ids(request)
                if isinstance(ids, str):
                    yield ScoreResult(key=request.key, error=ids)
                else:
                    asked.append(Asked(request.key, ids))
            asked.sort(key=lambda a: len(a.ids))
            while asked:
                yield from self._batch(self._next_batch(asked))

    def _ids(self, request: ScoreRequest) -> tuple[int, ...] | str:
        """The ids of a conversation, or what is wrong with it."""
        messages = [dict(m) for m in request.messages]
        try:
            if not messages:
                return "a score needs at least one message"
            if self._chat is not None:
                ids = self._chat.question_ids(messages[-1]["content"]).ids if len(messages) == 1 else ()
                if not ids:
                    return f"a difficulty regressor scores one question, and there are {len(messages)} messages"
            else:
                ids = tuple(self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
        except RowError as error:
            return str(error)
        except Exception as error:  # a template is a program: it may refuse a conversation in any way
            return f"the chat template refuses these messages: {error}"
        if self._reward_id is not None:
            ids = (*ids, self._reward_id)
        if not 0 < len(ids) <= self._max_len:
            return f"the conversation has {len(ids)} tokens, and the model's context {self._max_len}"
        return ids

    def _next_batch(self, asked: list[Asked]) -> list[Asked]:
        """Take the longest off the end, and what is nearly as long."""
        width = len(asked[-1].ids)
        most = max(1, min(self._config.batch_size, self._config.batch_tokens // width))
        size = sum(len(a.ids) >= width * (1 - PADDING) for a in asked[-most:])
        batch = asked[-size:]
        del asked[-size:]
        return batch

    @torch.inference_mode()
    def _batch(self, asked: Sequence[Asked]) -> list[ScoreResult]:
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
        return [_result(a.key, value + self._bias) for a, value in zip(asked, values, strict=True)]

    def _filler(self, last: set[int]) -> int:
        """The id to pad with, told to the model too, which looks for the last id that is another one."""
        known = (self._own_pad,) if self._own_pad is not None and self._own_pad not in last else ()
        filler: int = next(i for i in (*known, *range(len(last) + 1)) if i not in last)
        self._model.config.get_text_config().pad_token_id = filler
        return filler


def _result(key: str, score: float) -> ScoreResult:
    if not math.isfinite(score):
        return ScoreResult(key=key, error="the model's numbers overflowed (NaN or infinity). Use engine.dtype=float32")
    return ScoreResult(key=key, score=score)
