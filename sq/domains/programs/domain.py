"""The small programming tasks as the pipeline sees them: the code domain in miniature, with an exact oracle."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.domains.arithmetic.splits import SPLITS, question_digest, split_of_digest
from sq.domains.base import AnswerGroups, Candidates, Document, Domain, DomainConfig, OracleLabel
from sq.domains.code.execution import ProgramExecutor, checker_version
from sq.domains.code.extract import extractor_version, program_in
from sq.domains.programs.corpus import documents
from sq.domains.programs.oracle import MOST_STEPS, analyse, arguments
from sq.domains.programs.problems import problem
from sq.sandbox.config import SandboxConfig

PATIENCE = 5_000
"""Draws in a row that bring nothing new before a domain too narrow for the count is at its end."""


@dataclass(frozen=True, kw_only=True)
class ProgramsConfig(DomainConfig):
    """Small functions over integers, with an exact oracle."""

    has_oracle: ClassVar[bool] = True

    name: str = setting("programs", help="name of the domain in rows and reports")
    benchmarks: list[str] = setting(["programs"], help="what measures its students: names of conf/benchmark/")
    assumptions: str = setting("programs", help="whose lengths sq plan supposes: a name of conf/assumptions/")
    min_steps: int = setting(1, ge=1, le=MOST_STEPS, help="fewest operations a task needs")
    max_steps: int = setting(6, ge=1, le=MOST_STEPS, help="most operations a task needs")
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def __post_init__(self) -> None:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps={self.min_steps} is above max_steps={self.max_steps}")

    def create(self) -> ProgramsDomain:
        return ProgramsDomain(self)


class ProgramsDomain(Domain):
    """Implements `sq.domains.base.Domain`."""

    base_model = ""
    instruction = ""

    def __init__(self, config: ProgramsConfig | None = None) -> None:
        self.config = config or ProgramsConfig()
        self.name = self.config.name
        self._executor = ProgramExecutor(self.config.sandbox)

    @property
    def digest(self) -> str:
        """What decides the tasks."""
        return f"{self.config.min_steps}-{self.config.max_steps}"

    def seeds(self, count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yield `count` distinct tasks of a split, or all that there are: question, tests as answer, solution, steps.

        The same arguments give the same rows in every process, and a shorter run is a prefix of a longer one.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        rng = random.Random(f"programs:{seed}:{split}")
        seen: set[bytes] = set()
        misses = 0
        while len(seen) < count and misses < PATIENCE:
            misses += 1
            one = problem(rng, low=self.config.min_steps, high=self.config.max_steps)
            digest = question_digest(one.question)
            if split_of_digest(digest) == split and digest not in seen:
                seen.add(digest)
                misses = 0
                yield {"question": one.question, "answer": one.answer, "solution": one.solution, "steps": one.steps}

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """Text of mixed quality to pretrain on; no task of the validation or test split is solved in it."""
        return documents(count, seed)

    @property
    def extractor(self) -> str:
        """The version of what finds a program."""
        return extractor_version()

    @property
    def checker(self) -> str:
        """The version of the sandbox, and a program's limits."""
        return checker_version(self.config.sandbox)

    def final_answer(self, text: str, *, cut_off: bool = False) -> str | None:
        """The program in a solution: a closed block of Python that parses."""
        return program_in(text)

    def check(self, answer: str, reference: str) -> bool:
        """Whether a program passes the reference's tests, in the sandbox."""
        return self.check_many([(answer, reference)])[0]

    def check_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """The same of many, side by side."""
        return self._executor.pass_many(pairs)

    def vote(self, candidates: Candidates) -> AnswerGroups:
        """Programs by what they give for the same calls, whose arguments follow from the task's first sentence."""
        calls = arguments(str(candidates.question["question"]))
        if calls is None:
            return self._executor.group_by_written_tests(candidates.answers, candidates.responses)
        return self._executor.group_by_outputs(candidates.answers, *calls)

    def oracle_label(self, question: str) -> OracleLabel:
        """The oracle's word on any text; its answer is the tests."""
        analysis = analyse(question)
        return OracleLabel(
            solvable=analysis.solvable, reason=analysis.reason.value, steps=analysis.steps, answer=analysis.answer
        )
