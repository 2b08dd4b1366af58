"""How a problem is put to a model: its chat template with the boxed instruction, or plain text for base models.

The ids come from `sq.core.chat`, the words from a prompt in `conf/prompt/`. A conversation (MathChat) goes to the
engine as messages, which renders them with the model's template.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.config import flatten, setting
from sq.core.count import count_noun
from sq.core.errors import ConfigError, RowError
from sq.core.prompts import PLACEHOLDER, Prompt, PromptConfig
from sq.core.rows import row_id
from sq.core.thinking import reopened, with_common_marks
from sq.data.sources import SourceConfig
from sq.engine.base import Message, Request, Sampling
from sq.models.load import ModelConfig, eos_ids, load_tokenizer

_SHOT_FIELDS = ("question", "solution", "answer")
PLAIN_TEXT_FIX = "For a model that was trained on plain text, say so: format=alpaca"


@dataclass(frozen=True, kw_only=True)
class ShotsConfig:
    """Worked examples that stand before every question: the first rows of a source, or rows of the format's own."""

    source: SourceConfig = field(default_factory=SourceConfig)
    rows: list[dict[str, str]] = setting([], help="in place of source: each with a question, a solution and an answer")
    count: int = setting(5, ge=1, help="examples")
    template: str = setting("{question}\n{solution}", help="one of them: {question}, {solution}, {answer}")
    separator: str = setting("\n\n", help="what stands behind each")

    def __post_init__(self) -> None:
        for name in {*PLACEHOLDER.findall(self.template)} - {*_SHOT_FIELDS}:
            raise ValueError(f"shots.template has {{{name}}}; an example has {', '.join(_SHOT_FIELDS)}")
        if self.rows and self.source.input is not None:
            raise ValueError(
                "shots.rows and shots.source.input are both given; for those of a file take format=few_shot"
            )
        for number, row in enumerate(self.rows, 1):
            if missing := [name for name in _SHOT_FIELDS if name not in row]:
                raise ValueError(
                    f"row {number} of shots.rows has no {missing[0]}; it has {', '.join(row) or 'nothing'}"
                )

    def examples(self) -> list[tuple[str, str]]:
        """Each example's question, to compare, and the example as it stands in a prompt.

        Raises:
            ConfigError: where no source is named.
            RowError: where it has too few rows.
        """
        rows = self.rows[: self.count] or self._read()
        if len(rows) < self.count:
            raise RowError(
                f"format.shots.count={self.count}: {self.source.input or 'format.shots.rows'} has "
                f"{count_noun(len(rows), 'row')} with a question, a solution and an answer"
            )
        return [(_words(row["question"]), self._example(row) + self.separator) for row in rows]

    def _read(self) -> list[dict[str, Any]]:
        if self.source.input is None:
            raise ConfigError("the examples have no source; say where they are: format.shots.source.input=FILE")
        from sq.data.sources import read_source

        return list(read_source(replace(self.source, limit=self.count), _SHOT_FIELDS))

    def _example(self, row: Mapping[str, Any]) -> str:
        return PLACEHOLDER.sub(lambda field: str(row[field[1]]).strip(), self.template)


@dataclass(frozen=True, kw_only=True)
class FormatConfig:
    """How questions are put to a model."""

    name: str = setting(help="chat, alpaca, bare, gsm8k_5shot, minerva_4shot, few_shot, or a name of your own")
    chat: bool = setting(True, help="put it in the model's chat template; false: as it is, after the BOS token")
    prompt: PromptConfig
    shots: ShotsConfig | None = None
    stop: list[str] = setting([], help="texts that end an answer: a base model goes on with a question of its own")


