"""Requests to OpenAI-compatible endpoints by the `openai` SDK: what is sent, what answers mean, what is tried again.

Three kinds: what is wrong with the request (most of 4xx: refused), what passes (408, 409, 425, 429, 5xx, a cut
connection, a timeout, an answer that cannot be read: tried again) and what no request can pass (a wrong key, an unknown
model, no money left, no endpoint that can be reached: the run stops). The SDK's own retries are off: ours are counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import openai

from sq.core.errors import EndpointError
from sq.core.secrets import redact
from sq.engine.base import Completion, Request, Result

if TYPE_CHECKING:
    from sq.engine.openai import OpenAIConfig

log = logging.getLogger(__name__)
AGAIN = {408, 409, 425, 429}
FINISHED = {"stop": "stop", "eos": "stop", "length": "length", "content_filter": "length"}
"""What ended a text, by the endpoint's word; a filter cuts it off like a limit does. By any other it is not whole."""
CHARACTERS_PER_TOKEN = 3
"""For the tokens of a text before it is sent; a little low, so that a limit is rather kept than met."""
CONNECT = 10.0
"""Seconds for a connection, at most. With TLS it takes two such spans, and always less than `engine.timeout`, so that
what ends by that had been reached."""
PROBE = 5.0
"""The longest wait between two tries of an endpoint that cannot be reached."""


class RefusedError(Exception):
    """The endpoint will not serve this request."""


