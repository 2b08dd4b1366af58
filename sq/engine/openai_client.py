"""One request to an OpenAI-compatible endpoint, by the `openai` SDK: what is sent, what answers mean, what is retried.

Three kinds: what is wrong with the request (most of 4xx: refused), what passes (408, 409, 425, 429, 5xx, a cut
connection, a timeout, an answer that cannot be read: tried again) and what no request can pass (a wrong key, an unknown
model, no money left, an endpoint that is gone: the run stops). The SDK's own retries are off: they are counted here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import openai

from sq.core.errors import EngineError
from sq.core.secrets import redact
from sq.engine.base import Completion, Request, Result
from sq.engine.limits import RateLimiter, delay

if TYPE_CHECKING:
    from sq.engine.openai import OpenAIConfig

log = logging.getLogger(__name__)
AGAIN = {408, 409, 425, 429}
CHARACTERS_PER_TOKEN = 3
"""For the tokens of a text before it is sent; a little low, so that a limit is rather kept than met."""
CONNECT = 10.0
"""Seconds for a connection, at most. With TLS it takes two such spans, and always less than `engine.timeout`, so that
what ends by that had been reached."""
GONE = 45.0
"""Seconds in which nothing can be reached that stop the run."""


@dataclass(slots=True)
class Spend:
    """What was asked of an endpoint so far; `cost` in the currency of the prices given."""

    requests: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class RefusedError(Exception):
    """The endpoint will not serve this request."""


class AttemptError(Exception):
    """It did not work this time; `wait` is what the server asks to wait."""

    def __init__(self, reason: str, *, wait: str | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait, self.reached = wait, reached


class Client:
    """Asks one endpoint. Lives in one event loop."""

    def __init__(self, config: OpenAIConfig, url: str, key: str | None, model: str) -> None:
        self.config, self.url, self.model = config, url, model
        self.spend = Spend()
        self.served = False
        self._gone_since: float | None = None
        self._requests, self._tokens = RateLimiter(config.requests_per_minute), RateLimiter(config.tokens_per_minute)
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)
        self._options: Any = {"headers": {"Authorization": f"Bearer {key}" if key else openai.omit}}
        self._sdk = openai.AsyncOpenAI(
            base_url=url,
            api_key=key or "none",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=openai.Timeout(None, connect=min(CONNECT, config.timeout / 3)),
                limits=limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
                follow_redirects=False,
            ),
        )
        # The SDK takes these from OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, whatever the endpoint.
        self._sdk.organization = self._sdk.project = None
        self._sdk._custom_headers = {}

    async def close(self) -> None:
        """Close every connection."""
        await self._sdk.close()

    async def ask(self, request: Request) -> Result:
        """Everything that `request` asks for. Endpoints that give fewer choices than asked are asked for the rest."""
        self.spend.requests += 1
        got: list[Completion] = []
        prompt_tokens = 0
        try:
            if request.sampling.n < 1:
                raise RefusedError(f"n={request.sampling.n} must be at least 1")
            while len(got) < request.sampling.n:
                missing = replace(request.sampling, n=request.sampling.n - len(got))
                completions, used = await self._ask(replace(request, sampling=missing, seed=request.seed + len(got)))
                got += completions[: missing.n]
                prompt_tokens = prompt_tokens or used
        except RefusedError as error:
            return Result(key=request.key, error=storable(str(error)), refused=True)
        except AttemptError as error:
            problem = f"no answer after {self.config.attempts} attempts; the last: {error}"
            return Result(key=request.key, error=storable(problem))
        return Result(key=request.key, completions=tuple(got), prompt_tokens=prompt_tokens)

    async def _ask(self, request: Request) -> tuple[list[Completion], int]:
        """One choice at least, and the tokens of the prompt, with as many attempts as the config allows."""
        path, body = payload(request, self.config, self.model)
        reserved = expected_tokens(request)
        for attempt in range(1, self.config.attempts + 1):
            await self._tokens.turn(reserved)
            await self._requests.turn()
            self.spend.attempts += 1
            try:
                completions, prompt_tokens, completion_tokens = parse(await self._post(path, body))
            except AttemptError as error:
                wait = delay(attempt, asked=error.wait, first=self.config.backoff, longest=self.config.backoff_max)
                if error.reached:
                    self._gone_since = None
                else:
                    wait = self._gone(str(error), wait)
                if attempt == self.config.attempts:
                    raise
                await asyncio.sleep(wait)
            else:
                self.served = True
                self._tokens.correct(prompt_tokens + completion_tokens - reserved)
                self._count(prompt_tokens, completion_tokens)
                return completions, prompt_tokens
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON. Errors are raised `from None`: the SDK's carry the request with its headers."""
        try:
            async with asyncio.timeout(self.config.timeout):
                answer = await self._sdk.post(path, cast_to=object, body=body, options=self._options)
        except TimeoutError:
            raise AttemptError(f"no answer within engine.timeout={self.config.timeout:g} s") from None
        except openai.APIStatusError as error:
            self._gone_since = None
            raise self._error(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            kind = type(cause).__name__
            raise AttemptError(redact(f"{kind}: {cause}"), reached=not kind.startswith("Connect")) from None
        except (ValueError, RecursionError) as error:
            raise AttemptError(f"no JSON: {error}") from None
        self._gone_since = None
        return answer

    def _error(self, error: openai.APIStatusError) -> Exception:
        """What a status means."""
        status, text = error.status_code, redact(message(error))
        if status == 429 and error.code == "insufficient_quota":
            status = 402
        fixes = {
            401: f"the key is missing or wrong: set {self.config.key_env}",
            402: "there is no money or quota left: top up",
            403: f"the key in {self.config.key_env} may not use model {self.model!r}: change the key or engine.served",
            404: f"there is no model {self.model!r}, or the address is wrong (it ends in /v1 as a rule): "
            f"set engine.served or {self.config.url_env}",
        }
        if status in fixes and not (status == 403 and self.served):
            where = f"{redact(self.url)} answers HTTP {status}: {text}"
            return EngineError(f"{where}. {fixes[status]}, and run the same command again")
        if status in AGAIN or status >= 500:
            return AttemptError(f"HTTP {status}: {text}", wait=error.response.headers.get("Retry-After"))
        return RefusedError(f"HTTP {status}: {text}")

    def _gone(self, reason: str, wait: float) -> float:
        """Nothing answers there: seconds to the next try. Said at once, and the run stops when it lasts.

        Raises:
            EngineError: after so long.
        """
        now = asyncio.get_running_loop().time()
        since = self._gone_since
        if since is None:
            since = self._gone_since = now
            log.warning("%s cannot be reached (%s). The next try is in %.1f s; after %.0f s without an answer the run "
                        "stops", redact(self.url), reason, min(wait, GONE), GONE)  # fmt: skip
        if now - since >= GONE:
            raise EngineError(
                f"{redact(self.url)} could not be reached for {now - since:.0f} s: {reason}. Start it again, or set "
                f"{self.config.url_env} to its address, and run the same command again: nothing is lost"
            )
        return min(wait, since + GONE - now)

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        spend, config = self.spend, self.config
        spend.prompt_tokens += prompt_tokens
        spend.completion_tokens += completion_tokens
        spend.cost += (prompt_tokens * config.price_in + completion_tokens * config.price_out) / 1e6


def payload(request: Request, config: OpenAIConfig, model: str) -> tuple[str, dict[str, Any]]:
    """Path and body of a request: token ids go to completions, messages to chat completions.

    Raises:
        RefusedError: for a request that cannot be sent.
    """
    sampling = request.sampling
    if not request.prompt_ids and not request.messages:
        raise RefusedError("the request has neither prompt ids nor messages")
    body: dict[str, Any] = {"model": model, "n": sampling.n, "seed": request.seed % 2**config.seed_bits}
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
    reason = choice.get("finish_reason")
    return Completion(
        text=storable(str(text or "")),
        finish_reason=reason if reason in ("stop", "length") else "error",
        token_ids=ids,
        tokens=len(ids) or share,
    )


def storable(text: str) -> str:
    """`text` as UTF-8 can hold it: JSON can escape half of a character, which comes out as a question mark."""
    return text.encode("utf-8", "replace").decode()


def expected_tokens(request: Request) -> float:
    """What a request may use at most, which is how endpoints count it against a limit when it comes in."""
    if request.prompt_ids is not None:
        prompt = len(request.prompt_ids)
    else:
        prompt = sum(len(m.get("content", "")) for m in request.messages or ()) // CHARACTERS_PER_TOKEN
    return prompt + request.sampling.n * request.sampling.max_tokens


def message(error: openai.APIStatusError) -> str:
    """What an endpoint says is wrong, in one line: all of it, but for a page of HTML."""
    text = error.body.get("message") if isinstance(error.body, Mapping) else None
    return " ".join((text if isinstance(text, str) else error.response.text).split())[:2000] or "(nothing)"
