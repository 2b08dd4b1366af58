"""OpenAI-compatible endpoints as an engine: OpenAI itself, vLLM's servers, or any of the many that speak like them.

Requests are in flight together on a background thread's event loop (`openai_client.py`); the caller sees a plain
iterator that reads requests only as fast as they are answered. Addresses and key come from the environment, and the
key is written nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from sq.core.config import setting
from sq.core.count import count_noun
from sq.core.errors import EndpointError, EngineError
from sq.core.secrets import redact, remember
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.engine.failures import SPARED, has_failed
from sq.models.load import ModelConfig

log = logging.getLogger(__name__)
PUBLIC = "https://api.openai.com/v1"
PATIENCE = 10.0
"""Seconds that closing waits for requests to be given up."""


@dataclass(frozen=True, kw_only=True)
class OpenAIConfig(EngineConfig):
    """How an OpenAI-compatible endpoint is asked."""

    ignored_fields: ClassVar = {
        **dict.fromkeys(("url_env", "key_env"), "where the endpoint is, and who pays: servers move"),
        **dict.fromkeys(("concurrency", "requests_per_minute", "tokens_per_minute"), "how fast it is asked"),
        **dict.fromkeys(
            ("timeout", "attempts", "backoff", "backoff_max", "outage", "silence"), "when it is asked again or given up"
        ),
        **dict.fromkeys(("price_in", "price_out"), "what it costs"),
        "max_tokens_name": "the same limit by another name",
    }

    served: str | None = setting(None, help="the model's name at the endpoint; default: model.path")
    ids: bool = setting(False, help="send prompts as token ids, which vLLM takes; else as chat messages")
    url_env: str = setting(
        "OPENAI_BASE_URL", help="variable with the address, ending in /v1; several with commas between"
    )
    key_env: str = setting("OPENAI_API_KEY", help="environment variable with the key")
    concurrency: int = setting(64, ge=1, le=1000, help="requests in flight at once")
    requests_per_minute: float | None = setting(
        None, gt=0, help="no more than so many, of all workers together; default: no limit"
    )
    tokens_per_minute: float | None = setting(
        None, gt=0, help="tokens in and out, no more than so many, of all workers together"
    )
    timeout: float = setting(600.0, gt=0, help="seconds for one attempt")
    attempts: int = setting(8, ge=1, help="tries of a request before it is given up")
    backoff: float = setting(1.0, gt=0, help="seconds before the second try; they double from try to try")
    backoff_max: float = setting(60.0, gt=0, help="the longest of these waits; Retry-After may ask for more")
    outage: int = setting(32, ge=1, help="failures with no success among them that stop the run")
    silence: float = setting(45.0, gt=0, help="seconds in which nothing comes from any address that stop the run")
    price_in: float = setting(0.0, ge=0, help="price of a million tokens of prompts")
    price_out: float = setting(0.0, ge=0, help="price of a million tokens of replies")
    max_tokens_name: str = setting("max_tokens", choices=("max_tokens", "max_completion_tokens"))
    extra: dict[str, Any] = setting({}, help="further fields of each request's body")
    seed_bits: int = setting(63, ge=1, le=63, help="bits of seeds that it uses (vLLM on a GPU: 32), and gets")  # type: ignore[misc]
    omit: list[str] = setting([], help="fields that the endpoint does not take, such as seed")

    @property
    def reads_ids(self) -> bool:  # type: ignore[override]  # here it is the user's choice
        """Whether prompts go to it as token ids."""
        return self.ids

    @property
    def api_prices(self) -> tuple[float, float]:
        """As set."""
        return self.price_in, self.price_out

    def can_score(self, model: ModelConfig) -> bool:
        """No endpoint of this kind does."""
        return False

    def identity(self, model: ModelConfig) -> str:
        """The name it is served by: weights behind an endpoint cannot be read."""
        return f"endpoint:{self.served or model.path}"

    def resolved(self, model: ModelConfig) -> Self:
        """With the name it is served by."""
        return replace(self, served=self.served or model.path)

    def for_another(self, model: ModelConfig) -> Self:
        """By that one's name, at a price that is not known."""
        return replace(self, served=None, price_in=0.0, price_out=0.0)

    def one_of(self, workers: int) -> Self:
        """With its share of the rates, which the endpoint counts over all workers."""
        rates = (self.requests_per_minute, self.tokens_per_minute)
        requests, tokens = (rate and rate / workers for rate in rates)
        return replace(self, requests_per_minute=requests, tokens_per_minute=tokens)

    def create(self, model: ModelConfig) -> OpenAIEngine:
        """Make ready to ask; nothing is sent yet."""
        return OpenAIEngine(self, model)


