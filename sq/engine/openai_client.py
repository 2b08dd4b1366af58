"""One request to an OpenAI-compatible endpoint: what is sent, what its answers mean, what is tried again.

Told apart: what is wrong with the request (most of 4xx: an error, not tried again), what passes (408, 409, 425, 429,
5xx, a cut connection, a timeout, an answer that cannot be read: tried again) and what no request can pass (a wrong
key, an unknown model, no money left: the run stops, and nothing is rejected).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp

from sq.core.errors import EngineError
from sq.core.secrets import redact
from sq.engine.base import Completion, Request, Result
from sq.engine.limits import RateLimiter, delay

if TYPE_CHECKING:
    from sq.engine.openai import OpenAIConfig

AGAIN = {408, 409, 425, 429}
CHARACTERS_PER_TOKEN = 3
"""For the tokens of a text before it is sent; a little low, so that a limit is rather kept than met."""


@dataclass(slots=True)
class Spend:
    """What was asked of an endpoint so far; `cost` in the currency of the prices given."""

    requests: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Refused(Exception):
    """The endpoint will not serve this request."""


class Passing(Exception):
    """It did not work this time; `wait` is what the server asks to wait."""

    def __init__(self, reason: str, wait: str | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Client:
    """Asks one endpoint. Lives in one event loop."""

    def __init__(self, config: OpenAIConfig, url: str, key: str | None, model: str) -> None:
        self.config, self.url, self.model = config, url, model
        self.spend = Spend()
        self.reached = self.served = False
        self._requests, self._tokens = RateLimiter(config.requests_per_minute), RateLimiter(config.tokens_per_minute)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=config.timeout),
            connector=aiohttp.TCPConnector(limit=config.concurrency),
            trust_env=True,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def ask(self, request: Request) -> Result:
        """Everything that `request` asks for. Endpoints that give fewer choices than asked are asked for the rest."""
        self.spend.requests += 1
        got: list[Completion] = []
        prompt_tokens = 0
        try:
            if request.sampling.n < 1:
                raise Refused(f"n={request.sampling.n} must be at least 1")
            while len(got) < request.sampling.n:
                missing = replace(request.sampling, n=request.sampling.n - len(got))
                seed = request.seed + len(got)
                completions, used = await self._try(replace(request, sampling=missing, seed=seed))
                got += completions[: missing.n]
                prompt_tokens = prompt_tokens or used
        except Refused as error:
            return Result(key=request.key, error=str(error), refused=True)
        except Passing as error:
            problem = f"no answer after {self.config.attempts} attempts; the last: {error}"
            return Result(key=request.key, error=problem)
        return Result(key=request.key, completions=tuple(got), prompt_tokens=prompt_tokens)

    async def _try(self, request: Request) -> tuple[list[Completion], int]:
        """One choice at least, with as many attempts as the config allows."""
        path, body = payload(request, self.config, self.model)
        reserved = expected_tokens(request)
        attempt = 0
        while True:
            attempt += 1
            await self._tokens.turn(reserved)
            await self._requests.turn()
            self.spend.attempts += 1
            try:
                status, text, headers = await self._post(path, body)
                answer = self._read(status, text, headers)
                completions, prompt_tokens, total = parse(answer, request)
                self.served = True
                self._count(prompt_tokens, total - prompt_tokens)
                self._tokens.correct(total - reserved)
                return completions, prompt_tokens
            except Passing as error:
                if attempt == self.config.attempts:
                    raise
                limits = {"first": self.config.backoff, "longest": self.config.backoff_max}
                await asyncio.sleep(delay(attempt, asked=error.wait, **limits))

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of an answer."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                f"{self.url}{path}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                self.reached = True
                return answer.status, await answer.read(), answer.headers
        except TimeoutError:
            raise Passing(f"no answer within engine.timeout={self.config.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:  # `from None`: such an error may carry the request's headers
            raise Passing(self._clean(f"{type(error).__name__}: {error}")) from None

    def _read(self, status: int, text: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """The answer's JSON, or what its status means."""
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        said = self._clean(message(answer, text))
        if status in (401, 402, 404) or (status == 403 and not self.served):
            self._stop(status, said)
        if status == 429 and isinstance(answer, dict) and "insufficient_quota" in json.dumps(answer):
            self._stop(402, said)
        if status in AGAIN or status >= 500:
            raise Passing(f"HTTP {status}: {said}", headers.get("Retry-After"))
        if status != 200:
            raise Refused(f"HTTP {status}: {said}")
        if not isinstance(answer, dict):
            raise Passing(f"an answer that is no JSON object: {said}")
        if answer.get("error"):
            raise Passing(f"an error in place of an answer: {said}")
        return answer

    def _stop(self, status: int, said: str) -> NoReturn:
        fixes = {
            401: f"the key is missing or wrong: set {self.config.key_env}",
            402: "there is no money or quota left: top up",
            403: f"the key in {self.config.key_env} may not use model {self.model!r}: change the key or engine.served",
            404: f"there is no model {self.model!r}, or the address is wrong (it ends in /v1 as a rule): "
            f"set engine.served or {self.config.url_env}",
        }
        raise EngineError(
            f"{self._clean(self.url)} answers HTTP {status}: {said}. {fixes[status]}, and run the same command again"
        ) from None

    def _clean(self, text: str) -> str:
        return redact(text)

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        spend, config = self.spend, self.config
        spend.prompt_tokens += prompt_tokens
        spend.completion_tokens += completion_tokens
        spend.cost += (prompt_tokens * config.price_in + completion_tokens * config.price_out) / 1e6


