"""Benchmarks: where their problems come from, which of them can be used, and how an answer to one is checked.

The paper's four (section 3.1) and more are `conf/benchmark/*.yaml`; `benchmark.NAME.path=FILE` reads a local file in
place of the hub. A problem without a usable reference is rejected, named and counted, never scored as wrong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sq.core.config import setting
from sq.core.errors import ConfigError, RowError
from sq.core.rows import content_id, row_id
from sq.domains.base import DomainConfig
from sq.eval.checkers import AnswerChecker, DomainChecker
from sq.eval.prompting import FormatConfig
from sq.sandbox.config import SandboxConfig

if TYPE_CHECKING:
    from sq.data.sources import SourceConfig

log = logging.getLogger(__name__)
NUMBER = re.compile(r"[-+]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?\.?\d*(?:[eE][-+]?\d+)?%?")
MAX_LOGGED = 5
"""Problems without a usable reference that are named in the log; all of them are in the rejects."""


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

    by_id: dict[str, dict[str, Any]]
    unusable: list[UnusableProblem] = field(default_factory=list)
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Base of the benchmarks' configs."""

    name: str = setting(help="short name, used in paths and tables")

    def load(self, limit: int | None, seed: int) -> Problems:
        """Read the problems: each has `id`, `question`, `answer` and what there is to group them by."""
        raise TypeError(f"benchmark {self.name} has no problems of its own")

    @property
    def instruction(self) -> str | None:
        """What is added to its questions, in place of the format's words; none: those."""
        return None

    def form_of(self, form: FormatConfig) -> FormatConfig:
        """How its questions are put, given how the run's are."""
        return form

    def checker(self, problems: Problems, sandbox: SandboxConfig) -> AnswerChecker | None:
        """The check of its own that decides, which may run programs in a sandbox; none: the graders do."""
        return None


@dataclass(frozen=True, kw_only=True)
class DomainBenchmark(BenchmarkConfig):
    """Held-out problems of a domain that makes its own; the domain's exact check decides."""

    domain: DomainConfig
    count: int = setting(500, ge=1, help="problems")

    def load(self, limit: int | None, seed: int) -> Problems:
        rows = self.domain.create().seeds(min(limit or self.count, self.count), seed, "test")
        found = {content_id({"question": row["question"]}): row for row in rows}
        return Problems(by_id={key: {"id": key, **row} for key, row in found.items()}, digest=f"{self.name}-{seed}")

    @property
    def instruction(self) -> str:
        return self.domain.create().instruction

    def checker(self, problems: Problems, sandbox: SandboxConfig) -> AnswerChecker:
        return DomainChecker(self.domain.create())


