"""The oracle as an engine: it stands where GPT-4o-mini, the judge, the solver or the reward model would stand.

It makes the whole pipeline runnable, and every stage measurable, with no model and no paid API; `error_rate` makes it
as fallible as they are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.domains.arithmetic import answers
from sq.domains.arithmetic.oracle import SKELETONS, judge
from sq.domains.arithmetic.replies import ROLES, find_question, role_of
from sq.engine.base import Completion, Message, Request, Result, Sampling, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class OracleConfig(EngineConfig):
    """The exact oracle of the arithmetic domain in a language model's place."""

    reads_ids: ClassVar[bool] = False

    role: str = setting(AUTO, choices=(AUTO, *ROLES), help="what it is asked to do; auto: seen from each prompt")
    error_rate: float = setting(0.0, ge=0, le=1, help="share of replies and scores that are wrong or unreadable")

    def identity(self, model: ModelConfig | None = None) -> str:
        return OracleEngine(self).fingerprint

    def create(self, model: ModelConfig | None = None) -> OracleEngine:
        """Start it; it needs no model."""
        return OracleEngine(self)


class OracleEngine:
    """Implements `sq.engine.base.Engine`. Equal requests (key, seed, messages) get equal replies."""

    def __init__(self, config: OracleConfig | None = None) -> None:
        self.config = config or OracleConfig()
        digest = hashlib.blake2b("\n".join(sorted(SKELETONS)).encode(), digest_size=4).hexdigest()
        self.fingerprint = f"arithmetic-oracle-{digest}-{self.config.role}-{self.config.error_rate:g}"

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Answer each request as it comes."""
        for request in requests:
            yield self._answer(request)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """1.0 for a right boxed answer to a solvable question, less than 0.7 for anything else."""
        for request in requests:
            prompt = _last(request.messages, "user")
            reply = _last(request.messages, "assistant")
            if prompt is None or reply is None:
                yield ScoreResult(key=request.key, error="a score needs a user's and an assistant's message")
            else:
                yield ScoreResult(key=request.key, score=self._score(request.key, prompt, reply))

    def close(self) -> None:
        """Nothing to free."""

    def _answer(self, request: Request) -> Result:
        prompt = _last(request.messages or (), "user")
        if prompt is None:
            return Result(key=request.key, error="the arithmetic oracle reads chat messages, and there is no user's")
        role = role_of(prompt) if self.config.role == AUTO else self.config.role
        question = find_question(prompt)
        completions = []
        for i in range(request.sampling.n):
            rng = random.Random(f"{request.seed}:{request.key}:{role}:{i}")
            err = rng.random() < self.config.error_rate
            completions.append(_cut(ROLES[role](question, rng, err), request.sampling))
        return Result(key=request.key, completions=tuple(completions), prompt_tokens=len(prompt.split()))

    def _score(self, key: str, prompt: str, reply: str) -> float:
        rng = random.Random(f"{key}:{prompt}:{reply}")
        err = rng.random() < self.config.error_rate
        found, said = judge(find_question(prompt)), answers.final_answer(reply)
        right = found.answer is not None and said is not None and answers.check(said, str(found.answer))
        low = 0.2 + 0.5 * rng.random() if said is not None else 0.2 * rng.random()
        return 1.0 if right is not err else low


def _last(messages: Iterable[Message], role: str) -> str | None:
    contents = [m.get("content", "") for m in messages if m.get("role") == role]
    return contents[-1] if contents else None


def _cut(text: str, sampling: Sampling) -> Completion:
    """A word is a token here; a reply longer than allowed is cut, and says so."""
    words = text.split(" ")
    if len(words) > sampling.max_tokens:
        return Completion(
            text=" ".join(words[: sampling.max_tokens]), finish_reason="length", tokens=sampling.max_tokens
        )
    return Completion(text=text, finish_reason="stop", tokens=len(words))
