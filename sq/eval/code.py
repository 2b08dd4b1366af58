"""Code benchmarks (HumanEval, MBPP, BigCodeBench, LiveCodeBench and files like them), graded by tests in the sandbox.

A file's columns tell its style. The problems go through the same answers, scores and metrics as any benchmark; the
check is the tests, and its profile is called `tests`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sq.core.config import setting
from sq.core.errors import RowError
from sq.core.files import code_version
from sq.core.prompts import ParserConfig, ParserKind, PromptConfig
from sq.core.rows import row_id
from sq.domains.code.execution import checker_version
from sq.domains.code.extract import ExtractedProgram, extract_program
from sq.eval.benchmarks import REFERENCE, GradingConfig, Problem, Problems, PublishedBenchmark, UnusableProblem
from sq.eval.checkers import Answer, GradeRow, storable
from sq.eval.code_livecodebench import cases_of, contest_day
from sq.eval.code_styles import STYLES, read_problem
from sq.eval.prompting import FormatConfig
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Program, ProgramResult, ProgramStatus, Unittests

log = logging.getLogger(__name__)
TESTS = "tests"
"""The profile of a benchmark whose answers are graded by tests."""
_AS_IT_IS = PromptConfig(
    role="answer", fields=["question"], parser=ParserConfig(kind=ParserKind.text), template="{question}"
)
_MAX_TRIED = 5
"""Reference solutions that are run before a model's: if none passes, it is not the model that is wrong."""
_GROUPS = {"level": "level", "topic": "platform"}
"""By what LiveCodeBench's scores are given: ours -> the column as it is read."""
_STATUS = {ProgramStatus.PASSED: "correct", ProgramStatus.TIMEOUT: "timeout", ProgramStatus.INVALID: "unverifiable"}


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(PublishedBenchmark):
    """Problems with tests."""

    style: str = setting("auto", choices=STYLES, help="whose columns it has; auto: by the columns")
    ask: str = setting("instruct", choices=("instruct", "complete"), help="complete: the model goes on from the prompt")
    challenge: bool = setting(False, help="MBPP: the tests of challenge_test_list count too")
    since: str | None = setting(None, help="LiveCodeBench: contests from this day on, 2024-08-01")
    until: str | None = setting(None, help="LiveCodeBench: contests up to this day, which is included")
    packages: bool = setting(False, help="tests and programs may import the packages of this Python")
    warm: list[str] = setting([], help="packages that are loaded once for all of them: [numpy]")
    memory_mb: int | None = setting(None, ge=128, help="memory of a program, where not sandbox.memory_mb")
    cpu_seconds: float | None = setting(None, gt=0, help="its processor time, where not sandbox.cpu_seconds")
    wall_seconds: float | None = setting(None, gt=0, help="its time in all, where not sandbox.wall_seconds")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("since", "until"):
            if not _is_day(getattr(self, name) or "2024-01-01"):
                raise ValueError(f"{name}={getattr(self, name)!r} is no day like 2024-08-01")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since={self.since} is after until={self.until}")
        if self.style == "livecodebench" and self.ask == "complete":
            raise ValueError("ask=complete: LiveCodeBench has no prompt to be completed; use ask=instruct")

    @property
    def instruction(self) -> str | None:
        """Nothing is added to a question, which says all; a prompt to be completed is no chat message at all."""
        return "" if self.ask == "instruct" else None

    def form_of(self, form: FormatConfig) -> FormatConfig:
        """A prompt to be completed stands alone, outside any chat template."""
        return form if self.ask == "instruct" else FormatConfig(name="completion", chat=False, prompt=_AS_IT_IS)

    def checker(self, problems: Problems, grading: GradingConfig) -> CodeChecker:
        limits = ("memory_mb", "cpu_seconds", "wall_seconds")
        own: dict[str, Any] = {name: value for name in limits if (value := vars(self)[name]) is not None}
        if self.packages:
            own["packages"] = True
        if self.warm:
            own["warm"] = [*grading.sandbox.warm, *self.warm]
        return CodeChecker(problems, dataclasses.replace(grading.sandbox, **own))

    @property
    def _reading(self) -> tuple[dict[str, Any], Sequence[str]]:
        return {"form": "plain"}, ()

    def _digest(self, origin: str) -> str:
        window = {name: day for name in ("since", "until") if (day := getattr(self, name))}
        return row_id("code", source=origin, style=self.style, ask=self.ask, challenge=self.challenge, **window)

    def _is_chosen(self, row: Mapping[str, Any]) -> bool:
        """Whether its contest is within the days asked for; a row without a day is refused as a problem."""
        try:
            day = contest_day(row).isoformat() if self.since or self.until else ""
        except ValueError:
            return True
        return (self.since or day) <= day <= (self.until or day)

    def _read(self, limit: int | None) -> tuple[list[dict[str, Any]], Problems]:
        rows, problems = super()._read(limit)
        if not rows and (self.since or self.until):
            raise RowError(f"benchmark {self.name}: no contest is from since={self.since} to until={self.until}")
        return rows, problems

    def _problems_in(self, row: dict[str, Any]) -> Iterator[Problem | UnusableProblem]:
        """The problem: what is asked, and under `code` what its answers are graded by."""
        try:
            if self.since or self.until:
                contest_day(row)
            question, code = read_problem(row, self.style, complete=self.ask == "complete", challenge=self.challenge)
        except (KeyError, ValueError, RecursionError) as error:
            fault = f"has no column {error}" if isinstance(error, KeyError) else str(error)
            detail = f"{row.get('source')}, row {row.get('source_row')}{_named(row)}: {fault}"
            yield UnusableProblem(key=row["id"], row=row, reason=REFERENCE, detail=detail)
            return
        columns = {name: row[name] for name in ("id", "run", "model", "seed", "parents", "source", "source_row")}
        yield {
            **columns,
            "question": question,
            "answer": code["solution"] or "\n".join(code["tests"]),
            "solution": code["solution"],
            "source_id": str(row.get("task_id", row.get("question_id", row.get("source_id") or ""))),
            "code": code,
            **{ours: str(row[theirs]) for ours, theirs in _GROUPS.items() if "packed" in code and row.get(theirs)},
        }


