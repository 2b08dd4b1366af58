"""A model behind an engine: how text is sent to it, and request flows of any number of turns.

The engine starts with the first request, so a stage that has nothing left to ask starts none. A stage writes what it
does for one item as a generator (`RequestFlow`): it yields requests, is sent their results, and returns the item's.
All items' flows run at once through one stream of requests, follow-ups before new items, without a barrier. Where one
of an item's requests fails, its flow ends there and the item has no result but the failure.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError, EngineError, SqError
from sq.core.ledger import Reject, WorkItem
from sq.core.prompts import Prompt
from sq.core.thinking import UNFINISHED, answer_start, reopened
from sq.core.tracking import ItemTrace
from sq.domains.base import Domain
from sq.engine.base import Completion, Engine, Request, Result, Sampling, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.engine.failures import FailureLimit, has_failed, rejected
from sq.engine.meter import MeteredEngine, Usage
from sq.models.load import ModelConfig, eos_ids, load_tokenizer
from sq.synth.request_traces import RequestTraces, prompt_text
from sq.synth.stage import ItemResult, seed_of

AnyRequest: TypeAlias = Request | ScoreRequest
AnyResult: TypeAlias = Result | ScoreResult
RequestFlow: TypeAlias = Generator[Sequence[AnyRequest], list[Any], ItemResult]
log = logging.getLogger(__name__)
READY = 4096
"""Results that may wait to be taken before new items are read."""


class RejectedItem(Exception):
    """Ends a flow: this reject is what comes of its item."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(reject.reason)
        self.reject = reject


