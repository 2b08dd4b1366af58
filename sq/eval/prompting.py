"""How a problem is put to a model: its chat template with the boxed instruction, or plain text for base models.

The ids come from `sq.core.chat`, the words from a prompt in `conf/prompt/`. A conversation (MathChat) goes to the
engine as messages, which renders them with the model's template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.config import flatten, setting
from sq.core.errors import ConfigError
from sq.core.prompts import Prompt, PromptConfig
from sq.core.rows import row_id
from sq.engine.base import Message, Request, Sampling
from sq.models.load import ModelConfig, eos_ids, load_tokenizer

PLAIN_TEXT_FIX = "For a model that was trained on plain text, say so: format=alpaca"


@dataclass(frozen=True, kw_only=True)
class FormatConfig:
    """How questions are put to a model."""

    name: str = setting(help="chat, alpaca, bare, or a name of your own")
    chat: bool = setting(True, help="put it in the model's chat template; false: as it is, after the BOS token")
    prompt: PromptConfig


class RequestBuilder:
    """Turns problems into requests for one model, by one format. Nothing of the model but its tokenizer is read."""

    def __init__(
        self, model: ModelConfig, form: FormatConfig, *, instruction: str | None = None, ids: bool = True
    ) -> None:
        """Prepare and check the format.

        Args:
            model: whose tokenizer and chat template are used.
            form: how questions are put.
            instruction: a domain's own, in place of the format's words.
            ids: False for an engine that reads chat messages; then no tokenizer is needed.
        """
        self._form, self._instruction = form, instruction
        self._system = model.chat.system
        self._prompt = Prompt(form.prompt)
        self._tokenizer = load_tokenizer(model) if ids else None
        self._chat = self._chat_of(model) if form.chat or instruction is not None else None
        self.stop_ids = self._stops(model)
        self.digest = self._digest()

    def request(
        self, problem: Mapping[str, Any], sampling: Sampling, seed: int, replies: Sequence[str] = ()
    ) -> Request:
        """The request for answers to a problem; `replies` are the model's own to the questions before it."""
        key = problem["id"]
        ask: dict[str, Any] = {"key": key, "sampling": sampling, "seed": seed_of(key, seed)}
        if problem.get("messages") or self._tokenizer is None:
            return Request(messages=self._messages(problem, replies), **ask)
        text = self._text(problem["question"])
        if self._chat is not None:
            return Request(prompt_ids=self._chat.answer_ids(text), **ask)
        return Request(prompt_ids=tuple(self._tokenizer(text).input_ids), **ask)

    @property
    def shortest(self) -> int | None:
        """Tokens of a prompt with next to nothing asked in it; None where the engine makes the prompt."""
        if self._tokenizer is None:
            return None
        return len(self._chat.answer_ids(self._text("?")) if self._chat else self._tokenizer(self._text("?")).input_ids)

    def check_dialogue(self, benchmark: str) -> None:
        """Refuse a benchmark of conversations where the model has no template to put them in."""
        if self._tokenizer is not None and (self._chat is None or self._tokenizer.chat_template is None):
            raise ConfigError(
                f"benchmark {benchmark} is a conversation, and model '{self._tokenizer.name_or_path}' with "
                f"format={self._form.name} has no chat template for it; leave it out, or choose format=chat"
            )

    def _text(self, question: str) -> str:
        if self._instruction is not None:
            return "\n".join(filter(None, (question.strip(), self._instruction)))
        return self._prompt.render(question=question.strip())

    def _messages(self, problem: Mapping[str, Any], replies: Sequence[str]) -> tuple[Message, ...]:
        own = iter(replies)
        before = problem.get("messages") or []
        said = [dict(m) if m["content"] is not None else {**m, "content": next(own)} for m in before]
        said.append({"role": "user", "content": problem["question"]})
        said[0] = {**said[0], "content": self._text(said[0]["content"])}
        system = [{"role": "system", "content": self._system}] if self._system else []
        return (*system, *said)

    def _chat_of(self, model: ModelConfig) -> ChatFormat | None:
        if self._tokenizer is None:
            return None
        try:
            return ChatFormat.from_tokenizer(self._tokenizer, model.chat, eos_ids=eos_ids(model), key="model.chat")
        except ConfigError as error:
            raise ConfigError(f"{error}. {PLAIN_TEXT_FIX}") from error

    def _stops(self, model: ModelConfig) -> tuple[int, ...]:
        if self._tokenizer is None:
            return ()
        if self._chat is not None:
            return self._chat.answer_stop_ids
        own = [self._tokenizer.eos_token_id, *eos_ids(model)]
        stops = tuple(dict.fromkeys(i for i in own if i is not None))
        if not stops:
            raise ConfigError(
                f"model {model.name} has no eos token, so its answers would never end; choose format=chat"
            )
        return stops

    def _digest(self) -> str:
        probe = self._chat.digest if self._chat else self._tokenizer and self._tokenizer(self._text("x")).input_ids
        parts = [flatten(self._form), self._instruction, self._system, probe]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def seed_of(key: str, seed: int) -> int:
    """The seed of a problem's answers: of the problem and the run's seed alone, the same in any batch."""
    return int(row_id("seed", key=key, seed=seed)[:16], 16) >> 1
