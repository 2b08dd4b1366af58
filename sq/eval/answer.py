"""The costly half of an evaluation: every problem answered once, each answer kept in a ledger of its own.

Grading is another ledger beside it (`score.py`), so a better grader never asks for a model's answers again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from sq.core.count import count_noun
from sq.core.errors import UnfinishedError
from sq.core.ledger import Ledger, LedgerSummary, Reject, WorkItem, read_rows
from sq.core.manifest import load_manifest
from sq.core.progress import Progress
from sq.core.retry import Retry
from sq.core.rows import SCORE, fit_row, row_id
from sq.engine.base import Engine, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.engine.failures import FailureLimit, has_failed, unfinished
from sq.eval.benchmarks import Problems, UnusableProblem
from sq.eval.prompting import RequestBuilder
from sq.models.load import ModelConfig

log = logging.getLogger(__name__)
Q = TypeVar("Q", Request, ScoreRequest)
R = TypeVar("R", Result, ScoreResult)
GRADED = ("profile", "extracted", "correct", "verdict", "reason")
ANSWER = pa.schema([f for f in SCORE if f.name not in GRADED])
"""A score's row before it is graded."""


@dataclass(kw_only=True)
class LazyEngine:
    """Starts the engine when the first request needs it: a finished run is read back without one."""

    config: EngineConfig
    model: ModelConfig
    retry: bool = False
    """Whether what it could not answer in an earlier run is asked again."""
    _engine: Engine | None = field(default=None, init=False)

    @cached_property
    def identity(self) -> str:
        """The name of the model in rows and ledgers."""
        return self.config.identity(self.model)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What of the engine and its model decides answers."""
        return {**self.config.fingerprint_fields(self.model), "model": self.identity}

    @cached_property
    def _limit(self) -> FailureLimit:
        """The share of requests that may fail."""
        return FailureLimit(self.config)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """As `sq.engine.base.Engine.generate`, watched for failures."""
        return self._ask(requests, lambda engine, asked: engine.generate(asked))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """The same with a model that scores."""
        return self._ask(requests, lambda engine, asked: engine.score(asked))

    def _ask(self, requests: Iterable[Q], ask: Callable[[Engine, Iterable[Q]], Iterator[R]]) -> Iterator[R]:
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return
        if self._engine is None:
            self._engine = self.config.create(self.model)
        yield from self._limit.watch(ask(self._engine, chain([first], requests)))

    def close(self) -> None:
        """Free it, if it was started."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkAnswers:
    """A benchmark's answers, by the rounds of a conversation, and how they are read."""

    rounds: Sequence[LedgerSummary]
    as_graded: Callable[[str], str]
    """Makes of a reply what graders read."""
    reasoning: Mapping[str, Any]
    """What that goes by."""

    @property
    def digests(self) -> dict[str, str]:
        """What a ledger made of them is made from."""
        return {f"answers-{n}": summary.digest for n, summary in enumerate(self.rounds, 1)}

    @property
    def count(self) -> int:
        """Answers in all rounds."""
        return sum(summary.rows for summary in self.rounds)


def answer_all(
    problems: Mapping[str, Problems],
    builders: Mapping[str, RequestBuilder],
    engine: LazyEngine,
    output_dir: Path,
    *,
    run: str,
) -> dict[str, BenchmarkAnswers]:
    """Answer every benchmark's problems by one engine, which is freed before anything is graded.

    Args:
        problems: by benchmark.
        builders: what makes a benchmark's problems into requests.
        engine: answers them.
        output_dir: the benchmarks' directories are in it.
        run: the id of the run that the answers are of.

    Returns:
        The answers by benchmark.
    """
    answers: dict[str, BenchmarkAnswers] = {}
    unfinished_benchmarks: list[str] = []
    try:
        for name, of_one in problems.items():
            answering = _Answering(name=name, builder=builders[name], engine=engine, run=run)
            try:
                answers[name] = BenchmarkAnswers(
                    rounds=answering.answer(of_one, output_dir / name),
                    as_graded=builders[name].as_graded, reasoning=builders[name].reasoning,
                )  # fmt: skip
            except UnfinishedError as error:  # the other benchmarks need not wait for it
                unfinished_benchmarks.append(str(error))
    finally:
        engine.close()
    if unfinished_benchmarks:
        raise UnfinishedError("\n".join(unfinished_benchmarks))
    return answers


def answers_dir(directory: Path, number: int = 1) -> Path:
    """Where the answers of a round are."""
    return directory / ("answers" if number == 1 else f"answers-{number}")