class OpenAIEngine:
    """Asks one endpoint for one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: OpenAIConfig, model: ModelConfig) -> None:
        urls, key = _addresses(config)
        from sq.engine.openai_client import Client  # the SDK takes a second to import

        self.config = config.resolved(model)
        self.fingerprint = config.identity(model)
        self.client = Client(self.config, urls, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sq-openai", daemon=True)
        self._thread.start()
        self._failed = 0  # in a row

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as they come, with at most `concurrency` requests in flight."""
        self._check_open()
        return self._results(iter(requests))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """An endpoint of this kind gives text."""
        raise EngineError("an OpenAI-compatible endpoint generates; it cannot score. Use engine=hf with a reward model")

    def close(self) -> None:
        """Give up what is in flight, close the connections, end the thread, and log what was spent."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        c, prices = self.client, (self.config.price_in, self.config.price_out)
        cost = (c.prompt_tokens * prices[0] + c.completion_tokens * prices[1]) / 1e6
        asked = f"{count_noun(c.requests, 'request')} in {count_noun(c.attempts, 'attempt')}"
        priced = f"cost {cost:.4f}" if any(prices) else "cost unknown (no engine.price_in, price_out)"
        tokens = f"{c.prompt_tokens} tokens in, {c.completion_tokens} out"
        log.info("%s: %s, %s, %s", self.fingerprint, asked, tokens, priced)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        await self.client.close()

    def _check_open(self) -> None:
        if self._loop.is_closed():
            raise EngineError(f"the engine of {self.fingerprint} is closed")

    def _results(self, source: Iterator[Request]) -> Iterator[Result]:
        from sq.engine.openai_silence import watch

        in_flight: set[Future[Result]] = set()
        held: list[Result] = []
        silence = asyncio.run_coroutine_threadsafe(watch(self.client), self._loop)
        try:
            while True:
                self._check_open()
                while len(in_flight) < self.config.concurrency and (request := next(source, None)) is not None:
                    in_flight.add(asyncio.run_coroutine_threadsafe(self.client.ask(request), self._loop))
                if not in_flight:
                    break
                done, in_flight = wait(in_flight, timeout=1.0, return_when=FIRST_COMPLETED)  # so that Ctrl-C is handled
                if silence.done():
                    silence.result()
                for future in done:
                    yield from self._ready(future.result(), held)
            yield from held
        except CancelledError:
            raise EngineError("the engine was closed while requests were in flight") from None
        finally:
            silence.cancel()
            for future in in_flight:
                future.cancel()

    def _ready(self, result: Result, held: list[Result]) -> list[Result]:
        """What may be yielded now. While nothing was served a refusal is held: if all are refused, it is our doing."""
        if result.refused and not self.client.served:
            held.append(result)
            if len(held) <= SPARED:
                return []
            ready = [replace(one, refused=False) for one in held]
        elif has_failed(result):
            self._failed += 1
            if self._failed >= self.config.outage:
                raise EndpointError(
                    f"the last {self._failed} requests failed and none was served: {result.error}. Nothing is lost: "
                    f"run the same command again when it is up. {self.config.url_env} has its address"
                )
            return [result]
        else:
            self._failed, ready = 0, [*held, result]
        held.clear()
        return ready


def _addresses(config: OpenAIConfig) -> tuple[list[str], str | None]:
    """Addresses and key from the environment, checked."""
    key = os.environ.get(config.key_env, "").strip() or None
    if key:
        remember(key)
        if not key.isascii() or not key.isprintable():
            raise EngineError(f"the key in {config.key_env} has characters that no key has: copy it again")
    given = os.environ.get(config.url_env, "").strip()
    if not given and not key:
        raise EngineError(
            f"set {config.url_env} to the endpoint's address (http://localhost:8000/v1, say) and {config.key_env} to "
            f"its key, where it has one; with the key alone, {PUBLIC} is asked"
        )
    urls = [url.strip().rstrip("/") for url in (given or PUBLIC).split(",")]
    for url in urls:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise EngineError(f"{config.url_env}: {redact(url)!r} is no address like http://localhost:8000/v1")
    return urls, key
