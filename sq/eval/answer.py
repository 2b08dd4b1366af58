"""The costly half of an evaluation: every problem answered once, each answer kept in a ledger of its own.

Grading is another ledger beside it (`score.py`), so a better grader never asks for a model's answers again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from sq.core.config import flatten
from sq.core.count import count_noun
from sq.core.ledger import Ledger, LedgerSummary, Reject, WorkItem, read_rows
from sq.core.retry import Retry
from sq.core.rows import SCORE, fit_row, row_id
from sq.engine.base import Engine, Request, Result, Sampling
from sq.engine.config import EngineConfig
from sq.engine.failures import FailureLimit, has_failed, unfinished
from sq.eval.benchmarks import Problems, UnusableProblem
from sq.eval.outdated import archive_if_outdated
from sq.eval.prompting import RequestBuilder
from sq.models.load import ModelConfig

log = logging.getLogger(__name__)
GRADED = ("profile", "extracted", "correct", "verdict", "reason")
ANSWER = pa.schema([f for f in SCORE if f.name not in GRADED])
"""A score's row before it is graded."""


class LazyEngine:
    """Starts the engine when the first request needs it: a finished run is read back without one."""

    def __init__(self, config: EngineConfig, model: ModelConfig) -> None:
        self._config, self._model = config, model
        self.limit, self.reject_failed = FailureLimit(config), config.reject_failed
        self._engine: Engine | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """As `sq.engine.base.Engine.generate`."""
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return
        if self._engine is None:
            self._engine = self._config.create(self._model)
        yield from self._engine.generate(chain([first], requests))

    def close(self) -> None:
        """Free it, if it was started."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """What decides a model's answers, the same for every benchmark of a run."""

    model: str
    engine: Mapping[str, Any]
    """What of the engine decides them."""
    sampling: Sampling
    seed: int
    run: str
    retry: bool = False
    """Whether to ask again what could not be answered in an earlier run."""

    def identity(self, asker: RequestBuilder) -> dict[str, Any]:
        """Flat and plain, for the ledger."""
        return {
            **self.engine,
            **flatten(self.sampling, "sampling"),
            "model": self.model,
            "prompt": asker.digest,
            "seed": self.seed,
        }


def answer(
    name: str, problems: Problems, directory: Path, asker: RequestBuilder, engine: LazyEngine, how: AnswerSettings
) -> list[LedgerSummary]:
    """Fill the ledgers of a benchmark's answers, one for each round of a conversation."""
    by_round: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for problem in problems.by_id.values():
        by_round[problem.get("round", 1)].append(problem)
    if any(problem.get("messages") for problem in problems.by_id.values()):
        asker.check_dialogue(name)
    replies: dict[str, list[str]] = {}
    summaries: list[LedgerSummary] = []
    for number, in_round in sorted(by_round.items()):
        where = answers_dir(directory, number)
        unusable = problems.unusable if number == 1 else []
        inputs = {"problems": problems.digest, **({"before": summaries[-1].digest} if summaries else {})}
        if summaries:
            archive_if_outdated(where, inputs)
        summaries.append(_round(name, in_round, unusable, where, asker, engine, how, inputs, replies))
        if number < len(by_round):
            for row in read_rows(where, columns=["item", "sample", "parents", "prediction"]):
                if row["sample"] == 0:
                    replies.setdefault(row["parents"][-1], []).append(row["prediction"])
    return summaries


def answers_dir(directory: Path, number: int = 1) -> Path:
    """Where the answers of a round are."""
    return directory / ("answers" if number == 1 else f"answers-{number}")


def _round(
    name: str,
    problems: list[dict[str, Any]],
    unusable: list[UnusableProblem],
    where: Path,
    asker: RequestBuilder,
    engine: LazyEngine,
    how: AnswerSettings,
    inputs: dict[str, str],
    replies: dict[str, list[str]],
) -> LedgerSummary:
    by_id = {p["id"]: p for p in problems}
    identity = {**how.identity(asker), "benchmark": name, "problems": len(problems)}
    items = chain((WorkItem(p["id"], p) for p in problems), (WorkItem(b.key, b) for b in unusable))
    retry = Retry(row=lambda row: row["prediction_finish_reason"] == "error") if how.retry else None
    with Ledger.open(where, schema=ANSWER, config=identity, inputs=inputs, retry=retry) as ledger:

        def requests() -> Iterator[Request]:
            for item in ledger.todo(items):
                if isinstance(item.payload, UnusableProblem):
                    reject = Reject(row=item.payload.row, reason=item.payload.reason, detail=item.payload.detail)
                    ledger.record(item.key, rejects=[reject])
                else:
                    said = replies.get(_first_of(item.payload), [])
                    yield asker.request(item.payload, how.sampling, how.seed, said)

        bar, refused, failures = None, 0, list[str]()
        for result in engine.limit.watch(engine.generate(requests())):
            bar = bar or tqdm(desc=name, total=len(problems), unit="problem", dynamic_ncols=True)
            if has_failed(result) and not engine.reject_failed:
                failures.append(str(result.error))
                continue
            ledger.record(result.key, rows=list(_rows(name, by_id[result.key], result, asker, how)))
            refused += result.error is not None
            bar.update()
        if bar is not None:
            bar.close()
        if refused:
            log.warning("%s: the engine could not answer %s, counted as wrong", name, count_noun(refused, "problem"))
        if failures:
            done, left = count_noun(ledger.done, "problem"), count_noun(len(failures), "problem")
            raise unfinished(f"{name}: {done} done, {left} left -> {where}", failures)
        return ledger.finish()


def _first_of(problem: dict[str, Any]) -> str:
    """The id of the conversation that a problem belongs to: its first question's."""
    return str(problem["parents"][-1]) if problem.get("round", 1) > 1 else str(problem["id"])


def _rows(
    name: str, problem: dict[str, Any], result: Result, asker: RequestBuilder, how: AnswerSettings
) -> Iterator[dict[str, Any]]:
    """One row for each answer; a problem that the engine could not answer has `n` empty ones, so that it counts."""
    known = {k: v for k, v in problem.items() if k not in ("messages", "tolerance", "round", "code")}
    given = {**how.identity(asker), "benchmark": name, "item": problem["id"]}
    for sample in range(how.sampling.n):
        said = result.completions[sample] if sample < len(result.completions) else None
        row = {
            **known,
            "id": row_id("answer", **given, sample=sample),
            "run": how.run,
            "model": how.model,
            "seed": how.seed,
            "parents": [problem["id"], *(problem.get("parents") or [])],
            "benchmark": name,
            "item": problem["id"],
            "sample": sample,
            "prediction": said.text if said else "",
            "reference": problem["answer"],
            "prediction_model": how.model,
            "prediction_prompt": asker.digest,
            "prediction_finish_reason": said.finish_reason if said else "error",
            "prediction_tokens": said.tokens if said else 0,
            "prediction_prompt_tokens": result.prompt_tokens,
        }
        if said is None:
            row["engine_error"] = result.error or "no answer came back"
        yield fit_row(row, ANSWER)
