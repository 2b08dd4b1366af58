"""Programming as a domain (paper v2, code): seeds like CodeFeedback's, answers that are programs, tests as the check.

The final answer of a solution is a program that parses. It runs only in the sandbox: against a reference's tests, or,
to take a vote among candidates, against the tests that the model wrote beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sq.core.config import setting
from sq.data.sources import SourceConfig
from sq.domains.base import AnswerGroups, Candidates, DomainConfig
from sq.domains.code.execution import ProgramExecutor, checker_version
from sq.domains.code.extract import extractor_version, program_in
from sq.domains.sourced import SourcedDomain
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


class CodeDomain(SourcedDomain):
    """Implements `sq.domains.base.Domain`; seeds of CodeFeedback have a solution and no tests."""

    need = ("question",)
    keep = ("answer", "solution", "topic")

    def __init__(self, config: CodeConfig) -> None:
        super().__init__(config.name, config.seeds, config.benchmarks)
        self.config = config
        self.instruction = config.instruction + (TESTS_TOO if config.write_tests else "")
        self._executor = ProgramExecutor(config.sandbox)

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
        """Whether a program passes the reference's tests."""
        return self.check_many([(answer, reference)])[0]

    def check_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """The same of many, side by side."""
        return self._executor.pass_many(pairs)

    def vote(self, candidates: Candidates) -> AnswerGroups:
        """Programs by which tests they pass, of those that were written beside them and that most of them pass."""
        return self._executor.group_by_written_tests(candidates.answers, candidates.responses)
