"""An OpenAI-compatible endpoint as an engine: OpenAI itself, a `vllm serve`, or any of the many that speak like them.

Requests are in flight together on a background thread's event loop (`openai_client.py`); the caller sees a plain
iterator that reads requests only as fast as they are answered. Address and key come from the environment, and the
key is written nowhere. An endpoint that goes down stops the run with nothing rejected; the ledger carries it on later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from sq.core.config import setting
from sq.core.errors import EngineError
from sq.core.secrets import redact, remember
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.engine.failures import SPARED
from sq.models.load import ModelConfig

if TYPE_CHECKING:
    from sq.engine.openai_client import Client, Spend

log = logging.getLogger(__name__)
T = TypeVar("T")
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
            ("timeout", "attempts", "backoff", "backoff_max", "outage"), "when it is asked again or given up"
        ),
        **dict.fromkeys(("price_in", "price_out"), "what it costs"),
        "max_tokens_name": "the same limit by another name",
    }

    served: str | None = setting(None, help="the model's name at the endpoint; default: model.path")
    ids: bool = setting(False, help="send prompts as token ids, which vLLM takes; else as chat messages")
    url_env: str = setting("OPENAI_BASE_URL", help="environment variable with the address, ending in /v1")
    key_env: str = setting("OPENAI_API_KEY", help="environment variable with the key")
    concurrency: int = setting(64, ge=1, help="requests in flight at once")
    requests_per_minute: float | None = setting(None, gt=0, help="no more than so many; default: no limit")
    tokens_per_minute: float | None = setting(None, gt=0, help="tokens in and out, no more than so many")
    timeout: float = setting(600.0, gt=0, help="seconds for one attempt")
    attempts: int = setting(8, ge=1, help="tries of a request before it is given up")
    backoff: float = setting(1.0, gt=0, help="seconds before the second try; they double from try to try")
    backoff_max: float = setting(60.0, gt=0, help="the longest of these waits; Retry-After may ask for more")
    outage: int = setting(32, ge=1, help="failures with no success among them that stop the run")
    price_in: float = setting(0.0, ge=0, help="price of a million tokens of prompts")
    price_out: float = setting(0.0, ge=0, help="price of a million tokens of replies")
    max_tokens_name: str = setting("max_tokens", choices=("max_tokens", "max_completion_tokens"))
    extra: dict[str, Any] = setting({}, help="further fields of each request's body")
    omit: list[str] = setting([], help="fields that the endpoint does not take, such as seed")

    @property
    def reads_ids(self) -> bool:  # type: ignore[override]  # here it is the user's choice
        """Whether prompts go to it as token ids."""
        return self.ids

    def can_score(self, model: ModelConfig) -> bool:
        """No endpoint of this kind does."""
        return False

    def identity(self, model: ModelConfig) -> str:
        """The name it is served by: weights behind an endpoint cannot be read."""
        return f"endpoint:{self.served or model.path}"

    def resolved(self, model: ModelConfig) -> Self:
        """With the name it is served by."""
        return replace(self, served=self.served or model.path)

    def create(self, model: ModelConfig) -> OpenAIEngine:
        """Make ready to ask; nothing is sent yet."""
        return OpenAIEngine(self, model)


class OpenAIEngine:
    """Asks one endpoint for one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: OpenAIConfig, model: ModelConfig) -> None:
        from sq.engine.openai_client import Client, Spend

        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        url, key = _address(config)
        self._last_spend = Spend()
        self._loop = _Loop()
        served = config.served or model.path

        async def connect() -> Client:
            return Client(config, url, key, served)

        self._client: Client | None = self._loop.run(connect())

    @property
    def spend(self) -> Spend:
        """Requests, attempts, tokens and cost so far."""
        return replace(self._client.spend if self._client else self._last_spend)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as they come, with at most `concurrency` requests in flight."""
        if self._client is None:
            raise EngineError(f"the engine of {self.fingerprint} is closed")
        return _Stream(self._loop, self._client, self.config).results(iter(requests))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """An endpoint of this kind gives text."""
        raise EngineError("an OpenAI-compatible endpoint generates; it cannot score. Use engine=hf with a reward model")

    def close(self) -> None:
        """Give up what is in flight, close the connections, end the thread, and log what was spent."""
        if self._client is None:
            return
        client, self._client = self._client, None
        self._last_spend = spend = replace(client.spend)
        self._loop.close(client.close())
        log.info(
            "%s: %d requests in %d attempts, %d tokens in, %d out, cost %.4f",
            self.fingerprint, spend.requests, spend.attempts, spend.prompt_tokens, spend.completion_tokens, spend.cost,
        )  # fmt: skip


class _Stream:
    """One call of `generate`: from an iterator of requests to an iterator of results."""

    def __init__(self, loop: _Loop, client: Client, config: OpenAIConfig) -> None:
        self._loop, self._client, self._config = loop, client, config
        self._inbox: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: deque[Result] = deque()
        self._failed = 0  # in a row

    def results(self, source: Iterator[Request]) -> Iterator[Result]:
        waiting, exhausted = 0, False
        try:
            while True:
                while not exhausted and waiting < self._config.concurrency:
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                    else:
                        self._loop.call(self._start, request)
                        waiting += 1
                if not waiting:
                    break
                yield from self._sort(self._next())
                waiting -= 1
            yield from self._held
        finally:
            if waiting and self._loop.alive:
                self._loop.run(self._cancel())

    def _sort(self, result: Result | BaseException) -> Iterator[Result]:
        """What may be told now. While nothing was served a refusal is held: if all are refused, it is our doing."""
        if isinstance(result, BaseException):
            raise result
        if result.refused and not self._client.served:
            self._held.append(result)
            if len(self._held) > SPARED:
                yield from (replace(self._held.popleft(), refused=False) for _ in range(len(self._held)))
            return
        if result.error is None or result.refused:
            self._failed = 0
            yield from (self._held.popleft() for _ in range(len(self._held)))
        else:
            self._failed += 1
            if self._failed >= self._config.outage:
                raise EngineError(
                    f"the last {self._failed} requests failed and none was served: {result.error}. Nothing is lost: "
                    f"run the same command again when it is up. {self._config.url_env} has its address"
                )
        yield result

    def _next(self) -> Result | BaseException:
        while True:
            try:
                return self._inbox.get(timeout=1.0)  # in pieces, so that Ctrl-C is heard everywhere
            except queue.Empty:
                if not self._loop.alive:
                    raise EngineError("the engine was closed while requests were in flight") from None

    def _start(self, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, request: Request) -> None:
        try:
            self._inbox.put(await self._client.ask(request))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._inbox.put(error)

    async def _cancel(self) -> None:
        await _cancel_all(self._tasks)


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sq-openai", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def call(self, function: Any, *args: Any) -> None:
        """Call `function` there, and do not wait."""
        if self._loop.is_closed():
            raise EngineError("the engine was closed while requests were in flight")
        self._loop.call_soon_threadsafe(function, *args)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel all that runs there, run `last`, and end the thread."""

        async def end() -> None:
            await _cancel_all(asyncio.all_tasks() - {asyncio.current_task()})
            await last
            await asyncio.sleep(0)  # transports close in the next turn of the loop

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()


async def _cancel_all(tasks: Iterable[Any]) -> None:
    cancelled = [task for task in tasks if task.cancel()]
    if cancelled:
        await asyncio.wait(cancelled, timeout=PATIENCE)


def _address(config: OpenAIConfig) -> tuple[str, str | None]:
    """Address and key from the environment, checked."""
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
    url = (given or PUBLIC).rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise EngineError(f"{config.url_env}={redact(url)!r} is no address like http://localhost:8000/v1")
    return url, key