class AttemptError(Exception):
    """It did not work this time; `wait` is how many seconds the server asks to wait."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(eq=False)
class Endpoint:
    """One address: requests in flight, since when it is away or answers nothing, and from when it is tried."""

    url: str
    in_flight: int = 0
    away_since: float | None = None
    last_answer: float = 0.0
    """When anything below HTTP 500 last came from it, or nothing was asked."""
    silent_since: float | None = None
    problem: str | None = None  # of its last answer
    next_try: float = 0.0


class Client:
    """Asks a model's endpoints, for each request the one with the fewest in flight. Lives in one event loop."""

    def __init__(self, config: OpenAIConfig, urls: list[str], key: str | None) -> None:
        self.config, self.endpoints = config, [Endpoint(url) for url in urls]
        self.requests = self.attempts = self.prompt_tokens = self.completion_tokens = 0
        self.served, self.asking = False, 0
        self.warned_of: set[str] = set()
        self._pause = min(PROBE, config.backoff_max)
        self._request_rate = RateLimiter(config.requests_per_minute)
        self._token_rate = RateLimiter(config.tokens_per_minute)
        authorization = f"Bearer {key}" if key else openai.omit
        self._options: Any = {"headers": {"Authorization": authorization}, "follow_redirects": False}
        timeout = openai.Timeout(None, connect=min(CONNECT, config.timeout / 3))
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)()  # none: `engine.concurrency` bounds them
        http = openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout)
        self._sdk = openai.AsyncOpenAI(
            base_url=urls[0], api_key=key or "none", max_retries=0, timeout=timeout, http_client=http
        )
        # The SDK takes these from OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, whatever the endpoint.
        self._sdk.organization = self._sdk.project = None
        self._sdk._custom_headers = {}

    async def close(self) -> None:
        """Close every connection."""
        await self._sdk.close()

    async def ask(self, request: Request) -> Result:
        """Everything that `request` asks for. Endpoints that give fewer choices than asked are asked for the rest."""
        self.requests += 1
        self.asking += 1
        got: list[Completion] = []
        prompt_tokens = 0
        try:
            while not got or len(got) < request.sampling.n:
                missing = replace(request.sampling, n=request.sampling.n - len(got))
                completions, used = await self._ask(replace(request, sampling=missing, seed=request.seed + len(got)))
                got += completions[: missing.n]
                prompt_tokens = prompt_tokens or used
        except RefusedError as error:
            return Result(key=request.key, error=storable(str(error)), refused=True)
        except AttemptError as error:
            problem = f"no answer after {self.config.attempts} attempts; the last: {error}"
            return Result(key=request.key, error=storable(problem))
        finally:
            self.asking -= 1
        return Result(key=request.key, completions=tuple(got), prompt_tokens=prompt_tokens)

    async def _ask(self, request: Request) -> tuple[list[Completion], int]:
        """One choice at least, and the tokens of the prompt, with as many attempts as the config allows."""
        path, body = payload(request, self.config)
        reserved = expected_tokens(request)
        endpoint: Endpoint | None = None
        for attempt in range(1, self.config.attempts + 1):
            await self._token_rate.turn(reserved)
            await self._request_rate.turn()
            self.attempts += 1
            try:
                endpoint = await self._choose(endpoint)
                while (answer := await self._post(endpoint, path, body)) is None:
                    endpoint = await self._choose(endpoint)
                completions, prompt_tokens, completion_tokens = parse(answer)
            except AttemptError as error:
                if endpoint is not None:
                    endpoint.problem = str(error)
                if attempt == self.config.attempts:
                    raise
                pause = delay(attempt, error.wait, self.config.backoff, self.config.backoff_max)
                self._warn_first(endpoint, str(error), pause)
                await asyncio.sleep(pause)
            else:
                self.served, endpoint.problem = True, None
                self._token_rate.correct(prompt_tokens + completion_tokens - reserved)
                self.prompt_tokens += prompt_tokens
                self.completion_tokens += completion_tokens
                return completions, prompt_tokens
        raise AssertionError("the last attempt returns or raises")

    async def _choose(self, last: Endpoint | None) -> Endpoint:
        """After a failure another one where there is; one that is gone gets a single request when its try is due."""
        while True:
            now = asyncio.get_running_loop().time()
            if due := [one for one in self.endpoints if one.next_try <= now]:
                endpoint = min(due, key=lambda one: (one is last, one.in_flight))
                endpoint.next_try = 0.0 if endpoint.away_since is None else now + self._pause
                self.endpoints.append(self.endpoints.pop(self.endpoints.index(endpoint)))  # of equals take turns
                return endpoint
            await asyncio.sleep(min(one.next_try for one in self.endpoints) - now)

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON; None where no connection was made. The SDK's errors carry the key: `from None`."""
        begun = asyncio.get_running_loop().time()
        endpoint.in_flight += 1
        reached = True
        try:
            async with asyncio.timeout(self.config.timeout):
                answer = await self._sdk.post(endpoint.url + path, cast_to=object, body=body, options=self._options)
            endpoint.last_answer = asyncio.get_running_loop().time()
            return answer
        except TimeoutError:
            raise AttemptError(f"no answer within engine.timeout={self.config.timeout:g} s") from None
        except openai.APIStatusError as error:
            if error.status_code < 500:
                endpoint.last_answer = asyncio.get_running_loop().time()
            raise self._error(endpoint, error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            reason, reached = redact(f"{type(cause).__name__}: {cause}"), not type(cause).__name__.startswith("Connect")
            if reached:
                raise AttemptError(reason) from None
            self._note_away(endpoint, reason, begun)
        except (ValueError, RecursionError) as error:
            raise AttemptError(f"no JSON: {error}") from None
        finally:
            endpoint.in_flight -= 1
            if reached and endpoint.away_since is not None:
                log.warning("%s can be reached again", redact(endpoint.url))
                endpoint.away_since, endpoint.next_try = None, 0.0

    async def ask_models(self, endpoint: Endpoint) -> None:
        """The least request there is; it raises what the SDK does."""
        await self._sdk.get(endpoint.url + "/models", cast_to=object, options=self._options)

    def _warn_first(self, endpoint: Endpoint | None, reason: str, pause: float) -> None:
        """Warn of the first failure of each kind when it happens."""
        kind = reason.partition(":")[0]
        if endpoint is not None and kind not in self.warned_of:
            self.warned_of.add(kind)
            log.warning("%s: %s. The request is sent again in %.1f s", redact(endpoint.url), reason[:300], pause)

    def _note_away(self, endpoint: Endpoint, reason: str, begun: float) -> None:
        """No connection could be made: warn at once, and say when the next try is.

        Raises:
            EndpointError: where no endpoint could be reached for too long.
        """
        now, wait, where = asyncio.get_running_loop().time(), self._pause, redact(endpoint.url)
        is_new = endpoint.away_since is None
        endpoint.away_since = since = begun if endpoint.away_since is None else endpoint.away_since
        end = "the others are asked meanwhile"
        times = [one.away_since for one in self.endpoints if one.away_since is not None]
        if len(times) == len(self.endpoints):
            silence = self.config.silence
            left, end = (
                max(times) + silence - now,
                f"after engine.silence={silence:g} s without a connection the run stops",
            )
            if left <= 0 and not is_new:
                raise EndpointError(
                    f"{where} could not be reached for {now - since:.0f} s: {reason}. Start it again, or set "
                    f"{self.config.url_env} to its address, and run the same command again: nothing is lost"
                )
            wait = max(0.0, min(wait, left))
        endpoint.next_try = now + wait
        if is_new:
            log.warning("%s cannot be reached (%s). The next try is in %.1f s; %s", where, reason, wait, end)

    def _error(self, endpoint: Endpoint, error: openai.APIStatusError) -> Exception:
        """What a status means."""
        status, text, served = error.status_code, redact(message(error)), self.config.served
        if status == 429 and error.code == "insufficient_quota":
            status = 402
        fixes = {
            401: f"the key is missing or wrong: set {self.config.key_env}",
            402: "there is no money or quota left: top up",
            403: f"the key in {self.config.key_env} may not use model {served!r}: change the key or engine.served",
            404: f"there is no model {served!r}, or the address is wrong (it ends in /v1 as a rule): "
            f"set engine.served or {self.config.url_env}",
        }
        if status in fixes and not (status == 403 and self.served):
            where = f"{redact(endpoint.url)} answers HTTP {status}: {text}"
            return EndpointError(f"{where}. {fixes[status]}, and run the same command again")
        if status in AGAIN or status >= 500:
            return AttemptError(f"HTTP {status}: {text}", wait=retry_after(self._sdk, error))
        return RefusedError(f"HTTP {status}: {text}")


class RateLimiter:
    """So much a minute, evenly: each caller waits for its turn. None: no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 60.0 / per_minute if per_minute else 0.0
        self._free = 0.0

    async def turn(self, cost: float = 1.0) -> None:
        """Wait until `cost` may be spent."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._free)
        self._free = start + cost * self._seconds
        if start > now and self._seconds:
            await asyncio.sleep(start - now)

    def correct(self, cost: float) -> None:
        """Account for `cost` more than was waited for; less, where it is negative."""
        self._free += cost * self._seconds


def delay(attempt: int, asked: float | None, first: float, longest: float) -> float:
    """Seconds to wait after failed attempt number `attempt`: doubled each time, with jitter, and no less than asked."""
    own = min(longest, first * 2.0 ** min(attempt - 1, 30))
    return own * random.uniform(0.5, 1.0) if asked is None else asked + random.uniform(0.0, min(first, own))


def retry_after(sdk: openai.AsyncOpenAI, error: openai.APIStatusError) -> float | None:
    """Seconds that a Retry-After header asks for; None without one that can be read."""
    seconds = sdk._parse_retry_after_header(error.response.headers)
    return max(0.0, seconds) if seconds is not None and seconds < float("inf") else None  # NaN compares false too


def payload(request: Request, config: OpenAIConfig) -> tuple[str, dict[str, Any]]:
    """Path and body of a request: token ids go to completions, messages to chat completions.

    Raises:
        RefusedError: for a request that cannot be sent.
    """
    sampling = request.sampling
    if sampling.n < 1:
        raise RefusedError(f"n={sampling.n} must be at least 1")
    if not request.prompt_ids and not request.messages:
        raise RefusedError("the request has neither prompt ids nor messages")
    body: dict[str, Any] = {"model": config.served, "n": sampling.n, "seed": request.seed % 2**config.seed_bits}
    body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if request.prompt_ids is not None:
        path = "/completions"
        body |= {"prompt": list(request.prompt_ids), "max_tokens": sampling.max_tokens}
    else:
        path = "/chat/completions"
        body |= {"messages": [dict(m) for m in request.messages or ()], config.max_tokens_name: sampling.max_tokens}
    if sampling.top_k > 0:
        body["top_k"] = sampling.top_k
    if sampling.stop_token_ids:
        body["stop_token_ids"] = list(sampling.stop_token_ids)
    if request.stop:
        body["stop"] = list(request.stop)
    if config.ids:
        body["return_token_ids"] = True
    return path, {name: value for name, value in {**body, **config.extra}.items() if name not in config.omit}


def parse(answer: Any) -> tuple[list[Completion], int, int]:
    """Completions, tokens of the prompt and tokens of all completions.

    Raises:
        AttemptError: for an answer without choices, or of another form.
    """
    try:
        if answer.get("error"):
            raise AttemptError(redact(f"an error in place of an answer: {answer['error']}"))
        usage = answer.get("usage") or {}
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index") or 0)
        if not choices:
            raise AttemptError("an answer without choices")
        prompt_tokens, completed = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
        if max(prompt_tokens, completed) >= 2**63:
            raise ValueError("a number of tokens of more than 63 bits")
        shares = [completed // len(choices) + (i < completed % len(choices)) for i in range(len(choices))]
        return [_completion(*one) for one in zip(choices, shares, strict=True)], prompt_tokens, completed
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise AttemptError(f"an answer of unknown form ({type(error).__name__}: {error})") from None


def _completion(choice: Mapping[str, Any], share: int) -> Completion:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    ids = tuple(int(i) for i in choice.get("token_ids") or ())
    given = str(choice.get("finish_reason"))
    if (reason := FINISHED.get(given)) is None:
        raise AttemptError(f"a text that broke off: finish_reason={given!r}")
    return Completion(text=storable(str(text or "")), finish_reason=reason, token_ids=ids, tokens=len(ids) or share)


def storable(text: str) -> str:
    """`text` as UTF-8 can hold it: JSON can escape half of a character, which comes out as a question mark."""
    return text.encode("utf-8", "replace").decode()


def expected_tokens(request: Request) -> float:
    """What a request may use at most, which is how endpoints count it against a limit when it comes in."""
    characters = sum(len(m.get("content", "")) for m in request.messages or ())
    prompt = characters // CHARACTERS_PER_TOKEN if request.prompt_ids is None else len(request.prompt_ids)
    return prompt + request.sampling.n * request.sampling.max_tokens


def message(error: openai.APIStatusError) -> str:
    """What an endpoint says is wrong, in one line: all of it, but for a page of HTML."""
    text = error.body.get("message") if isinstance(error.body, Mapping) else None
    return " ".join((text if isinstance(text, str) else error.response.text).split())[:2000] or "(nothing)"
