"""Code benchmarks: HumanEval, MBPP, BigCodeBench and files like them, graded by their tests in the sandbox.

A file's columns tell its style. The problems go through the same answers, scores and figures as any benchmark; the
check is the tests, and its profile is called `tests`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import flatten, setting
from sq.core.errors import ConfigError, RowError
from sq.core.prompts import ParserConfig, ParserKind, PromptConfig
from sq.core.rows import row_id
from sq.eval.benchmarks import MAX_LOGGED, BenchmarkConfig, Problems, UnusableProblem, read_published
from sq.eval.code_extract import ExtractedProgram, extract_program
from sq.eval.code_styles import STYLES, read_problem
from sq.eval.prompting import FormatConfig
from sq.eval.sandbox import Asserts, Program, ProgramResult, ProgramStatus, Sandbox, SandboxConfig, Unittests

log = logging.getLogger(__name__)
TESTS = "tests"
"""The profile of a benchmark whose answers are graded by tests."""
_QUESTION = {
    "humaneval": ("prompt",),
    "mbpp": ("text", "prompt"),
    "bigcodebench": ("instruct_prompt", "complete_prompt"),
}
_AS_IT_IS = PromptConfig(
    role="answer", fields=["question"], parser=ParserConfig(kind=ParserKind.text), template="{question}"
)
_TRIED = 5
"""Reference solutions that are run before a model's: if none passes, it is not the model that is wrong."""


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(BenchmarkConfig):
    """Problems with tests, from the hub or from a file."""

    path: str | None = setting(None, help="a local file or directory in place of the hub")
    hub: str | None = setting(None, help="dataset on the Hugging Face hub")
    subset: str | None = setting(None, help="its configuration, where it has several")
    split: str | None = setting("test", help="its split")
    revision: str | None = setting(None, help="its commit, branch or tag")
    style: str = setting("auto", choices=STYLES, help="whose columns it has; auto: columns by the columns")
    columns: dict[str, str] = setting({}, help="our column -> their name for it")
    ask: str = setting("instruct", choices=("instruct", "complete"), help="complete: the model goes on from the prompt")
    challenge: bool = setting(False, help="MBPP: the tests of challenge_test_list count too")
    packages: bool = setting(False, help="tests and programs may import the packages of this Python")
    warm: list[str] = setting([], help="packages that are loaded once for all of them: [numpy]")
    memory_mb: int | None = setting(None, ge=128, help="memory of a program, where not sandbox.memory_mb")
    cpu_seconds: float | None = setting(None, gt=0, help="its processor time, where not sandbox.cpu_seconds")
    wall_seconds: float | None = setting(None, gt=0, help="its time in all, where not sandbox.wall_seconds")

    @property
    def instruction(self) -> str | None:
        """Nothing is added to a question, which says all; a prompt to be completed is no chat message at all."""
        return "" if self.ask == "instruct" else None

    def form_of(self, form: FormatConfig) -> FormatConfig:
        """A prompt to be completed stands alone, outside any chat template."""
        return form if self.ask == "instruct" else FormatConfig(name="completion", chat=False, prompt=_AS_IT_IS)

    def checker(self, problems: Problems, sandbox: SandboxConfig) -> CodeChecker:
        """What grades the answers."""
        own = ("memory_mb", "cpu_seconds", "wall_seconds")
        given: dict[str, Any] = {name: value for name in own if (value := vars(self)[name]) is not None}
        if self.packages:
            given |= {"packages": True, "warm": [*sandbox.warm, *self.warm]}
        return CodeChecker(problems, dataclasses.replace(sandbox, **given))

    def load(self, limit: int | None, seed: int) -> Problems:
        from sq.data.sources import SourceConfig

        if not self.path and not self.hub:
            raise ConfigError(f"benchmark {self.name} has no source; say where: benchmark.{self.name}.path=FILE")
        source = SourceConfig(
            input=self.path or self.hub,
            columns=self.columns or None,
            limit=limit,
            split=None if self.path else self.split,
            subset=None if self.path else self.subset,
            revision=None if self.path else self.revision,
            form="plain",
        )
        rows, unusable, origin = read_published(self.name, source, (), local=bool(self.path))
        settings = row_id("code", source=origin, style=self.style, ask=self.ask, challenge=self.challenge)
        found = Problems(by_id={}, unusable=unusable, digest=settings)
        for row in rows:
            problem = self._problem(row)
            if isinstance(problem, UnusableProblem):
                found.unusable.append(problem)
            else:
                found.by_id[problem["id"]] = problem
        self._report(found)
        return found

    def _problem(self, row: dict[str, Any]) -> dict[str, Any] | UnusableProblem:
        """A problem: what is asked, and under `code` what its answers are graded by."""
        try:
            asked, code = read_problem(row, self.style, complete=self.ask == "complete", challenge=self.challenge)
        except (KeyError, ValueError) as error:
            what = f"has no column {error}" if isinstance(error, KeyError) else str(error)
            return UnusableProblem(
                key=row["id"], row=row, reason="reference", detail=f"row {row.get('source_row')}: {what}"
            )
        kept = {name: row[name] for name in ("id", "run", "model", "seed", "parents", "source", "source_row")}
        known = {
            "question": asked,
            "answer": code["solution"] or "\n".join(code["tests"]),
            "solution": code["solution"],
        }
        return {**kept, **known, "source_id": str(row.get("task_id", row.get("source_id") or "")), "code": code}

    def _report(self, found: Problems) -> None:
        odd = [b for b in found.unusable if b.reason == "reference"]
        columns = "; ".join(b.detail for b in odd[:MAX_LOGGED])
        if not found.by_id:
            raise RowError(f"benchmark {self.name} has no usable problem: {columns}")
        if odd:
            log.warning(
                "%s: %d of %d problems are left out: %s", self.name, len(odd), len(odd) + len(found.by_id), columns
            )


