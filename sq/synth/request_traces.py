"""The first items of a stage, with all that was asked for them, as MLflow's traces show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from sq.core.tracking import ItemTrace, RequestTrace
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.synth.stage import ItemResult

AnyRequest: TypeAlias = Request | ScoreRequest
AnyResult: TypeAlias = Result | ScoreResult
MOST = 100
"""Items that are kept: `tracking.traces` chooses how many of them are logged."""


class RequestTraces:
    """What one model was asked for the first items of this process, and what came of them.

    Prompts of token ids become text only when they are read.
    """

    def __init__(self) -> None:
        self._asked: dict[str, list[tuple[float, AnyRequest]]] = {}
        self._requests: dict[str, list[tuple[RequestTrace, AnyRequest]]] = {}
        self._ended: dict[str, ItemResult] = {}

    def ask(self, item: str, requests: Sequence[AnyRequest]) -> None:
        """These requests are made for an item."""
        if item in self._asked or len(self._asked) < MOST:
            self._asked[item] = [(time.time(), request) for request in requests]

    def answer(self, item: str, results: Sequence[AnyResult]) -> None:
        """These are the results of the requests last made for it."""
        now = time.time()
        for (begun, request), result in zip(self._asked.get(item, ()), results, strict=False):
            trace = RequestTrace(
                started=int(begun * 1000), seconds=now - begun, prompt="", response=result.error or _reply(result),
                tokens=_tokens(result), failed=result.error is not None,
            )  # fmt: skip
            self._requests.setdefault(item, []).append((trace, request))

    def end(self, result: ItemResult) -> None:
        """This came of an item."""
        if result.key in self._asked:
            self._ended[result.key] = result

    def read(self, name: str, limit: int, text: Callable[[AnyRequest], str]) -> list[ItemTrace]:
        """The first items that have a result, `text` being what makes a prompt readable."""
        return [self._trace(name, result, text) for result in list(self._ended.values())[:limit]]

    def _trace(self, name: str, result: ItemResult, text: Callable[[AnyRequest], str]) -> ItemTrace:
        requests = tuple(replace(trace, prompt=text(request)) for trace, request in self._requests.get(result.key, []))
        reasons = ", ".join(dict.fromkeys(reject.reason for reject in result.rejects))
        started = min((r.started for r in requests), default=int(time.time() * 1000))
        ended = max((r.started + r.seconds * 1000 for r in requests), default=started)
        rejected = f"rejected: {reasons}" if reasons else ""
        kept = f"{len(result.rows)} row{'s'[: len(result.rows) != 1]}" if result.rows else ""
        if result.rows and "id" not in result.rows[0] and requests:  # a filter's question to its judge or scorer
            kept = requests[-1].response
        return ItemTrace(
            name=name, item=result.key, started=started, seconds=(ended - started) / 1000,
            prompt=requests[0].prompt if requests else "", requests=requests, failed=result.failure is not None,
            response=result.failure or ", ".join(filter(None, (kept, rejected))),
        )  # fmt: skip


def prompt_text(request: AnyRequest, decode: Callable[[Sequence[int]], str] | None) -> str:
    """The prompt of a request as a person reads it."""
    if isinstance(request, Request) and request.prompt_ids is not None:
        return decode(request.prompt_ids) if decode else str(list(request.prompt_ids))
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in request.messages or ())


def _reply(result: AnyResult) -> str:
    if isinstance(result, Result):
        return "\n---\n".join(completion.text for completion in result.completions)
    return f"score {result.score}"


def _tokens(result: AnyResult) -> dict[str, int]:
    if not isinstance(result, Result):
        return {"input_tokens": result.tokens, "output_tokens": 0, "total_tokens": result.tokens}
    output = sum(completion.tokens for completion in result.completions)
    return {
        "input_tokens": result.prompt_tokens, "output_tokens": output, "total_tokens": result.prompt_tokens + output,
    }  # fmt: skip