class ModelClient:
    """A model and the engine that serves it."""

    def __init__(self, model: ModelConfig, engine: EngineConfig, usage: Usage | None = None) -> None:
        self.name = model.name
        self.usage = usage or Usage()
        self.identity = engine.identity(model)
        self.scoring_fields: dict[str, Any] = {"model": self.identity, **engine.fingerprint_fields(model)}
        """What of it decides its scores; for replies the chat format comes to it."""
        self._model, self._config = model, engine
        self._limit = FailureLimit(engine)
        self._engine: Engine | None = None
        self._checked: set[tuple[int, str]] = set()
        self._traces = RequestTraces()

    @cached_property
    def chat(self) -> ChatFormat | None:
        """The chat format of a model that reads token ids. A model that only scores is never asked for it."""
        if not self._config.reads_ids:
            return None
        tokenizer, ends = load_tokenizer(self._model), eos_ids(self._model)
        return ChatFormat.from_tokenizer(tokenizer, self._model.chat, eos_ids=ends, key="model.chat")

    @cached_property
    def _shortest(self) -> int:
        """Tokens of a prompt with next to nothing in it."""
        return len(self.chat.answer_ids("?")) if self.chat is not None else 0

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What of it decides its replies: for a ledger's identity and a row's key."""
        return {**self.scoring_fields, "chat": self.chat.digest if self.chat else "messages"}

    def sampling(
        self, *, n: int = 1, temperature: float, top_p: float = 1.0, max_tokens: int, setting: str = "stage.max_tokens"
    ) -> Sampling:
        """Sampling of a reply, which ends with the model's end token; `setting` is the key that sets `max_tokens`."""
        stops = self.chat.answer_stop_ids if self.chat else ()
        if self.chat is not None:
            self.check_length(max_tokens, prompt=self._shortest, setting=setting)
        return Sampling(n=n, temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop_token_ids=stops)

    def check_length(self, max_tokens: int, *, prompt: int, setting: str = "stage.max_tokens") -> None:
        """Say once, before anything is asked, that replies cannot become as long as allowed."""
        if (max_tokens, setting) in self._checked:
            return
        self._checked.add((max_tokens, setting))
        if warning := self._config.too_long(self._model, max_tokens=max_tokens, prompt=prompt, setting=setting):
            log.warning("%s", warning)

    def request(self, key: str, text: str, sampling: Sampling, *, instruction: str = "") -> Request:
        """A user's message and the start of the reply to it."""
        if self.chat is not None:
            ids = self.chat.answer_ids(text, instruction=instruction)
            return Request(key=key, sampling=sampling, seed=seed_of(key), prompt_ids=ids)
        content = f"{text.strip()}\n{instruction}" if instruction else text
        return Request(key=key, sampling=sampling, seed=seed_of(key), messages=({"role": "user", "content": content},))

    def ask(
        self, row: Mapping[str, Any], key: str, text: str, sampling: Sampling, *,
        prompt: Prompt | None = None, instruction: str = "",
    ) -> Generator[Sequence[AnyRequest], list[Any], tuple[Request, Result]]:  # fmt: skip
        """A flow's one request about `row`, its text put into a prompt perhaps, and the result.

        Raises:
            RejectedItem: where it cannot be made, or is refused.
        """
        try:
            asked = text if prompt is None else prompt.render(question=text)
            request = self.request(key, asked, sampling, instruction=instruction)
        except SqError as error:
            raise RejectedItem(Reject(row=row, reason="unusable", detail=str(error))) from error
        (result,) = yield [request]
        if result.error is not None:
            raise RejectedItem(rejected(row, result))
        return request, result

    def prefix_request(self, key: str, sampling: Sampling) -> Request:
        """The bare start of a user's message, for the model to write the question itself."""
        return Request(
            key=key,
            sampling=replace(sampling, stop_token_ids=self.own_chat.stop_ids),
            seed=seed_of(key),
            prompt_ids=self.own_chat.question_prefix_ids,
        )

    @property
    def own_chat(self) -> ChatFormat:
        """The chat format, which an engine that takes only whole messages does not have.

        Raises:
            ConfigError: for such an engine.
        """
        if self.chat is None:
            raise ConfigError(
                f"{type(self._config).__name__} takes whole messages, but questions are continued from a bare prefix; "
                "use engine=vllm"
            )
        return self.chat

    def full_replies(self, request: Request, result: Result) -> tuple[Completion, ...]:
        """The replies with the mark that opens their reasoning, where the template puts that in the prompt."""
        marks = self._model.chat.reasoning
        if not marks or request.prompt_ids is None or self.chat is None:
            return result.completions
        prompt = self.chat.text(request.prompt_ids[-32:])
        return tuple(replace(c, text=reopened(c.text, prompt, marks)) for c in result.completions)

    def answer_start(self, reply: str) -> int | None:
        """Where the answer begins in a reply that reasons first (`sq.core.thinking`)."""
        opening, closing = self._model.chat.reasoning or ("", "")
        return answer_start(reply, (opening, closing) if opening else None)

    def answer_in(self, reply: str) -> str:
        """The part of a reply that can hold a final answer; nothing of one whose reasoning never ended."""
        start = self.answer_start(reply)
        return "" if start == UNFINISHED else reply[start or 0 :]

    def final_answer(self, domain: Domain, reply: Completion) -> str | None:
        """The final answer of a reply; of one that was cut off, only a whole one, as in evaluation."""
        return domain.final_answer(self.answer_in(reply.text), cut_off=reply.finish_reason == "length")

    def run_flows(self, items: Iterable[WorkItem], flow: Callable[[WorkItem], RequestFlow]) -> Iterator[ItemResult]:
        """Run `flow` for every item; results as they come."""
        return self._runner(items, flow).results(lambda rs: self._limit.watch(self.engine.generate(rs)))

    def score(self, items: Iterable[WorkItem], flow: Callable[[WorkItem], RequestFlow]) -> Iterator[ItemResult]:
        """The same with a model that scores."""
        return self._runner(items, flow).results(lambda rs: self._limit.watch(self.engine.score(rs)))

    def _runner(self, items: Iterable[WorkItem], flow: Callable[[WorkItem], RequestFlow]) -> _FlowRunner:
        return _FlowRunner(items, flow, self._traces, reject_failed=self._config.reject_failed)

    def traces(self, limit: int) -> list[ItemTrace]:
        """What it was asked for the first items, and what came of them."""
        decode = self.chat.text if self.chat is not None and limit else None
        return self._traces.read(self.name, limit, lambda request: prompt_text(request, decode))

    def close(self) -> None:
        """Stop the engine, if it was started."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def engine(self) -> Engine:
        """The engine, started now if it was not."""
        if self._engine is None:
            self._engine = MeteredEngine(lambda: self._config.create(self._model), self.usage, self._config.api_prices)
        return self._engine


@dataclass(slots=True, eq=False)
class _PausedFlow:
    """One flow that waits for the results of its requests."""

    key: str
    flow: RequestFlow
    keys: list[str] = field(default_factory=list)
    results: dict[str, AnyResult] = field(default_factory=dict)


class _FlowRunner:
    """All flows of a stage, through one stream of requests."""

    def __init__(
        self, items: Iterable[WorkItem], flow: Callable[[WorkItem], RequestFlow], traces: RequestTraces | None = None,
        *,
        reject_failed: bool = False,
    ) -> None:  # fmt: skip
        self._items, self._flow, self._reject_failed = iter(items), flow, reject_failed
        self._traces = traces or RequestTraces()
        self._queue: deque[AnyRequest] = deque()
        self._waiting: dict[str, _PausedFlow] = {}
        self._ready: deque[ItemResult] = deque()
        self._read_to_end = False

    def results(self, ask: Callable[[Iterator[Any]], Iterator[Any]]) -> Iterator[ItemResult]:
        while True:
            requests = self._requests()
            first = next(requests, None)
            yield from self._drain()
            if first is None:
                if self._read_to_end and not self._queue:
                    break
                continue
            for result in ask(itertools.chain([first], requests)):
                self._take(result)
                yield from self._drain()
        if self._waiting:
            raise EngineError(
                f"the engine left {len(self._waiting)} requests without a result. Run the same command again: "
                "only those are asked again"
            )

    def _requests(self) -> Iterator[AnyRequest]:
        while True:
            while not self._queue:
                if len(self._ready) >= READY:
                    return
                item = next(self._items, None)
                if item is None:
                    self._read_to_end = True
                    return
                self._advance(_PausedFlow(item.key, self._flow(item)), None)
            yield self._queue.popleft()

    def _take(self, result: AnyResult) -> None:
        paused = self._waiting.pop(result.key)
        paused.results[result.key] = result
        if len(paused.results) < len(paused.keys):
            return
        results = [paused.results[key] for key in paused.keys]
        self._traces.answer(paused.key, results)
        failed = None if self._reject_failed else next((r.error for r in results if has_failed(r)), None)
        if failed is None:
            self._advance(paused, results)
        else:
            paused.flow.close()
            self._end(ItemResult(key=paused.key, failure=failed))

    def _advance(self, paused: _PausedFlow, results: list[AnyResult] | None) -> None:
        """Let a flow go on until it asks something, or has its result."""
        try:
            requests = next(paused.flow) if results is None else paused.flow.send(results)
            while not requests:
                requests = paused.flow.send([])
        except StopIteration as end:
            return self._end(end.value)
        except RejectedItem as error:
            return self._end(ItemResult(key=paused.key, rejects=[error.reject]))
        self._traces.ask(paused.key, requests)
        paused.keys, paused.results = [request.key for request in requests], {}
        for request in requests:
            self._waiting[request.key] = paused
        self._queue.extend(requests)

    def _end(self, result: ItemResult) -> None:
        self._traces.end(result)
        self._ready.append(result)

    def _drain(self) -> Iterator[ItemResult]:
        while self._ready:
            yield self._ready.popleft()
