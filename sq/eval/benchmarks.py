"""Benchmarks: where their problems come from, which of them can be used, and how an answer to one is checked.

The paper's four (section 3.1) and more are `conf/benchmark/*.yaml`; `benchmark.NAME.path=FILE` reads a local file in
place of the hub. A problem without a usable reference is rejected, named and counted, never scored as wrong.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sq.core.config import setting
from sq.core.errors import ConfigError, RowError
from sq.core.rows import content_id, row_id
from sq.domains.base import DomainConfig
from sq.eval.grader_config import GraderConfig
from sq.eval.prompting import FormatConfig
from sq.sandbox.config import SandboxConfig

if TYPE_CHECKING:
    from sq.eval.checkers import AnswerChecker

log = logging.getLogger(__name__)
NUMBER = re.compile(r"[-+]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?\.?\d*(?:[eE][-+]?\d+)?%?")
MAX_LOGGED = 5
"""Problems without a usable reference that are named in the log; all of them are in the rejects."""
LETTER_WANTED = "The final answer is the letter of the right choice."
_DEGREES = re.compile(r"\s*(?:°|\^\s*(?:\\circ|\{\s*\\circ\s*\}))$")
REFERENCE, DIALOGUE = "reference", "dialogue"
"""Why a row that was read is no usable problem."""
Problem = dict[str, Any]
"""A row with `id`, `question`, `answer` and what there is to group it by; `messages`, `round`, `tolerance`,
`relative`, `choices`, `code`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusableProblem:
    """A problem that cannot be used: what there is of it, and why."""

    key: str
    row: Mapping[str, Any]
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Problems:
    """A benchmark, read: problems by id, in order; those that cannot be used; a digest of where they came from."""

    by_id: dict[str, Problem]
    unusable: list[UnusableProblem] = field(default_factory=list)
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradingConfig:
    """What a run decides of how answers are checked; a benchmark takes what it needs."""

    profiles: Sequence[str]
    grader: GraderConfig
    sandbox: SandboxConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Base of the benchmarks' configs."""

    name: str = setting(help="short name, used in paths and tables")

    def load(self, limit: int | None, seed: int) -> Problems:
        """Read the problems."""
        raise TypeError(f"benchmark {self.name} has no problems of its own")

    @property
    def instruction(self) -> str | None:
        """What is added to its questions, in place of the format's words; none: those."""
        return None

    def form_of(self, form: FormatConfig) -> FormatConfig:
        """How its questions are put, given how the run's are."""
        return form

    def checker(self, problems: Problems, grading: GradingConfig) -> AnswerChecker:
        """What grades its answers."""
        raise TypeError(f"benchmark {self.name} has no check of its own")


@dataclass(frozen=True, kw_only=True)
class DomainBenchmark(BenchmarkConfig):
    """Held-out problems of a domain that makes its own; the domain's exact check decides."""

    domain: DomainConfig
    count: int = setting(500, ge=1, help="problems")
    split: str = setting("test", choices=("test", "validation"), help="validation: to choose by; test: to report")

    def load(self, limit: int | None, seed: int) -> Problems:
        rows = self.domain.create().seeds(min(limit or self.count, self.count), seed, self.split)
        by_id = {content_id({"question": row["question"]}): row for row in rows}
        digest = f"{self.name}-{seed}" if self.split == "test" else f"{self.name}-{seed}-{self.split}"
        return Problems(by_id={key: {"id": key, **row} for key, row in by_id.items()}, digest=digest)

    @property
    def instruction(self) -> str:
        return self.domain.create().instruction

    def checker(self, problems: Problems, grading: GradingConfig) -> AnswerChecker:
        from sq.eval.checkers import DomainChecker

        return DomainChecker(problems.by_id, self.domain.create())


