"""The engine contract: a stream of requests in, a stream of results out, matched by key, in any order.

Every engine (vLLM, Hugging Face, an OpenAI-compatible endpoint, a domain's oracle) speaks it, so a stage
never knows which one it has. What is wrong with one request is the `error` of its result. `refused` says that the
request itself is at fault (a prompt longer than the context); else it has failed, and may succeed at another time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

Message = Mapping[str, str]  # {"role": "user", "content": "..."}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How to sample. `temperature=0` is greedy. Stops are token ids: special-token *strings* never match."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt: token ids (`prompt_ids`) or chat `messages`, exactly one of the two.

    `stop`: texts that end the answer too, and are no part of it, for models that know no token to end it with.
    """

    key: str
    sampling: Sampling
    seed: int
    prompt_ids: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled text. `finish_reason` is "stop" or "length" (cut off); the stop token is not in `text`."""

    text: str
    finish_reason: str
    token_ids: tuple[int, ...] = ()
    tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of a request: `sampling.n` completions, or an `error` and none."""

    key: str
    completions: tuple[Completion, ...] = ()
    prompt_tokens: int = 0
    error: str | None = None
    refused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """One conversation to be scored by a reward model or regressor."""

    key: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreResult:
    """The score of one conversation, or an `error`."""

    key: str
    score: float | None = None
    tokens: int = 0
    error: str | None = None
    refused: bool = False


class Engine(Protocol):
    """What a stage needs of an engine."""

    @property
    def fingerprint(self) -> str:
        """Names the weights and everything else that decides the output, short enough for a column."""
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, in any order, reading requests only as fast as they are served."""
        ...

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield one score per request, in any order; engines that cannot score raise `EngineError`."""
        ...

    def close(self) -> None:
        """Free everything; no process stays behind. Safe to call twice."""
        ...
