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
    stored: int = 0
    """Of a filter: questions that were not asked about, as a store had what came of it before."""
    api_prompt_tokens: int = 0
    api_output_tokens: int = 0
    api_dollars: float = 0.0
    """By `engine.price_in` and `price_out`."""

    def metrics(self) -> dict[str, float]:
        """The same under the names by which it is kept: usage/requests, usage/prompt_tokens, ..."""
        own = asdict(self)
        return {
            f"usage/{name}": float(own[name]) for name in own if own[name] or not name.startswith(("api_", "stored"))
        }


class MeteredEngine:
    """An engine whose requests are added to `usage`; it speaks the same contract."""

    def __init__(self, create: Callable[[], Engine], usage: Usage, api_prices: tuple[float, float] | None) -> None:
        begun = time.monotonic()
        self._engine, self._usage, self._api_prices = create(), usage, api_prices
        usage.start_seconds += time.monotonic() - begun

    @property
    def fingerprint(self) -> str:
        """The engine's own."""
        return self._engine.fingerprint

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """The engine's results, counted."""
        for result, seconds in _timed(self._engine.generate, requests):
            output_tokens = sum(c.tokens for c in result.completions)
            self._usage.requests += 1
            self._usage.prompt_tokens += result.prompt_tokens
            self._usage.output_tokens += output_tokens
            if self._api_prices is not None:
                self._usage.api_prompt_tokens += result.prompt_tokens
                self._usage.api_output_tokens += output_tokens
                price_in, price_out = self._api_prices
                self._usage.api_dollars += (result.prompt_tokens * price_in + output_tokens * price_out) / 1e6
            self._usage.engine_seconds += seconds
            yield result

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """The engine's scores, counted."""
        for result, seconds in _timed(self._engine.score, requests):
            self._usage.scored += 1
            self._usage.scored_tokens += result.tokens
            self._usage.score_seconds += seconds
            yield result

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _timed(ask: Callable[[Iterator[Any]], Iterator[T]], requests: Iterable[Any]) -> Iterator[tuple[T, float]]:
    """Each result with the seconds that it took, without those in which requests were read."""
    clock = time.monotonic
    reading = 0.0

    def source() -> Iterator[Any]:
        nonlocal reading
        begun = clock()
        for request in requests:
            reading += clock() - begun
            yield request
            begun = clock()
        reading += clock() - begun

    results = ask(source())
    try:
        begun = clock()
        for result in results:
            yield result, clock() - begun - reading
            begun, reading = clock(), 0.0
    finally:
        if isinstance(results, Generator):
            results.close()  # an abandoned stream leaves nothing in the engine