def payload(request: Request, config: OpenAIConfig, model: str) -> tuple[str, bytes]:
    """Path and body of a request: token ids go to completions, messages to chat completions.

    Raises:
        Refused: for a request that cannot be sent.
    """
    sampling = request.sampling
    if not request.prompt_ids and not request.messages:
        raise Refused("the request has neither prompt ids nor messages")
    body: dict[str, Any] = {
        "model": model,
        "n": sampling.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed,
    }
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
    body |= config.extra
    for name in config.omit:
        body.pop(name, None)
    try:
        return path, json.dumps(body, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise Refused(f"the request cannot be written as JSON: {error}") from None


def parse(answer: Mapping[str, Any], request: Request) -> tuple[list[Completion], int, int]:
    """Completions, prompt tokens and all tokens of an answer.

    Raises:
        Passing: for an answer without choices, or of another form.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Passing("an answer without choices")
    usage = answer.get("usage") or {}
    try:
        prompt_tokens, completed = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
        ordered = sorted(choices, key=lambda choice: choice.get("index") or 0)
        shares = [completed // len(ordered) + (i < completed % len(ordered)) for i in range(len(ordered))]
        completions = [_completion(choice, share) for choice, share in zip(ordered, shares, strict=True)]
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise Passing(f"an answer of unknown form ({type(error).__name__}: {error})") from None
    return completions, prompt_tokens, prompt_tokens + completed


def _completion(choice: Mapping[str, Any], share: int) -> Completion:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    ids = tuple(int(i) for i in choice.get("token_ids") or ())
    reason = choice.get("finish_reason")
    return Completion(
        text=str(text or ""),
        finish_reason=reason if reason in ("stop", "length") else "error",
        token_ids=ids,
        tokens=len(ids) or share,
    )


def expected_tokens(request: Request) -> float:
    """What a request may use at most, which is how endpoints count it against a limit when it comes in."""
    if request.prompt_ids is not None:
        prompt = len(request.prompt_ids)
    else:
        prompt = sum(len(m.get("content", "")) for m in request.messages or ()) // CHARACTERS_PER_TOKEN
    return prompt + request.sampling.n * request.sampling.max_tokens


def message(answer: Any, text: bytes) -> str:
    """What an endpoint says is wrong, in one line: all of it, but for a page of HTML."""
    said: Any = answer
    for name in ("error", "message"):
        if isinstance(said, Mapping) and name in said:
            said = said[name]
    line = said if isinstance(said, str) else text.decode("utf-8", "replace")
    return " ".join(line.split())[:2000] or "(nothing)"
