"""The arithmetic domain as the pipeline sees it: seeds by split, answers, checks, and text to pretrain on."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.domains.arithmetic import answers
from sq.domains.arithmetic.families import FAMILIES, MOST_STEPS, problem

SPLITS = {"train": range(0, 90), "validation": range(90, 95), "test": range(95, 100)}
"""A question belongs to a split by a hash of its text, so no test question can ever be among the seeds."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig:
    """Word problems of small numbers, with an exact oracle."""

    name: str = setting("arithmetic", help="name of the domain in rows and reports")
    min_steps: int = setting(1, ge=1, le=MOST_STEPS, help="fewest steps a question needs")
    max_steps: int = setting(MOST_STEPS, ge=1, le=MOST_STEPS, help="most steps a question needs")
    families: list[str] = setting([], choices=FAMILIES, help="only these problem families; all when empty")

    def __post_init__(self) -> None:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps={self.min_steps} is above max_steps={self.max_steps}")
        able = [FAMILIES[n] for n in self.families if n in FAMILIES]
        if able and not any(f.low <= self.max_steps and self.min_steps <= f.high for f in able):
            raise ValueError(f"no family of {', '.join(self.families)} has {self.min_steps} to {self.max_steps} steps")

    def create(self) -> ArithmeticDomain:
        return ArithmeticDomain(self)


class ArithmeticDomain:
    """Implements `sq.domains.base.Domain`."""

    def __init__(self, config: ArithmeticConfig | None = None) -> None:
        self.config = config or ArithmeticConfig()
        self.name = self.config.name

    def seeds(self, count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yield `count` distinct problems of a split: question, answer, solution, steps, family.

        The same arguments give the same rows in every process, and a shorter run is a prefix of a longer one.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        c = self.config
        rng = random.Random(f"arithmetic:{seed}:{split}")
        seen: set[bytes] = set()
        while len(seen) < count:
            one = problem(rng, low=c.min_steps, high=c.max_steps, families=c.families)
            digest = _digest(one.question)
            if split_of_digest(digest) != split or digest in seen:
                continue
            seen.add(digest)
            yield {
                "question": one.question,
                "answer": one.answer,
                "solution": one.solution,
                "steps": one.steps,
                "family": one.family,
            }

    def final_answer(self, text: str) -> str | None:
        """The content of the last `\\boxed{...}`."""
        return answers.final_answer(text)

    def check(self, answer: str, reference: str) -> bool:
        """Whether both are the same number, exactly."""
        return answers.check(answer, reference)


def split_of(question: str) -> str:
    """The split a question belongs to, whoever wrote it."""
    return split_of_digest(_digest(question))


def split_of_digest(digest: bytes) -> str:
    bucket = digest[0] * 256 + digest[1]
    return next(name for name, buckets in SPLITS.items() if bucket % 100 in buckets)


def _digest(question: str) -> bytes:
    return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def facts(rng: random.Random) -> str:
    """One line of arithmetic, within the range the questions use: "7 + 5 = 12"."""
    op = rng.choice("++--**/")
    if op == "+":
        a = rng.randint(0, 100)
        b = rng.randint(0, 100 - a)
        return f"{a} + {b} = {a + b}"
    if op == "-":
        a = rng.randint(0, 100)
        b = rng.randint(0, a)
        return f"{a} - {b} = {a - b}"
    small = rng.randint(1, 10)
    large = rng.randint(1, 10) if rng.random() < 0.6 or small > 3 else rng.randint(1, 100 // small)
    left, right = (small, large) if rng.random() < 0.5 else (large, small)
    if op == "*":
        return f"{left} * {right} = {left * right}"
    return f"{left * right} / {right} = {left}"
