"""A domain's exact oracle as an engine: it stands where an optimiser, a judge, a solver or a reward model would stand.

It makes the whole pipeline runnable, and every stage measurable, with no model and no paid API; `error_rate` makes it
as fallible as they are.
"""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.domains.base import DEFAULT_DOMAIN
from sq.engine.base import Completion, Message, Request, Result, Sampling, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig

AUTO = "auto"
ORACLES = tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/oracle_responses.py")))
"""Domains that have one."""
WRITING_MARKS = {
    "another question:": "another", "harder question:": "harder", "easier question:": "easier",
    "rephrased question:": "rephrase", "statement:": "state", "suggestions:": "suggest", "edited question:": "edit",
    "composed question:": "compose", "augmented solution:": "augment", "translated question:": "translate",
    "concepts:": "concepts", "new question:": "from_concepts",
}  # fmt: skip
"""Headings that the prompts of question sources ask for, and the role that writes so."""
REVIEW = "review"
"""A judge's words on the question alone (prompt judge_bare), for a judge to learn from; not every domain has them."""
ROLES = (
    "improve_solvability", "raise_difficulty", "judge", "solve", "rate_difficulty", "classify_topic",
    *WRITING_MARKS.values(),
)  # fmt: skip
Reply = Callable[[str, random.Random, bool], str]
"""What is said to a question, by a role that writes to the whole prompt; the flag tells it to err."""
_MARKS = (
    ("finally rewritten problem", "raise_difficulty"),
    ("final question:", "improve_solvability"),
    ("<topic>", "classify_topic"),
    ('"difficulty"', "rate_difficulty"),
    ("answer: yes", "judge"),
    *WRITING_MARKS.items(),
)
_HEADING = re.compile(r"(?:question|problem|task)\**:\**\s*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class OracleResponder:
    """What a domain's oracle can say.

    Attributes:
        version: changes when its words change.
        replies: role -> what it says, in the form that the role's prompt asks for.
        right: whether a reply solves a question; None where it states no answer.
    """

    version: str
    replies: Mapping[str, Reply]
    is_right: Callable[[str, str], bool | None]


@dataclass(frozen=True, kw_only=True)
class OracleConfig(EngineConfig):
    """The exact oracle of a domain in a language model's place."""

    reads_ids: ClassVar[bool] = False

    domain: str = setting(DEFAULT_DOMAIN, help=f"whose oracle: the run's domain ({' and '.join(ORACLES)} have one)")
    role: str = setting(AUTO, choices=(AUTO, *ROLES, REVIEW), help="what it is to do; auto: seen from each prompt")
    error_rate: float = setting(0.0, ge=0, le=1, help="share of replies and scores that are wrong or unreadable")

    def __post_init__(self) -> None:
        if self.domain not in ORACLES:
            raise ValueError(
                f"domain={self.domain} has no oracle to stand in for a model ({' and '.join(ORACLES)} have one); give "
                f"a model and its engine, as model=NAME engine=vllm (or hf, openai), or domain={ORACLES[0]}"
            )

    def identity(self, model: ModelConfig | None = None) -> str:
        return OracleEngine(self).fingerprint

    def determinism(self, model: ModelConfig) -> dict[str, str]:
        """It computes nothing in batches."""
        return {"repeats": "always"}

    def can_score(self, model: ModelConfig | None = None) -> bool:
        """It scores with no model."""
        return True

    def create(self, model: ModelConfig | None = None) -> OracleEngine:
        """Start it; it needs no model."""
        return OracleEngine(self)


class OracleEngine:
    """Implements `sq.engine.base.Engine`. Equal requests (key, seed, messages) get equal replies."""

    def __init__(self, config: OracleConfig | None = None) -> None:
        self.config = config or OracleConfig()
        self._responder = _responder(self.config.domain)
        c = self.config
        if c.role not in (AUTO, *self._responder.replies):
            raise ConfigError(f"engine.role={c.role}: the oracle of domain {c.domain} has no such role")
        self.fingerprint = f"{c.domain}-oracle-{self._responder.version}-{c.role}-{c.error_rate:g}"

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Answer each request as it comes."""
        for request in requests:
            yield self._answer(request)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """1.0 for a right answer to a solvable question, less than 0.7 for anything else."""
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
            return Result(
                key=request.key, error=f"the {self.config.domain} oracle reads chat messages, and there is no user's"
            )
        role = role_of(prompt) if self.config.role == AUTO else self.config.role
        if role not in self._responder.replies:
            error = f"the {self.config.domain} oracle cannot stand in for a model that is asked to {role}"
            return Result(key=request.key, error=error, refused=True)
        asked = prompt if role in WRITING_MARKS.values() else question_in(prompt)
        completions = []
        for i in range(request.sampling.n):
            rng = random.Random(f"{request.seed}:{request.key}:{role}:{i}")
            err = rng.random() < self.config.error_rate
            completions.append(_cut(self._responder.replies[role](asked, rng, err), request.sampling))
        return Result(key=request.key, completions=tuple(completions), prompt_tokens=len(prompt.split()))

    def _score(self, key: str, prompt: str, reply: str) -> float:
        rng = random.Random(f"{key}:{prompt}:{reply}")
        err = rng.random() < self.config.error_rate
        is_right = self._responder.is_right(question_in(prompt), reply)
        low = 0.2 + 0.5 * rng.random() if is_right is not None else 0.2 * rng.random()
        return 1.0 if bool(is_right) is not err else low


def question_in(prompt: str) -> str:
    """The question inside a prompt: between the last <question> marks, else after a "question:" line, else all of it.

    A line that speaks of \\boxed or of a ```python block is the solver's prompt, not part of the question.
    """
    end = prompt.rfind("</question>")
    start = prompt.rfind("<question>", 0, end) if end >= 0 else -1
    if start >= 0:
        return prompt[start + len("<question>") : end].strip()
    lines = prompt.split("\n")
    for i in range(len(lines) - 1, -1, -1):
        if _HEADING.search(lines[i]) and i + 1 < len(lines):
            lines = lines[i + 1 :]
            break
    return "\n".join(line for line in lines if "\\boxed" not in line and "```" not in line).strip()


def role_of(prompt: str) -> str:
    """Which role a prompt asks for, by the reply format it demands."""
    text = prompt.lower()
    for mark, role in _MARKS:
        if mark in text:
            return role
    return "solve"


def _responder(domain: str) -> OracleResponder:
    """What the domain's oracle answers in each role."""
    responder: OracleResponder = importlib.import_module(f"sq.domains.{domain}.oracle_responses").RESPONDER
    return responder


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