@dataclass(frozen=True, kw_only=True)
class RequestBuilder:
    """Turns problems into requests for one model, by one format. Nothing of the model but its tokenizer is read.

    Attributes:
        model: whose tokenizer and chat template are used.
        form: how questions are put.
        sampling: how answers are sampled; where they stop follows from the format.
        seed: of the run.
        instruction: a domain's own, in place of the format's words.
        ids: False for an engine that reads chat messages; then no tokenizer is needed.
    """

    model: ModelConfig
    form: FormatConfig
    sampling: Sampling
    seed: int
    instruction: str | None = None
    ids: bool = True

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the requests of given problems, flat and plain."""
        return {**flatten(self._sampling, "sampling"), "prompt": self.digest, "seed": self.seed}

    @cached_property
    def digest(self) -> str:
        """A digest of the format."""
        probe = self._chat.digest if self._chat else self._tokenizer and self._tokenizer(self._text("x")).input_ids
        form = {k: v for k, v in flatten(replace(self.form, shots=None)).items() if v or k not in ("shots", "stop")}
        parts = [form, self.instruction, self.model.chat.system, probe, *([self._shots] if self._shots else [])]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()

    def request(self, problem: Mapping[str, Any], replies: Sequence[str] = ()) -> Request:
        """The request for answers to a problem; `replies` are the model's own to the questions before it."""
        key = problem["id"]
        ask: dict[str, Any] = {"key": key, "sampling": self._sampling, "seed": seed_of(key, self.seed)}
        ask["stop"] = tuple(self.form.stop) if self.instruction is None else ()
        if problem.get("messages") or self._tokenizer is None:
            return Request(messages=self._messages(problem, replies), **ask)
        return Request(prompt_ids=tuple(self._ids(problem["question"])), **ask)

    @cached_property
    def reasoning(self) -> dict[str, Any]:
        """The marks of the model's reasoning, and what a prompt ends in: what they are in `as_graded`. Empty: none."""
        marks = self.model.chat.reasoning
        end = self._chat.text(self._chat.answer_ids("?")[-32:]) if marks and self._chat else ""
        return {"reasoning": " ".join(marks), "prompt_end": end} if marks else {}

    def as_graded(self, reply: str) -> str:
        """A reply as graders read it: with the mark that its prompt ended in, a model's own marks as common ones."""
        marks = self.model.chat.reasoning
        return with_common_marks(reopened(reply, self.reasoning["prompt_end"], marks), marks) if marks else reply

    def prompt_text(self, problem: Mapping[str, Any]) -> str:
        """What the model is sent for a problem, as text; messages as JSON, a conversation by its last question."""
        if problem.get("messages"):
            return str(problem["question"])
        if self._tokenizer is None:
            return json.dumps(self._messages(problem, ()), ensure_ascii=False)
        text = self._text(problem["question"])
        return str(self._tokenizer.decode(self._chat.answer_ids(text))) if self._chat else text

    def prompt_messages(self, problem: Mapping[str, Any]) -> tuple[Message, ...]:
        """The same as messages, before a chat template; plain text is a message of the user's."""
        if problem.get("messages") or (self._tokenizer is not None and self._chat is None):
            return ({"role": "user", "content": self.prompt_text(problem)},)
        return self._messages(problem, ())

    @property
    def shots(self) -> int:
        """Worked examples in a prompt."""
        return self.form.shots.count if self._shots and self.form.shots else 0

    def shortest(self) -> int | None:
        """Tokens of a prompt with next to nothing asked in it; None where the engine makes the prompt.

        Raises:
            ConfigError: where the model has no such format, or its answers would never end.
        """
        return len(self._ids("?")) if self._tokenizer and self._sampling.stop_token_ids else None

    def check_dialogue(self, benchmark: str) -> None:
        """Refuse a benchmark of conversations where the model has no template to put them in."""
        if self._tokenizer is not None and (self._chat is None or self._tokenizer.chat_template is None):
            raise ConfigError(
                f"benchmark {benchmark} is a conversation, and model '{self._tokenizer.name_or_path}' with "
                f"format={self.form.name} has no chat template for it; leave it out, or choose format=chat"
            )

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.model) if self.ids else None

    @cached_property
    def _chat(self) -> ChatFormat | None:
        if self._tokenizer is None or not (self.form.chat or self.instruction is not None):
            return None
        try:
            ends = eos_ids(self.model)
            return ChatFormat.from_tokenizer(self._tokenizer, self.model.chat, eos_ids=ends, key="model.chat")
        except ConfigError as error:
            raise ConfigError(f"{error}. {PLAIN_TEXT_FIX}") from error

    @cached_property
    def _sampling(self) -> Sampling:
        """With the ids that end an answer."""
        if self._tokenizer is None or self._chat is not None:
            return replace(self.sampling, stop_token_ids=self._chat.answer_stop_ids if self._chat else ())
        own = [self._tokenizer.eos_token_id, *eos_ids(self.model)]
        stops = tuple(dict.fromkeys(i for i in own if i is not None))
        if not stops:
            raise ConfigError(
                f"model {self.model.name} has no eos token, so its answers would never end; choose format=chat"
            )
        return replace(self.sampling, stop_token_ids=stops)

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(self.form.prompt)

    def _ids(self, question: str) -> Sequence[int]:
        text = self._text(question)
        ids: Sequence[int] = self._chat.answer_ids(text) if self._chat else self._tokenizer(text).input_ids
        return ids

    def _text(self, question: str) -> str:
        if self.instruction is not None:
            return "\n".join(filter(None, (question.strip(), self.instruction)))
        asked = _words(question)
        shots = "".join(text for example, text in self._examples if example != asked)
        return shots + self._prompt.render(question=question.strip())

    def count_examples(self, problems: Iterable[Mapping[str, Any]]) -> int:
        """How many of the problems are among the worked examples: each is asked without that example."""
        examples = {question for question, _ in self._examples}
        return sum(_words(_first_question(problem)) in examples for problem in problems) if examples else 0

    @cached_property
    def _examples(self) -> list[tuple[str, str]]:
        return self.form.shots.examples() if self.form.shots is not None and self.instruction is None else []

    @cached_property
    def _shots(self) -> str:
        return "".join(text for _, text in self._examples)

    def _messages(self, problem: Mapping[str, Any], replies: Sequence[str]) -> tuple[Message, ...]:
        own = iter(replies)
        before = problem.get("messages") or []
        messages = [dict(m) if m["content"] is not None else {**m, "content": next(own)} for m in before]
        messages.append({"role": "user", "content": problem["question"]})
        messages[0] = {**messages[0], "content": self._text(messages[0]["content"])}
        system = self.model.chat.system
        return (*([{"role": "system", "content": system}] if system else []), *messages)


def _first_question(problem: Mapping[str, Any]) -> str:
    """What a conversation begins with, before which the examples stand; else the question."""
    messages = problem.get("messages")
    return str(messages[0]["content"] if messages else problem["question"])


def _words(question: str) -> str:
    """A question to compare with another: case and spacing do not count."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def seed_of(key: str, seed: int) -> int:
    """The seed of a problem's answers: of the problem and the run's seed alone, the same in any batch."""
    return int(row_id("seed", key=key, seed=seed)[:16], 16) >> 1