class CodeChecker:
    """Grades answers by running their programs against the problems' tests.

    Args:
        problems: with their tests.
        config: the limits of a program.
    """

    profile = TESTS

    def __init__(self, problems: Problems, config: SandboxConfig) -> None:
        self._problems, self._config = problems.by_id, config
        self._sandbox: Sandbox | None = None
        self.version = _version(config)

    def grade(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A verdict for each answer, in order."""
        if self._sandbox is None:
            self._sandbox = Sandbox(self._config)
            self._try_references(self._sandbox)
        found = [self._extracted(row) for row in rows]
        programs = [
            program_of(self._problems[row["item"]]["code"], e.source)
            for row, e in zip(rows, found, strict=True)
            if e.source is not None
        ]
        outcomes = self._sandbox.run(programs)
        return [_grade_row(e, next(outcomes) if e.source is not None else None) for e in found]

    def close(self) -> None:
        """End the sandbox, if it was started."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _extracted(self, row: Mapping[str, Any]) -> ExtractedProgram:
        code = self._problems[row["item"]]["code"]
        entry = code["entry"][0] if code["entry"] else ""
        return extract_program(
            row["prediction"], prompt=code["prompt"], entry=entry, finish_reason=row["prediction_finish_reason"]
        )

    def _try_references(self, sandbox: Sandbox) -> None:
        """Run a few reference solutions: where they fail, scores would tell about this machine, not about the model."""
        known = [p for p in self._problems.values() if p["code"]["solution"]][:_TRIED]
        outcomes = list(sandbox.run(program_of(p["code"], p["code"]["solution"]) for p in known))
        failed = [
            f"{p['source_id']}: {o.status.value}, {o.reason}" for p, o in zip(known, outcomes, strict=True) if not o.ok
        ]
        if failed and len(failed) == len(known):
            raise RowError(
                f"not one of {len(known)} reference solutions passes its own tests here ({failed[0]}). Is a package "
                "missing? benchmark.NAME.packages=true lets tests import what is installed; sandbox.cpu_seconds and "
                "sandbox.memory_mb give them more"
            )
        if failed:
            log.warning("%d of %d reference solutions do not pass: %s", len(failed), len(known), "; ".join(failed))


def program_of(code: Mapping[str, Any], source: str) -> Program:
    """A program with a problem's tests."""
    if code["unittest"]:
        return Program(source=source, tests=Unittests(tests="\n".join(code["tests"])))
    tests = Asserts(tests=code["tests"], entry=code["entry"], context=code["context"], setup=code["setup"])
    return Program(source=source, tests=tests)


def _grade_row(found: ExtractedProgram, outcome: ProgramResult | None) -> dict[str, Any]:
    """A verdict as the ledger of scores has it."""
    columns = {"extracted": found.source and found.source.encode("utf-8", "replace").decode(), "where": found.location}
    if outcome is None:
        return {**columns, "correct": False, "verdict": "unparsed", "reason": found.reason}
    verdict = {ProgramStatus.PASSED: "correct", ProgramStatus.TIMEOUT: "timeout", ProgramStatus.INVALID: "unverifiable"}
    reason = f"{outcome.status.value}: {outcome.reason}" if outcome.reason else outcome.status.value
    return {
        **columns,
        "correct": outcome.ok,
        "verdict": verdict.get(outcome.status, "wrong"),
        "reason": reason.encode("utf-8", "replace").decode(),
    }


def _version(config: SandboxConfig) -> str:
    """A digest of what decides a verdict: this code, the sandbox's, the limits, the Python that runs programs."""
    digest = hashlib.blake2b(digest_size=6)
    here = Path(__file__).parent
    for file in sorted([*here.glob("code*.py"), *(here.parent / "sandbox").rglob("*.py")]):
        digest.update(file.name.encode() + file.read_bytes())
    settings = {k: v for k, v in flatten(config).items() if k not in ("workers", "isolation", "allow_weak")}
    digest.update(repr((sorted(settings.items()), sys.version_info[:2])).encode())
    return digest.hexdigest()
