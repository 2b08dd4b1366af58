"""How a conversation becomes the ids that a scorer reads, the same for every engine.

A reward model's go through its own chat template, with the token its score is read off where it has one. A difficulty
regressor of ours reads one question between the ids that it was trained with, and has a bias beside its weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.errors import EngineError, RowError
from sq.engine.base import ScoreRequest, ScoreResult
from sq.models.load import ModelConfig, eos_ids, load_tokenizer, locate

REGRESSOR_NOTE = "regressor.json"
OVERFLOWED = "the model's numbers overflowed (NaN or infinity). Use engine.dtype=float32"


class Exchange:
    """The conversations of one scorer; `bias` is what is added to what its head says."""

    def __init__(self, named: ModelConfig, known: dict[str, Any], max_len: int) -> None:
        """`known`: the model's config; `max_len`: its context."""
        self._max_len = max_len
        self._tokenizer = load_tokenizer(named)
        # Some reward models read the score off a token of its own.
        self._reward_id: int | None = known.get("reward_token_id")
        note = Path(locate(named)) / REGRESSOR_NOTE
        self.bias, self._chat = 0.0, None
        if note.is_file():
            told = json.loads(note.read_text())
            self.bias = float(told["bias"])
            self._chat = ChatFormat.from_tokenizer(self._tokenizer, named.chat, eos_ids=eos_ids(named))
            self._chat.require_same(told["chat"], named.path)
        elif not self._tokenizer.chat_template:
            raise EngineError(f"model {named.name} has no chat template to put a conversation to it")

    def ids(self, request: ScoreRequest) -> tuple[int, ...] | ScoreResult:
        """The ids of a conversation, or a result that says what is wrong with it."""

        def wrong(error: str, *, refused: bool = False) -> ScoreResult:
            return ScoreResult(key=request.key, error=error, refused=refused)

        messages = [dict(m) for m in request.messages]
        try:
            if not messages:
                return wrong("a score needs at least one message")
            if self._chat is not None:
                ids = self._chat.question_ids(messages[-1]["content"]).ids if len(messages) == 1 else ()
                if not ids:
                    return wrong(f"a difficulty regressor scores one question, and there are {len(messages)} messages")
            else:
                ids = tuple(self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
        except RowError as error:
            return wrong(str(error), refused=True)
        except Exception as error:  # a template is a program: it may refuse a conversation in any way
            return wrong(f"the chat template refuses these messages: {type(error).__name__}: {error}")
        if self._reward_id is not None:
            ids = (*ids, self._reward_id)
        if not 0 < len(ids) <= self._max_len:
            problem = f"the conversation has {len(ids)} tokens, and the model's context {self._max_len}"
            return wrong(problem, refused=True)
        return ids
