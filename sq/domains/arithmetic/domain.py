"""The arithmetic domain as the pipeline sees it: seeds by split, answers, checks, and text to pretrain on."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from sq.core.config import setting
from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.domains.arithmetic import answers as numbers
from sq.domains.arithmetic.backward import analyse
from sq.domains.arithmetic.corpus import documents
from sq.domains.arithmetic.families import FAMILIES, KNOWN, MOST_STEPS, problem
from sq.domains.arithmetic.splits import SPLITS, question_digest, split_of_digest
from sq.domains.base import AnswerGroups, Candidates, Document, Domain, DomainConfig, OracleLabel, group_by_answer

PATIENCE = 20_000
"""Draws in a row that bring nothing new before a domain too narrow for the count is at its end."""
log = logging.getLogger(__name__)


class _NothingNewError(Exception):
    """All draws are known."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(DomainConfig):
    """Word problems of small numbers, with an exact oracle."""

    has_oracle: ClassVar[bool] = True

    name: str = setting("arithmetic", help="name of the domain in rows and reports")
    benchmarks: list[str] = setting(["arithmetic"], help="what measures its students: names of conf/benchmark/")
    assumptions: str = setting("arithmetic", help="whose lengths sq plan supposes: a name of conf/assumptions/")
    min_steps: int = setting(1, ge=1, le=MOST_STEPS, help="fewest steps a question needs")
    max_steps: int = setting(MOST_STEPS, ge=1, le=MOST_STEPS, help="most steps a question needs")
    families: list[str] = setting(
        [], choices=FAMILIES, help="only these problem families; all but those held out when empty"
    )
    worked: float = setting(0.004, ge=0, le=1, help="share of worked problems in the text to pretrain on")
    noted: float = setting(
        0.0, ge=0, le=1, help="share of short problems of whose solutions the text has the sums alone"
    )

    def __post_init__(self) -> None:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps={self.min_steps} is above max_steps={self.max_steps}")
        able = [FAMILIES[n] for n in self.families if n in FAMILIES]
        if able and not any(self.min_steps <= f.most_steps for f in able):
            raise ValueError(f"no family of {', '.join(self.families)} has {self.min_steps} to {self.max_steps} steps")

    def create(self) -> ArithmeticDomain:
        return ArithmeticDomain(self)


class ArithmeticDomain(Domain):
    """Implements `sq.domains.base.Domain`."""

    instruction = ""
    base_model = "package:tiny-base"

    def __init__(self, config: ArithmeticConfig | None = None) -> None:
        self.config = config or ArithmeticConfig()
        self.name = self.config.name

    @property
    def digest(self) -> str:
        """What decides the problems."""
        c = self.config
        return "-".join(map(str, (c.min_steps, c.max_steps, *sorted(c.families))))

    def seeds(self, count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yield `count` distinct problems of a split, or all that there are: question, answer, solution, steps, family.

        The same arguments give the same rows in every process, and a shorter run is a prefix of a longer one.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        c = self.config
        rng = random.Random(f"arithmetic:{seed}:{split}")
        seen: set[bytes] = set()
        misses = 0

        def accept(question: str) -> bool:
            nonlocal misses
            digest = question_digest(question)
            new = split_of_digest(digest) == split and digest not in seen
            misses = 0 if new else misses + 1
            if misses > PATIENCE:
                raise _NothingNewError
            return new

        for _ in range(count):
            try:
                one = problem(rng, low=c.min_steps, high=c.max_steps, families=c.families or KNOWN, accept=accept)
            except _NothingNewError:
                log.warning("domain %s has hardly more than %s", self.name, count_noun(len(seen), "problem"))
                return
            seen.add(question_digest(one.question))
            yield {
                "question": one.question,
                "answer": one.answer,
                "solution": one.solution,
                "steps": one.steps,
                "family": one.family,
            }

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """Text of mixed quality to pretrain on; no good question of the validation or test split is in it."""
        c = self.config
        return documents(count, seed, c.families, c.min_steps, c.max_steps, c.worked, c.noted)

    @property
    def extractor(self) -> str:
        """The version of what finds the last box."""
        return numbers.extractor_version()

    @property
    def checker(self) -> str:
        """The same file's version."""
        return numbers.extractor_version()

    def final_answer(self, text: str, *, cut_off: bool = False) -> str | None:
        """The content of the last `\\boxed{...}`."""
        return numbers.final_answer(text)

    def oracle_label(self, question: str) -> OracleLabel:
        """The oracle's word on any text: exact, from the text alone."""
        analysis = analyse(question)
        answer = None if analysis.answer is None else str(analysis.answer)
        return OracleLabel(
            solvable=analysis.solvable,
            reason=analysis.reason.value,
            steps=analysis.steps,
            answer=answer,
            topic=analysis.family or "",
        )

    def check(self, answer: str, reference: str) -> bool:
        """Whether both are the same number, exactly."""
        return numbers.check(answer, reference)

    def vote(self, candidates: Candidates) -> AnswerGroups:
        """Candidates by their numbers."""
        return group_by_answer([candidates.answers], self.check_many)[0]
