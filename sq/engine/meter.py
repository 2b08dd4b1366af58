"""What an engine was asked and what it took: requests, tokens in and out, seconds at work. The bill is made of it.

Seconds are the engine's own: the time in which a stage reads rows and makes prompts is not counted. A prompt of several
completions is counted once, as it is computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sq.engine.base import Engine, Request, Result, ScoreRequest, ScoreResult

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Usage:
    """Sums over everything asked; `scored` and its kin are of reward models and regressors."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    engine_seconds: float = 0.0
    start_seconds: float = 0.0
    scored: int = 0
    scored_tokens: int = 0
    score_seconds: float = 0.0

    def metrics(self) -> dict[str, float]:
        """The same under the names by which it is kept: usage/requests, usage/prompt_tokens, ..."""
        return {f"usage/{name}": float(value) for name, value in asdict(self).items()}


class MeteredEngine:
    """An engine whose requests are added to `usage`; it speaks the same contract."""

    def __init__(self, create: Callable[[], Engine], usage: Usage) -> None:
        begun = time.monotonic()
        self._engine, self._usage = create(), usage
        usage.start_seconds += time.monotonic() - begun

    @property
    def fingerprint(self) -> str:
        """The engine's own."""
        return self._engine.fingerprint

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """The engine's results, counted."""
        clock = _Clock(requests)
        for result in clock.run(self._engine.generate(clock.source())):
            self._usage.requests += 1
            self._usage.prompt_tokens += result.prompt_tokens
            self._usage.output_tokens += sum(c.tokens for c in result.completions)
            self._usage.engine_seconds += clock.taken()
            yield result

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """The engine's scores, counted."""
        clock = _Clock(requests)
        for result in clock.run(self._engine.score(clock.source())):
            self._usage.scored += 1
            self._usage.scored_tokens += result.tokens
            self._usage.score_seconds += clock.taken()
            yield result

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


class _Clock:
    """Measures a stream of results, but not the stream of requests that it reads."""

    def __init__(self, requests: Iterable[Any]) -> None:
        self._requests = iter(requests)
        self._seconds = 0.0

    def source(self) -> Iterator[Any]:
        while True:
            begun = time.monotonic()
            request = next(self._requests, None)
            self._seconds -= time.monotonic() - begun
            if request is None:
                return
            yield request

    def run(self, results: Iterator[T]) -> Iterator[T]:
        try:
            while True:
                begun = time.monotonic()
                result = next(results, None)
                self._seconds += time.monotonic() - begun
                if result is None:
                    return
                yield result
        finally:
            if isinstance(results, Generator):
                results.close()  # an abandoned stream leaves nothing in the engine

    def taken(self) -> float:
        """Seconds since this was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