@dataclass(frozen=True, kw_only=True)
class ProblemSet(BenchmarkConfig):
    """Problems with reference answers, from the hub or from a file."""

    path: str | None = setting(None, help="a local file or directory in place of the hub")
    hub: str | None = setting(None, help="dataset on the Hugging Face hub")
    subset: str | None = setting(None, help="its configuration, where it has several")
    split: str | None = setting("test", help="its split")
    revision: str | None = setting(None, help="its commit, branch or tag")
    form: str = setting("auto", choices=("auto", "gsm8k", "math", "plain"), help="how answers are written")
    columns: dict[str, str] = setting({}, help="our column -> their name for it")
    header: bool = setting(True, help="csv, tsv: the first line has the names")
    groups: dict[str, str] = setting({}, help="level, topic, source -> their column; scores are given by each")
    expects: str = setting("any", choices=("any", "numeric", "boxed"), help="what every reference must be")
    tolerance: str | None = setting(None, help="their column with the absolute error a reference allows")
    dialogue: str | None = setting(None, help="their column with a conversation (MathChat)")
    rounds: int = setting(1, ge=1, help="questions of a conversation; the model's own replies stand between them")

    def __post_init__(self) -> None:
        for column in self.groups.keys() - {"level", "topic", "source"}:
            raise ValueError(f"groups.{column}: groups are level, topic and source")

    def load(self, limit: int | None, seed: int) -> Problems:
        from sq.data.sources import SourceConfig

        if not self.path and not self.hub:
            raise ConfigError(f"benchmark {self.name} is on no hub; say where it is: benchmark.{self.name}.path=FILE")
        source = SourceConfig(
            input=self.path or self.hub,
            columns=self.columns or None,
            limit=limit,
            split=None if self.path else self.split,
            subset=None if self.path else self.subset,
            revision=None if self.path else self.revision,
            form=self.form,
            header=self.header,
        )
        need = ("question", "solution" if self.form == "math" else "answer")
        rows, unusable, origin = read_published(self.name, source, need, local=bool(self.path))
        found = Problems(by_id={}, unusable=unusable, digest=origin)
        for row in rows:
            for problem in self._problems(row):
                if isinstance(problem, UnusableProblem):
                    found.unusable.append(problem)
                else:
                    found.by_id[problem["id"]] = problem
        self._report(found)
        return found

    def _problems(self, row: dict[str, Any]) -> Iterator[dict[str, Any] | UnusableProblem]:
        """The problems in a row: one, or one for each round of its conversation."""
        if self.tolerance:
            row["tolerance"] = row.get(self.tolerance)
        if self.dialogue:
            from sq.eval.dialogue import turns_of

            turns = turns_of(row, self.dialogue, self.rounds)
            if isinstance(turns, str):
                yield UnusableProblem(key=row["id"], row=row, reason="dialogue", detail=turns)
                return
            yield from (self._checked(turn) for turn in turns)
        else:
            yield self._checked(row)

    def _checked(self, row: dict[str, Any]) -> dict[str, Any] | UnusableProblem:
        from sq.data.answers import last_boxed

        answer, solution = (row.get("answer") or "").strip(), row.get("solution")
        problem = None if answer else "there is no reference answer"
        if self.expects == "numeric" and not is_number(answer):
            problem = f"the reference {_shortened(answer)} is no number"
        if self.expects == "boxed" and not (isinstance(solution, str) and last_boxed(solution)):
            problem = "the solution has no answer in a box"
        if problem:
            return UnusableProblem(
                key=row["id"], row=row, reason="reference", detail=f"row {row.get('source_row')}: {problem}"
            )
        groups = {ours: _label(row[theirs]) for ours, theirs in self.groups.items() if row.get(theirs) is not None}
        return {**row, **groups, "answer": answer}

    def _report(self, found: Problems) -> None:
        odd = [b for b in found.unusable if b.reason in ("reference", "dialogue")]
        if not found.by_id:
            reasons = "; ".join(b.detail for b in odd[:MAX_LOGGED])
            raise RowError(f"benchmark {self.name} has no usable problem: {reasons}")
        if odd:
            more = f" and {len(odd) - MAX_LOGGED} more, in the rejects" if len(odd) > MAX_LOGGED else ""
            reasons = "; ".join(b.detail for b in odd[:MAX_LOGGED])
            total = len(odd) + len(found.by_id)
            log.warning("%s: %d of %d problems are left out: %s%s", self.name, len(odd), total, reasons, more)


def read_published(
    name: str, source: SourceConfig, need: tuple[str, ...], *, local: bool
) -> tuple[list[dict[str, Any]], list[UnusableProblem], str]:
    """The rows of benchmark `name`, what is no row of it, and a digest of where they came from."""
    from sq.data.readers import BadRow
    from sq.data.sources import digest, read_source

    unread: list[BadRow] = []
    try:
        rows, origin = list(read_source(source, need, unread)), digest(source)
    except RowError as error:
        fix = "" if local else f". A local copy is read with benchmark.{name}.path=FILE"
        raise RowError(f"benchmark {name}: {error}{fix}") from error
    unusable = [
        UnusableProblem(key=row_id("bad", file=b.file, line=b.line), row=b.row(), reason=b.reason, detail=b.detail)
        for b in unread
    ]
    return rows, unusable, origin


def is_number(text: str) -> bool:
    """Whether a reference is a single number: a sign, currency, thousands separators and a percent sign are allowed."""
    return bool(NUMBER.fullmatch(text.strip())) and any(c.isdigit() for c in text)


def _label(value: Any) -> str:
    return str(value).removeprefix("Level ").removeprefix("college_math.").replace("_", " ").strip()


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
