"""One evaluation: problems, answers, grades, metrics (paper, section 3.1: zero-shot, greedy, pass@1).

Each benchmark has a directory below `output_dir`: `answers/` and `scores/` are ledgers, `disagreements.jsonl` lists
what the graders do not agree on. A run that was killed continues; a finished one is read back without an engine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from sq.core.config import flatten
from sq.core.tracking import DataRef, ModelRef, Run, track
from sq.engine.base import Sampling
from sq.eval.answer import BenchmarkAnswers, LazyEngine, answer_all, answers_dir
from sq.eval.benchmarks import BenchmarkConfig, GradingConfig, Problems
from sq.eval.export import ExportedBenchmark, export
from sq.eval.prompting import RequestBuilder
from sq.eval.report import BenchmarkSummary, flat_metrics, format_report, metric_rows, summarize
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
    grading = GradingConfig(profiles=job.profiles, grader=job.grader, sandbox=job.sandbox)
    inputs = {name: DataRef(name=name, digest=p.digest, rows=len(p.by_id)) for name, p in problems.items()}
    tracking = replace(job.tracking, run_name=job.tracking.run_name or f"evaluate {job.model.name}")
    with track(tracking, stage="evaluate", params=flatten(job), inputs=inputs.values(), directory=output) as run:
        engine = LazyEngine(config=job.engine, model=job.model, retry=job.retry_engine_rejects)
        answers = answer_all(problems, builders, engine, output, run=run.id)
        _record_answers(run, output, answers)
        scorer = LazyEngine(
            config=job.reward_engine or job.engine, model=job.reward or job.model, retry=job.retry_engine_rejects
        )
        summaries = []
        with closing(scorer):
            for name, benchmark in job.benchmark.items():
                with closing(benchmark.checker(problems[name], grading)) as checker:
                    scored = score(output / name, answers[name], checker)
                    run.output(f"{name} scores", scores_dir(output / name), digest=scored.digest, rows=scored.rows)
                    rewards = reward(output / name, answers[name], scorer, run.id) if job.reward else None
                    summaries.append(summarize(
                        name, output / name, checker.vote, ks=job.k, rewards=rewards,
                        left_out=len(problems[name].unusable), base=job.paper_base,
                    ))  # fmt: skip
        if job.export:
            export(job.export, output, _exported(job, problems, builders), job.model.name)
        model = ModelRef(name=job.model.name, path=job.model.path, digest=engine.identity)
        _record_metrics(run, model, inputs, summaries)
    print(format_report(summaries))
    log.info("evaluated in %.0f s; answers and scores are in %s", time.monotonic() - started, output)
    return {summary.name: flat_metrics(summary) for summary in summaries}


def _request_builder(job: EvalSettings, benchmark: BenchmarkConfig) -> RequestBuilder:
    form = benchmark.form_of(job.formats.get(job.model.name, job.format))
    if form.shots is not None and benchmark.instruction is not None:
        asked = "%s has an instruction of its own: it is asked without the worked examples of format=%s"
        log.warning(asked, benchmark.name, form.name)
    return RequestBuilder(
        model=job.model,
        form=form,
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


def _record_answers(run: Run, output: Path, answers: Mapping[str, BenchmarkAnswers]) -> None:
    for name, own in answers.items():
        for number, summary in enumerate(own.rounds, 1):
            where = answers_dir(output / name, number)
            run.output(f"{name} answers", where, digest=summary.digest, rows=summary.rows)


def _exported(
    job: EvalSettings, problems: Mapping[str, Problems], builders: Mapping[str, RequestBuilder]
) -> dict[str, ExportedBenchmark]:
    return {
        name: ExportedBenchmark(
            form=getattr(benchmark, "form", ""),
            shots=builders[name].shots,
            prompts={item: builders[name].prompt_text(p) for item, p in problems[name].by_id.items()},
            messages={item: builders[name].prompt_messages(p) for item, p in problems[name].by_id.items()},
        )
        for name, benchmark in job.benchmark.items()
    }


def _record_metrics(
    run: Run, model: ModelRef, inputs: Mapping[str, DataRef], summaries: Sequence[BenchmarkSummary]
) -> None:
    for summary in summaries:
        values = {f"{summary.name}/{key}": value for key, value in flat_metrics(summary).items()}
        run.model(model, values, inputs[summary.name])
    run.table("figures", metric_rows(summaries))
    if differing := [row for summary in summaries for row in summary.disagreements]:
        run.table("disagreements", [{**row, "prediction": row["prediction"][-2000:]} for row in differing])
