"""One evaluation: problems, answers, grades, metrics (paper, section 3.1: zero-shot, greedy, pass@1).

Each benchmark has a directory below `output_dir`: `answers/` and `scores/` are ledgers, `disagreements.jsonl` lists
what the graders do not agree on. A run that was killed continues; a finished one is read back without an engine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sq.core.config import flatten
from sq.core.ledger import LedgerSummary
from sq.core.tracking import DataRef, ModelRef, Run, track
from sq.engine.base import Sampling
from sq.eval.answer import LazyEngine, answer_all, answers_dir
from sq.eval.benchmarks import BenchmarkConfig, GradingConfig
from sq.eval.export import ExportedBenchmark, export
from sq.eval.paper import base_of
from sq.eval.prompting import RequestBuilder
from sq.eval.report import flat_metrics, format_report, metric_rows, summarize
from sq.eval.rewards import reward
from sq.eval.score import score, scores_dir
from sq.eval.settings import EvalSettings

log = logging.getLogger(__name__)


def evaluate(job: EvalSettings) -> dict[str, dict[str, float]]:
    """Run every benchmark of the job; the metrics by benchmark."""
    started, output = time.monotonic(), Path(job.output_dir)
    problems = {name: benchmark.load(job.limit, job.seed) for name, benchmark in job.benchmark.items()}
    builders = {name: _request_builder(job, benchmark) for name, benchmark in job.benchmark.items()}
    _warn_of_context(job, builders)
    inputs = [DataRef(name=name, digest=p.digest, rows=len(p.by_id)) for name, p in problems.items()]
    grading = GradingConfig(profiles=job.profiles, grader=job.grader, sandbox=job.sandbox)
    with track(job.tracking, stage="evaluate", params=flatten(job), inputs=inputs, directory=job.output_dir) as run:
        engine = LazyEngine(config=job.engine, model=job.model)
        answers = answer_all(problems, builders, engine, output, run=run.id, retry=job.retry_engine_rejects)
        _record_answers(run, output, answers)
        rewards, checkers = {}, {n: benchmark.checker(problems[n], grading) for n, benchmark in job.benchmark.items()}
        for name, checker in checkers.items():
            scored = score(output / name, answers[name], checker)
            run.output(f"{name} scores", scores_dir(output / name), digest=scored.digest, rows=scored.rows)
            if job.reward is not None and job.reward_engine is not None:
                rewards[name] = reward(
                    output / name, answers[name], job.reward, job.reward_engine, run.id, retry=job.retry_engine_rejects
                )
        summaries = []
        for name, checker in checkers.items():
            left_out = len(problems[name].unusable)
            with closing(checker):
                of_one = summarize(
                    name, output / name, checker.vote, ks=job.k, rewards=rewards.get(name), left_out=left_out
                )
            summaries.append(of_one)
        model = ModelRef(name=job.model.name, path=job.model.path, digest=engine.identity)
        if job.export:
            exported = {
                name: ExportedBenchmark(
                    form=getattr(benchmark, "form", ""),
                    shots=builders[name].shots,
                    prompts={item: builders[name].prompt_text(p) for item, p in problems[name].by_id.items()},
                )
                for name, benchmark in job.benchmark.items()
            }
            export(job.export, output, exported, job.model.name)
        base = base_of(job.base or "", job.model.name, job.model.path)
        for summary in summaries:
            values = {f"{summary.name}/{key}": value for key, value in flat_metrics(summary).items()}
            run.model(model, values, next(data for data in inputs if data.name == summary.name))
        run.table("figures", metric_rows(summaries, base))
        if differing := [row for summary in summaries for row in summary.disagreements]:
            run.table("disagreements", [{**row, "prediction": row["prediction"][-2000:]} for row in differing])
    print(format_report(summaries, base))
    log.info("evaluated in %.0f s; answers and scores are in %s", time.monotonic() - started, job.output_dir)
    return {summary.name: flat_metrics(summary) for summary in summaries}


def _request_builder(job: EvalSettings, benchmark: BenchmarkConfig) -> RequestBuilder:
    return RequestBuilder(
        model=job.model,
        form=benchmark.form_of(job.formats.get(job.model.name, job.format)),
        sampling=Sampling(n=job.n, temperature=job.temperature, top_p=job.top_p, max_tokens=job.max_tokens),
        seed=job.seed,
        instruction=benchmark.instruction,
        ids=job.engine.reads_ids,
    )


def _warn_of_context(job: EvalSettings, builders: Mapping[str, RequestBuilder]) -> None:
    """Warn where the longest answer and the shortest prompt do not fit into the context together."""
    shortest = min((n for b in builders.values() if (n := b.shortest()) is not None), default=0)
    if warning := job.engine.too_long(job.model, max_tokens=job.max_tokens, prompt=shortest, setting="max_tokens"):
        log.warning("%s", warning)


def _record_answers(run: Run, output: Path, answers: Mapping[str, list[LedgerSummary]]) -> None:
    for name, rounds in answers.items():
        for number, summary in enumerate(rounds, 1):
            where = answers_dir(output / name, number)
            run.output(f"{name} answers", where, digest=summary.digest, rows=summary.rows)