@dataclass(frozen=True, kw_only=True)
class PublishedBenchmark(BenchmarkConfig):
    """Problems that others have published, on the hub or in a file."""

    path: str | None = setting(None, help="a local file or directory in place of the hub")
    hub: str | None = setting(None, help="dataset on the Hugging Face hub")
    subset: str | None = setting(None, help="its configuration, where it has several")
    split: str | None = setting("test", help="its split")
    revision: str | None = setting(None, help="its commit, branch or tag")
    columns: dict[str, str] = setting({}, help="our column -> their name for it")
    encoding: str | None = setting(None, help="of text files that are not UTF-8: cp1252, utf-16, gb18030, ...")

    def __post_init__(self) -> None:
        from sq.data.records import check_encoding

        check_encoding(self.encoding)

    def load(self, limit: int | None, seed: int) -> Problems:
        if not self.path and not self.hub:
            raise ConfigError(f"benchmark {self.name} is on no hub; say where it is: benchmark.{self.name}.path=FILE")
        rows, problems = self._read(limit)
        for row in rows:
            for problem in self._problems_in(row):
                if isinstance(problem, UnusableProblem):
                    problems.unusable.append(problem)
                else:
                    problems.by_id[problem["id"]] = problem
        self._report(problems)
        return problems

    def _read(self, limit: int | None) -> tuple[list[dict[str, Any]], Problems]:
        """The rows that can be read; what cannot is among the unusable problems."""
        from sq.data.records import BadRow, with_encoding_key
        from sq.data.sources import SourceConfig, digest, read_source

        options, needed = self._reading
        source = SourceConfig(
            input=self.path or self.hub,
            columns=self.columns or None,
            split=None if self.path and not _has_splits(self.path) else self.split,
            subset=None if self.path else self.subset,
            revision=None if self.path else self.revision,
            encoding=self.encoding,
            **options,
        )
        unread, key = list[BadRow](), f"benchmark.{self.name}.encoding"
        try:
            chosen = (row for row in read_source(source, needed, unread) if self._is_chosen(row))
            rows, origin = list(islice(chosen, limit)), digest(source)
        except RowError as error:
            fix = (
                f" (benchmark.{self.name}.path, .split)"
                if self.path
                else f". A local copy is read with benchmark.{self.name}.path=FILE"
            )
            raise RowError(f"benchmark {self.name}: {with_encoding_key(str(error), key)}{fix}") from error
        unusable = [
            UnusableProblem(
                key=row_id("bad", **b.place), row=b.row(), reason=b.reason, detail=with_encoding_key(b.detail, key)
            )
            for b in unread
        ]
        return rows, Problems(by_id={}, unusable=unusable, digest=self._digest(origin))

    @property
    def _reading(self) -> tuple[dict[str, Any], Sequence[str]]:
        """Further settings of its source, and the columns it needs."""
        raise NotImplementedError

    def _is_chosen(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is one of this benchmark's."""
        return True

    def _problems_in(self, row: dict[str, Any]) -> Iterator[Problem | UnusableProblem]:
        """The problems in a row."""
        raise NotImplementedError

    def _digest(self, origin: str) -> str:
        """The digest of its problems, given a digest of what they were read from."""
        return origin

    def _report(self, problems: Problems) -> None:
        unusable = [p.detail for p in problems.unusable if p.reason in (REFERENCE, DIALOGUE)]
        details = "; ".join(unusable[:MAX_LOGGED])
        if not problems.by_id:
            raise RowError(f"benchmark {self.name} has no usable problem: {details}")
        if unusable:
            more = f" and {len(unusable) - MAX_LOGGED} more, in the rejects" if len(unusable) > MAX_LOGGED else ""
            total = len(unusable) + len(problems.by_id)
            log.warning("%s: %d of %d problems are left out: %s%s", self.name, len(unusable), total, details, more)


@dataclass(frozen=True, kw_only=True)
class ProblemSet(PublishedBenchmark):
    """Problems with reference answers."""

    form: str = setting("auto", choices=("auto", "gsm8k", "math", "plain"), help="how answers are written")
    header: bool = setting(True, help="csv, tsv: the first line has the names")
    groups: dict[str, str] = setting({}, help="level, topic, source -> their column; scores are given by each")
    expects: str = setting("any", choices=("any", "numeric", "boxed"), help="what every reference must be")
    tolerance: str | float | None = setting(
        None, help="the absolute error that every reference allows, or their column with it (profile strict)"
    )
    relative_tolerance: str | float | None = setting(
        None,
        help="the relative error that every reference allows (0.05 is 5%), or their column with it (profile strict)",
    )
    distractors: list[str] = setting(
        [],
        help="their columns with the wrong choices of a multiple-choice question: the answer is a letter, or its text",
    )
    context: str | None = setting(
        None, help="their column with a text that stands before the question, where it has one"
    )
    dialogue: str | None = setting(None, help="their column with a conversation (MathChat)")
    rounds: int = setting(1, ge=1, help="questions of a conversation; the model's own replies stand between them")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.tolerance, int | float) and self.tolerance < 0:
            raise ValueError(f"tolerance={self.tolerance:g} must be at least 0")
        if isinstance(self.relative_tolerance, int | float) and not 0 < self.relative_tolerance < 1:
            raise ValueError(f"relative_tolerance={self.relative_tolerance:g} must be above 0 and below 1")
        for column in self.groups.keys() - {"level", "topic", "source"}:
            raise ValueError(f"groups.{column}: groups are level, topic and source")

    def checker(self, problems: Problems, grading: GradingConfig) -> AnswerChecker:
        from sq.eval.checkers import EqualityChecker
        from sq.eval.equal.numbers import Tolerance
        from sq.eval.tolerances import tolerance_of

        settings = self.tolerance, self.relative_tolerance
        allowed = Tolerance(*(None if isinstance(t, str) else t for t in settings))
        columns = [quote(t, safe="") if isinstance(t, str) else None for t in settings]
        tolerances = {key: own for key, p in problems.by_id.items() if (own := tolerance_of(p, allowed)) != allowed}
        choices = {key: p["choices"] for key, p in problems.by_id.items() if "choices" in p}
        return EqualityChecker(grading.grader, grading.profiles, tolerances, allowed, columns, choices)

    @property
    def _reading(self) -> tuple[dict[str, Any], Sequence[str]]:
        options = {"form": self.form, "header": self.header}
        return options, ("question", "solution" if self.form == "math" else "answer")

    def _digest(self, origin: str) -> str:
        asked = {"context": self.context, "letter": LETTER_WANTED if self.distractors else None}
        asked = {name: value for name, value in asked.items() if value}
        return row_id("asked", source=origin, **asked) if asked else origin

    def _problems_in(self, row: dict[str, Any]) -> Iterator[Problem | UnusableProblem]:
        """One, or one for each round of its conversation."""
        if self.context and str(row.get(self.context) or "").strip():
            row["question"] = f"{row[self.context]}\n{row['question']}"
        if isinstance(self.tolerance, str):
            row["tolerance"] = row.get(self.tolerance)
        if isinstance(self.relative_tolerance, str):
            row["relative"] = row.get(self.relative_tolerance)
        if self.distractors:
            row = self._with_choices(row)
        if not self.dialogue:
            yield self._checked(row)
            return
        from sq.eval.dialogue import turns_of

        turns = turns_of(row, self.dialogue, self.rounds)
        if isinstance(turns, str):
            yield UnusableProblem(key=row["id"], row=row, reason=DIALOGUE, detail=turns)
        else:
            yield from (self._checked(turn) for turn in turns)

    def _with_choices(self, row: dict[str, Any]) -> dict[str, Any]:
        """The question with its choices, in an order that follows from its id, and the right one's letter."""
        right = str(row.get("answer") or "").strip()
        choices = [right, *(str(row.get(column) or "").strip() for column in self.distractors)]
        if not all(choices):
            return {**row, "answer": ""}
        random.Random(row["id"]).shuffle(choices)
        listed = "\n".join(f"({letter}) {text}" for letter, text in zip(ascii_uppercase, choices, strict=False))
        return {
            **row,
            "question": f"{row['question'].strip()}\n\n{listed}\n\n{LETTER_WANTED}",
            "answer": ascii_uppercase[choices.index(right)],
            "choices": choices,
        }

    def _checked(self, row: dict[str, Any]) -> Problem | UnusableProblem:
        from sq.data.answers import last_boxed
        from sq.eval.tolerances import check_tolerance

        answer, solution = (row.get("answer") or "").strip(), row.get("solution")
        if self.expects == "numeric":
            answer = _DEGREES.sub("", answer.strip("$"))
        fault = None if answer else "there is no reference answer"
        if self.expects == "numeric" and not is_number(answer):
            fault = f"the reference {_shortened(answer)} is no number"
        if self.expects == "boxed" and not (isinstance(solution, str) and last_boxed(solution)):
            fault = "the solution has no answer in a box"
        try:
            check_tolerance(row, answer)
        except ValueError as error:
            fault = str(error)
        if fault:
            detail = f"row {row.get('source_row')}: {fault}"
            return UnusableProblem(key=row["id"], row=row, reason=REFERENCE, detail=detail)
        groups = {ours: _label(row[theirs]) for ours, theirs in self.groups.items() if row.get(theirs) is not None}
        return {**row, **groups, "answer": answer}


def is_number(text: str) -> bool:
    """Whether a reference is a single number: a sign, currency, thousands separators and a percent sign are allowed."""
    return bool(NUMBER.fullmatch(text.strip())) and any(c.isdigit() for c in text)


def _has_splits(path: str) -> bool:
    """Whether a split may be chosen in it: a directory of files, which is no stage's output and no single dataset."""
    return Path(path).is_dir() and not any((Path(path) / n).exists() for n in ("manifest.json", "dataset_info.json"))


def _label(value: Any) -> str:
    return str(value).removeprefix("Level ").removeprefix("college_math.").replace("_", " ").strip()


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