def read_answers(directory: Path, rounds: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The answers of a benchmark, round by round."""
    for number in range(1, rounds + 1):
        yield from read_rows(answers_dir(directory, number), columns=columns)


def archive_if_outdated(where: Path, inputs: Mapping[str, str], config: Mapping[str, str] | None = None) -> None:
    """Rename the ledger at `where` (never deleted) if it was filled from other inputs, or by another `config`."""
    manifest = load_manifest(where)
    if manifest is None or (manifest.inputs == inputs and config in (None, manifest.config)):
        return
    name = f"{where.name}-{manifest.config.get('grader', 'before')}"
    target = next(p for n in range(1, 1000) if not (p := where.with_name(f"{name}-{n}")).exists())
    where.rename(target)
    log.warning("%s is of other answers%s; kept as %s, and filled again", where,
                "" if config is None else ", or of another grader or profiles", target.name)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Round:
    """The problems that are asked together, and the model's replies to those of earlier rounds, by conversation."""

    problems: dict[str, dict[str, Any]]
    unusable: Sequence[UnusableProblem]
    replies: Mapping[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """One benchmark being answered."""

    name: str
    builder: RequestBuilder
    engine: LazyEngine
    run: str

    @property
    def identity(self) -> dict[str, Any]:
        """What decides an answer, flat and plain, for the ledger."""
        return {**self.engine.fingerprint, **self.builder.fingerprint, "benchmark": self.name}

    def answer(self, problems: Problems, directory: Path) -> list[LedgerSummary]:
        """Fill the ledgers of a benchmark's answers, one for each round of a conversation."""
        by_round: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
        for key, problem in problems.by_id.items():
            by_round[problem.get("round", 1)][key] = problem
        if any(problem.get("messages") for problem in problems.by_id.values()):
            self.builder.check_dialogue(self.name)
        replies: dict[str, list[str]] = defaultdict(list)
        summaries: list[LedgerSummary] = []
        for number, asked in sorted(by_round.items()):
            where, inputs = answers_dir(directory, number), {"problems": problems.digest}
            if summaries:
                inputs["before"] = summaries[-1].digest
                archive_if_outdated(where, inputs)
            unusable = problems.unusable if number == 1 else []
            summaries.append(self._fill(where, inputs, _Round(problems=asked, unusable=unusable, replies=replies)))
            if number < len(by_round):
                for row in read_rows(where, columns=["item", "sample", "parents", "prediction"]):
                    if row["sample"] == 0:
                        replies[row["parents"][-1]].append(row["prediction"])
        return summaries

    def _fill(self, where: Path, inputs: Mapping[str, str], asked: _Round) -> LedgerSummary:
        """Fill the ledger of one round."""
        identity = {**self.identity, "problems": len(asked.problems)}
        if examples := self.builder.count_examples(asked.problems.values()):
            identity["shown"] = examples  # asked without that example: not what an earlier version asked
            log.warning(
                "%s: %s of the worked examples of format=%s is asked too; it is asked without that example",
                self.name, count_noun(examples, "problem"), self.builder.form.name,
            )  # fmt: skip
        retry = Retry(row=lambda row: row["prediction_finish_reason"] == "error") if self.engine.retry else None
        refused, failures = 0, list[str]()
        with (
            Ledger.open(where, schema=ANSWER, config=identity, inputs=inputs, retry=retry) as ledger,
            Progress(where, self.name, "problem", total=len(asked.problems), done=lambda: ledger.done) as progress,
        ):
            for result in self.engine.generate(self._requests(ledger, asked)):
                if has_failed(result) and not self.engine.config.reject_failed:
                    failures.append(str(result.error))
                    continue
                ledger.record(result.key, rows=list(self._rows(asked.problems[result.key], result)))
                refused += result.error is not None
                progress.update()
            if refused:
                problems = count_noun(refused, "problem")
                log.warning("%s: the engine could not answer %s, counted as wrong", self.name, problems)
            if failures:
                done, left = count_noun(ledger.done, "problem"), count_noun(len(failures), "problem")
                raise unfinished(f"{self.name}: {done} done, {left} left -> {where}", failures)
            return ledger.finish()

    def _requests(self, ledger: Ledger, asked: _Round) -> Iterator[Request]:
        """The requests that have no answer yet; problems that cannot be used are rejected on the way."""
        items = chain(
            (WorkItem(key, problem) for key, problem in asked.problems.items()),
            (WorkItem(problem.key, problem) for problem in asked.unusable),
        )
        for item in ledger.todo(items):
            problem = item.payload
            if isinstance(problem, UnusableProblem):
                reject = Reject(row=problem.row, reason=problem.reason, detail=problem.detail)
                ledger.record(item.key, rejects=[reject])
            else:
                conversation = problem["parents"][-1] if problem.get("round", 1) > 1 else problem["id"]
                yield self.builder.request(problem, asked.replies.get(conversation, []))

    def _rows(self, problem: dict[str, Any], result: Result) -> Iterator[dict[str, Any]]:
        """One row for each answer; a problem that the engine could not answer has `n` empty ones: it counts."""
        columns = {
            k: v
            for k, v in problem.items()
            if k not in ("messages", "tolerance", "relative", "round", "code", "choices")
        }
        for sample in range(self.builder.sampling.n):
            completion = result.completions[sample] if sample < len(result.completions) else None
            row = {
                **columns,
                "id": row_id("answer", **self.identity, item=problem["id"], sample=sample),
                "run": self.run,
                "model": self.engine.identity,
                "seed": self.builder.seed,
                "parents": [problem["id"], *(problem.get("parents") or [])],
                "benchmark": self.name,
                "item": problem["id"],
                "sample": sample,
                "prediction": completion.text if completion else "",
                "reference": problem["answer"],
                "prediction_model": self.engine.identity,
                "prediction_prompt": self.builder.digest,
                "prediction_finish_reason": completion.finish_reason if completion else "error",
                "prediction_tokens": completion.tokens if completion else 0,
                "prediction_prompt_tokens": result.prompt_tokens,
            }
            if completion is None:
                row["engine_error"] = result.error or "no answer came back"
            yield fit_row(row, ANSWER)
