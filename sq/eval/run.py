"""One evaluation: problems -> prompts -> engine -> graded rows in a ledger -> figures (paper, section 3.1: greedy pass@1).

Each benchmark has a directory of its own below `output_dir`. Every answer is kept; a run that was killed continues.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sq.core.chat import ChatFormat
from sq.core.config import flatten
from sq.core.ledger import Item, Ledger, Reject, read_rows
from sq.core.rows import SCORE, row_id
from sq.core.tracking import track
from sq.domains.base import Domain
from sq.engine.base import Engine, Request, Result, Sampling
from sq.eval.benchmarks import BenchmarkConfig
from sq.eval.config import EvalJob
from sq.eval.metrics import wilson
from sq.models.load import fingerprint, load_tokenizer

log = logging.getLogger(__name__)


def evaluate(job: EvalJob) -> dict[str, dict[str, float]]:
    """Run every benchmark of the job; the figures by benchmark."""
    model = fingerprint(job.model)
    chat = ChatFormat.from_tokenizer(load_tokenizer(job.model), job.model.chat, key="model.chat")
    figures = {}
    engine = _LazyEngine(job)
    try:
        with track(job.tracking, stage="evaluate", params=flatten(job), inputs=[]) as run:
            for name, benchmark in job.benchmark.items():
                figures[name] = _evaluate_one(job, benchmark, chat, engine, model, run.id)
                run.metrics({f"{name}/{key}": value for key, value in figures[name].items()})
    finally:
        engine.close()
    return figures


class _LazyEngine:
    """Starts the engine when the first request needs it: a finished run is read back without one."""

    def __init__(self, job: EvalJob) -> None:
        self._job = job
        self._engine: Engine | None = None

    def generate(self, requests: Iterator[Request]) -> Iterator[Result]:
        first = next(requests, None)
        if first is None:
            return
        if self._engine is None:
            self._engine = self._job.engine.create(self._job.model)

        def again() -> Iterator[Request]:
            yield first
            yield from requests

        yield from self._engine.generate(again())

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def _evaluate_one(
    job: EvalJob, benchmark: BenchmarkConfig, chat: ChatFormat, engine: _LazyEngine, model: str, run: str
) -> dict[str, float]:
    directory = Path(job.output_dir) / benchmark.name
    domain = benchmark.domain_of()
    sampling = Sampling(
        n=job.n, temperature=job.temperature, top_p=job.top_p, max_tokens=job.max_tokens, stop_token_ids=chat.answer_stop_ids
    )
    identity = {**flatten(benchmark), **flatten(sampling, "sampling"), "model": model, "seed": job.seed, "limit": job.limit}
    problems = {p["id"]: p for p in benchmark.problems(job.limit, job.seed)}
    with Ledger.open(directory, schema=SCORE, config=identity, inputs={}) as ledger:
        requests = (
            Request(
                key=item.key, sampling=sampling, seed=_seed(item.key, job.seed),
                prompt_ids=tuple(chat.answer_ids(item.payload["question"], instruction=domain.instruction)),
            )
            for item in ledger.todo(Item(key, problem) for key, problem in problems.items())
        )  # fmt: skip
        bar = tqdm(engine.generate(requests), total=len(problems), desc=benchmark.name, unit="problem", dynamic_ncols=True)
        for result in bar:
            problem = problems[result.key]
            if result.error:
                ledger.record(result.key, rejects=[Reject(row=problem, reason="engine", detail=result.error)])
            else:
                ledger.record(result.key, rows=list(_scores(benchmark, domain, problem, result, model, job.seed, run)))
        ledger.finish()
    figures = summarise(read_rows(directory))
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    log.info(
        "%s: %s problems in -> %s | accuracy %.1f%% (95%% interval %.1f to %.1f) | by steps: %s",
        benchmark.name, f"{len(problems):,}", directory, 100 * figures["accuracy"], 100 * low, 100 * high,
        ", ".join(f"{k.rpartition('_')[2]}: {100 * v:.0f}%" for k, v in figures.items() if k.startswith("accuracy_steps")),
    )  # fmt: skip
    return figures


def summarise(rows: Iterator[dict[str, Any]]) -> dict[str, float]:
    """Accuracy with its interval, in all and by steps; shares of cut-off and answerless replies."""
    right: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    cut = unparsed = tokens = 0
    for row in rows:
        groups = ["accuracy"] + ([f"accuracy_steps_{row['steps']}"] if row["steps"] is not None else [])
        for group in groups:
            right[group][0] += row["correct"]
            right[group][1] += 1
        cut += row["prediction_finish_reason"] == "length"
        unparsed += row["verdict"] == "unparsed"
        tokens += row["prediction_tokens"] or 0
    total = right["accuracy"][1]
    low, high = wilson(*right["accuracy"])
    shares = {group: good / count if count else 0.0 for group, (good, count) in sorted(right.items())}
    rates = {"cut_off": cut / max(total, 1), "unparsed": unparsed / max(total, 1), "tokens": float(tokens)}
    return {**shares, "accuracy_low": low, "accuracy_high": high, **rates, "answers": float(total)}


def _scores(
    benchmark: BenchmarkConfig, domain: Domain, problem: dict[str, Any], result: Result, model: str, seed: int, run: str
) -> Iterator[dict[str, Any]]:
    known = {k: v for k, v in problem.items() if k in SCORE.names}
    for sample, completion in enumerate(result.completions):
        extracted = domain.final_answer(completion.text)
        correct = extracted is not None and domain.check(extracted, problem["answer"])
        yield {
            **known,
            "id": row_id("score", benchmark=benchmark.name, item=problem["id"], model=model, seed=seed, sample=sample),
            "run": run,
            "model": model,
            "seed": seed,
            "parents": [problem["id"]],
            "benchmark": benchmark.name,
            "item": problem["id"],
            "sample": sample,
            "profile": "exact",
            "prediction": completion.text,
            "reference": problem["answer"],
            "extracted": extracted,
            "correct": correct,
            "verdict": "unparsed" if extracted is None else "correct" if correct else "wrong",
            "prediction_model": model,
            "prediction_finish_reason": completion.finish_reason,
            "prediction_tokens": completion.tokens,
            "prediction_prompt_tokens": result.prompt_tokens,
        }


def _seed(key: str, seed: int) -> int:
    return int(row_id("seed", key=key, seed=seed)[:8], 16)