class CodeChecker:
    """Grades answers by running their programs against the problems' tests.

    Args:
        problems: with their tests.
        config: the limits of a program.
    """

    profiles = (TESTS,)

    def __init__(self, problems: Problems, config: SandboxConfig) -> None:
        self._problems, self._config = problems.by_id, config
        self._sandbox: Sandbox | None = None
        self.version = _version(config)

    def grade(self, answers: Sequence[Answer]) -> list[dict[str, GradeRow]]:
        """As `AnswerChecker.grade`."""
        if self._sandbox is None:
            self._sandbox = Sandbox(self._config)
            self._try_references(self._sandbox)
        extracted = [self._extract(answer) for answer in answers]
        programs = (  # one by one: unpacked, the cases of a problem may be a gigabyte
            program_of(self._problems[answer["item"]]["code"], e.source)
            for answer, e in zip(answers, extracted, strict=True)
            if e.source is not None
        )
        results = self._sandbox.run(programs)
        return [{TESTS: _grade_row(e, next(results) if e.source is not None else None)} for e in extracted]

    def vote(self, item: str, answers: Sequence[str]) -> Sequence[str]:
        """Programs vote by their text: no tests were written beside them."""
        return answers

    def close(self) -> None:
        """End the sandbox, if it was started."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _extract(self, answer: Answer) -> ExtractedProgram:
        code = self._problems[answer["item"]]["code"]
        entry = code["entry"][0] if code["entry"] else ""  # None: a script
        return extract_program(
            answer["prediction"], prompt=code["prompt"], entry=entry, finish_reason=answer["prediction_finish_reason"]
        )

    def _try_references(self, sandbox: Sandbox) -> None:
        """Run a few reference solutions: where they fail, scores would tell about this machine, not about the model."""
        tried = [p for p in self._problems.values() if p["code"]["solution"]][:_MAX_TRIED]
        results = list(sandbox.run(program_of(p["code"], p["code"]["solution"]) for p in tried))
        failed = [
            f"{p['source_id']}: {r.status.value}, {r.reason}" for p, r in zip(tried, results, strict=True) if not r.ok
        ]
        if failed and len(failed) == len(tried):
            raise RowError(
                f"not one of {len(tried)} reference solutions passes its own tests here ({failed[0]}). Is a package "
                "missing? benchmark.NAME.packages=true lets tests import what is installed; sandbox.cpu_seconds and "
                "sandbox.memory_mb give them more"
            )
        if failed:
            log.warning("%d of %d reference solutions do not pass: %s", len(failed), len(tried), "; ".join(failed))


def _is_day(text: str) -> bool:
    """Whether a text is a day as `isoformat` writes it: days are compared as texts."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def program_of(code: Mapping[str, Any], source: str) -> Program:
    """A program with a problem's tests."""
    if "packed" in code:
        return Program(source=source, tests=cases_of(code))
    if code["unittest"]:
        return Program(source=source, tests=Unittests(tests="\n".join(code["tests"])))
    tests = Asserts(tests=code["tests"], entry=code["entry"], context=code["context"], setup=code["setup"])
    return Program(source=source, tests=tests)


def _named(row: Mapping[str, Any]) -> str:
    """How a problem is called where it is from: ` (question_id 3487)`."""
    name = next((name for name in ("question_id", "task_id", "source_id") if row.get(name) is not None), None)
    return f" ({name} {str(row[name])[:60]})" if name else ""


def _grade_row(program: ExtractedProgram, result: ProgramResult | None) -> GradeRow:
    extracted = {"extracted": program.source and storable(program.source), "where": program.location}
    if result is None:
        return {**extracted, "correct": False, "verdict": "unparsed", "reason": program.reason}
    reason = f"{result.status.value}: {result.reason}" if result.reason else result.status.value
    status = _STATUS.get(result.status, "wrong")
    return {**extracted, "correct": result.ok, "verdict": status, "reason": storable(reason)}


def _version(config: SandboxConfig) -> str:
    """A digest of what decides a grade: this code, and what decides whether a program passes."""
    return code_version(Path(__file__).parent.glob("code*.py"), checker_version(config))
