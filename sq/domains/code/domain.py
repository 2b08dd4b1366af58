"""Programming as a domain (paper v2, code): seeds like CodeFeedback's, answers that are programs, tests as the check.

The final answer of a solution is a program that parses. It runs only in the sandbox: against a reference's tests, or,
to take a vote among candidates, against the tests that the model wrote beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.data.sources import SourceConfig, digest, read_source
from sq.domains.base import AnswerGroups, Document, DomainConfig, OracleLabel
from sq.domains.code.execution import ProgramExecutor
from sq.domains.code.extract import program_in
from sq.sandbox.config import SandboxConfig

INSTRUCTION = (
    "Write the solution in Python. Explain your idea in a few sentences, then give the whole program in one ```python "
    "block."
)
TESTS_TOO = " After it, in a ```python block of its own, write five assert lines that call the program on examples."


@dataclass(frozen=True, kw_only=True)
class CodeConfig(DomainConfig):
    """Programming problems with answers in Python."""

    name: str = setting("code", help="name of the domain in rows and reports")
    benchmarks: list[str] = setting(["humaneval", "mbpp"], help="what measures its students: names of conf/benchmark/")
    assumptions: str = setting("code", help="whose lengths sq plan supposes: a name of conf/assumptions/")
    seeds: SourceConfig = setting(help="where seed problems come from: question and, for fail rates, tests as answer")
    instruction: str = setting(INSTRUCTION, help="added to a question when it is put to a solver")
    write_tests: bool = setting(False, help="ask for tests beside each program, and vote on those most programs pass")
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def create(self) -> CodeDomain:
        return CodeDomain(self)


class CodeDomain:
    """Implements `sq.domains.base.Domain`."""

    base_model = ""

    def __init__(self, config: CodeConfig) -> None:
        self.config, self.name = config, config.name
        self.instruction = config.instruction + (TESTS_TOO if config.write_tests else "")
        self._executor = ProgramExecutor(config.sandbox)

    def seeds(self, count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yield up to `count` seed problems; those of CodeFeedback have a solution and no tests."""
        if split != "train":
            raise ConfigError(
                f"split={split}: domain={self.name} has training problems only; what a model can do is measured by "
                "evaluate.py benchmark=[humaneval,mbpp]"
            )
        source = dataclasses.replace(self.config.seeds, limit=min(count, self.config.seeds.limit or count), seed=seed)
        for row in read_source(source, ("question",)):
            yield {name: row[name] for name in ("question", "answer", "solution", "topic") if row.get(name) is not None}

    @property
    def digest(self) -> str:
        """A digest of what the seeds are read from."""
        return digest(self.config.seeds)

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """The seed problems, with solutions where there are any, as text to pretrain on."""
        for row in self.seeds(count, seed, "train"):
            yield Document(question=row["question"], solution=row.get("solution", ""))

    def final_answer(self, text: str) -> str | None:
        """The program in a solution: a closed block of Python that parses."""
        return program_in(text)

    def check(self, answer: str, reference: str) -> bool:
        """Whether a program passes the reference's tests."""
        return self._executor.passes(answer, reference)

    def vote(self, question: Mapping[str, Any], answers: Sequence[str], responses: Sequence[str]) -> AnswerGroups:
        """Programs by which tests they pass, of those that were written beside them and that most of them pass."""
        return self._executor.group_by_written_tests(answers, responses)

    def oracle_label(self, question: str) -> OracleLabel | None:
        """None: nothing exact can be said of a question from outside."""
        return None
