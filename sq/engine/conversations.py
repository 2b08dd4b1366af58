"""How a conversation becomes the ids that a scorer reads, and its numbers a score: the same for every engine.

A reward model's goes through its own chat template. Three forms are known: one number a conversation (sequence
classifiers), one a token, read at the last (Qwen2.5-Math-RM; InternLM2-Reward, after a token of its own), and two a
token, read where a step ends (process rewards, Qwen2.5-Math-PRM). A difficulty regressor of ours reads one question
between the ids that it was trained with, and has a bias beside its weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.errors import EngineError, RowError
from sq.engine.base import ScoreRequest, ScoreResult
from sq.models.load import ModelConfig, eos_ids, load_tokenizer, locate

REGRESSOR_NOTE = "regressor.json"
OVERFLOWED = "the model's numbers overflowed (NaN or infinity). Use engine.dtype=float32"
STEP_END = "<extra_0>"
"""What ends a step for a process reward model."""
BLANK_LINE = re.compile(r"\n\s*\n")
STEP_REWARDS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "product": math.prod,
    "last": lambda rewards: rewards[-1],
}


class Conversations:
    """The conversations of one scorer.

    Attributes:
        step_id: the id that ends a step, where it is a process reward model.
        by_token: whether it gives numbers for every token.
    """

    def __init__(self, model: ModelConfig, hf_config: dict[str, Any], max_len: int, step_reward: str = "min") -> None:
        """`hf_config`: the model's own config; `max_len`: its context."""
        self._max_len = max_len
        self._tokenizer = load_tokenizer(model)
        self._combine = STEP_REWARDS[step_reward]
        names = hf_config.get("architectures") or ()
        self.by_token = any(name.endswith("RewardModel") for name in names)
        self.step_id = self._find_step_id(model) if any("ProcessReward" in name for name in names) else None
        # Some reward models read the score off a token of its own.
        self._reward_id: int | None = hf_config.get("reward_token_id")
        note = Path(locate(model)) / REGRESSOR_NOTE
        self._bias, self._chat = 0.0, None
        if note.is_file():
            regressor = json.loads(note.read_text())
            self._bias = float(regressor["bias"])
            self._chat = ChatFormat.from_tokenizer(self._tokenizer, model.chat, eos_ids=eos_ids(model))
            self._chat.require_same(regressor["chat"], model.path)
        elif not self._tokenizer.chat_template:
            raise EngineError(f"model {model.name} has no chat template to put a conversation to it")

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
                messages = messages if self.step_id is None else _with_step_ends(messages)
                ids = tuple(self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
        except RowError as error:
            return wrong(str(error), refused=True)
        except Exception as error:  # a template is a program: it may refuse a conversation in any way
            return wrong(f"the chat template refuses these messages: {type(error).__name__}: {error}")
        if self._reward_id is not None and ids[-1:] != (self._reward_id,):
            ids = (*ids, self._reward_id)
        if not 0 < len(ids) <= self._max_len:
            problem = f"the conversation has {len(ids)} tokens, and the model's context {self._max_len}"
            return wrong(problem, refused=True)
        return ids

    def result(self, key: str, ids: Sequence[int], numbers: Sequence[Sequence[float]]) -> ScoreResult:
        """The score that a model's numbers come to: of the conversation, of its last token, or of each of its steps."""
        if self.step_id is None:
            score = numbers[-1][0] + self._bias
            read = [score]
        else:
            score = self._combine([_probability(*step) for step in numbers])
            read = [logit for step in numbers for logit in step]  # of all: min() passes over a NaN
        if not all(map(math.isfinite, read)):
            return ScoreResult(key=key, error=OVERFLOWED)
        return ScoreResult(key=key, score=score, tokens=len(ids))

    def _find_step_id(self, model: ModelConfig) -> int:
        step_id = self._tokenizer.get_vocab().get(STEP_END)
        if step_id is None:
            raise EngineError(f"model {model.name} rewards steps, and its tokenizer has no {STEP_END} to end them with")
        return int(step_id)


def _with_step_ends(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The last message's paragraphs, each closed by the token at which its reward is read, and no other such token."""
    clean = [m | {"content": m["content"].replace(STEP_END, "")} for m in messages]
    steps = BLANK_LINE.split(clean[-1]["content"].strip())
    return [*clean[:-1], clean[-1] | {"content": "".join(step + STEP_END for step in steps)}]


def _probability(bad: float, good: float) -> float:
    """That a step is right, of its two logits."""
    return 1 / (1 + math.exp(min(bad - good, 700.0)))
