"""One evaluation, from problems to figures: answer, grade, report (paper, section 3.1: zero-shot, greedy, pass@1).

Each benchmark has a directory below `output_dir`: `answers/` and `scores/` are ledgers, `disagreements.jsonl` lists
what the graders do not agree on. A run that was killed continues; a finished one is read back without an engine.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from sq.core.config import flatten
from sq.core.errors import UnfinishedError
from sq.core.ledger import LedgerSummary
from sq.core.retry import Retry
from sq.core.tracking import DataRef, Run, track
from sq.engine.base import Sampling
from sq.eval.answer import AnswerSettings, LazyEngine, answer, answers_dir
from sq.eval.benchmarks import Problems
from sq.eval.config import EvalJob
from sq.eval.paper import base_of
from sq.eval.prompting import RequestBuilder
from sq.eval.report import (
    BenchmarkSummary,
    disagreements,
    flat_metrics,
    format_details,
    format_table,
    metric_rows,
    write_jsonl,
)
from sq.eval.rewards import reward
from sq.eval.score import LazyGrader, score, scores_dir, tolerance_of

log = logging.getLogger(__name__)


def evaluate(job: EvalJob) -> dict[str, dict[str, float]]:
    """Run every benchmark of the job; the figures by benchmark."""
    started = time.monotonic()
    problems = {name: benchmark.load(job.limit, job.seed) for name, benchmark in job.benchmark.items()}
    askers = {name: _asker(job, name) for name in problems}
    inputs = [DataRef(name=name, digest=p.digest, rows=len(p.by_id)) for name, p in problems.items()]
    with track(job.tracking, stage="evaluate", params=flatten(job), inputs=inputs, directory=job.output_dir) as run:
        answers = _answer_all(job, problems, askers, run)  # the model is gone again before anything is graded
        summaries, base = (
            _grade_all(job, problems, answers, run),
            base_of(job.base or "", job.model.name, job.model.path),
        )
        for one in summaries:
            run.metrics({f"{one.name}/{key}": value for key, value in flat_metrics(one).items()})
        run.table("figures", metric_rows(summaries, base))
        differing = [row for one in summaries for row in one.disagreements]
        if differing:
            run.table("disagreements", [{**row, "prediction": row["prediction"][-2000:]} for row in differing])
    print("\n".join(filter(None, (format_table(summaries, base), format_details(summaries)))))
    log.info("evaluated in %.0f s; answers and scores are in %s", time.monotonic() - started, job.output_dir)
    return {one.name: flat_metrics(one) for one in summaries}


def _answer_all(
    job: EvalJob, problems: dict[str, Problems], askers: dict[str, RequestBuilder], run: Run
) -> dict[str, list[LedgerSummary]]:
    """Every benchmark's answers, by one engine."""
    engine, model = LazyEngine(job.engine, job.model), job.engine.identity(job.model)
    engine_fields = job.engine.fingerprint_fields(job.model)
    prompt = min((a.shortest for a in askers.values() if a.shortest is not None), default=0)
    if warning := job.engine.too_long(job.model, max_tokens=job.max_tokens, prompt=prompt, setting="max_tokens"):
        log.warning("%s", warning)
    found: dict[str, list[LedgerSummary]] = {}
    left: list[str] = []
    try:
        for name, asker in askers.items():
            sampling = Sampling(
                n=job.n,
                temperature=job.temperature,
                top_p=job.top_p,
                max_tokens=job.max_tokens,
                stop_token_ids=asker.stop_ids,
            )
            how = AnswerSettings(
                model=model,
                engine=engine_fields,
                sampling=sampling,
                seed=job.seed,
                run=run.id,
                retry=job.retry_engine_rejects,
            )
            directory = Path(job.output_dir) / name
            try:
                found[name] = answer(name, problems[name], directory, asker, engine, how)
            except UnfinishedError as error:  # the other benchmarks need not wait for it
                left.append(str(error))
                continue
            for number, summary in enumerate(found[name], 1):
                where = answers_dir(directory, number)
                run.output(f"{name} answers", where, digest=summary.digest, rows=summary.rows)
    finally:
        engine.close()
    if left:
        raise UnfinishedError("\n".join(left))
    return found


def _grade_all(
    job: EvalJob, problems: dict[str, Problems], answers: dict[str, list[LedgerSummary]], run: Run
) -> list[BenchmarkSummary]:
    grader = LazyGrader(job.grader, job.profiles)
    try:
        return [_grade_benchmark(job, name, found, answers[name], grader, run) for name, found in problems.items()]
    finally:
        grader.close()


def _asker(job: EvalJob, name: str) -> RequestBuilder:
    benchmark = job.benchmark[name]
    form = benchmark.form_of(job.formats.get(job.model.name, job.format))
    return RequestBuilder(job.model, form, instruction=benchmark.instruction, ids=job.engine.reads_ids)


def _grade_benchmark(
    job: EvalJob, name: str, problems: Problems, answers: list[LedgerSummary], grader: LazyGrader, run: Run
) -> BenchmarkSummary:
    """One benchmark's answers scored, and what the scores tell."""
    # Imported late: torchmetrics brings half of transformers along, seconds that a model need not wait for.
    from sq.eval.compute_metrics import compute_metrics, read_graded

    directory = Path(job.output_dir) / name
    tolerances = {key: t for key, p in problems.by_id.items() if (t := tolerance_of(p)) is not None}
    checker = job.benchmark[name].checker(problems, job.sandbox)
    try:
        scored = score(directory, answers, tolerances, grader, checker)
    finally:
        if checker is not None:
            checker.close()
    run.output(f"{name} scores", scores_dir(directory), digest=scored.digest, rows=scored.rows)
    rewards = None
    if job.reward is not None and job.reward_engine is not None:
        retry = Retry(reject=lambda reject: bool(reject["reason"] == "engine")) if job.retry_engine_rejects else None
        rewards = reward(directory, answers, job.reward, job.reward_engine, run.id, retry)
    graded = read_graded(scores_dir(directory))
    differing = list(disagreements(scores_dir(directory)))
    write_jsonl(directory / "disagreements.jsonl", differing)
    found = {p: compute_metrics(g, ks=job.k, rewards=rewards) for p, g in graded.items()}
    return BenchmarkSummary(name=name, metrics=found, left_out=len(problems.unusable), disagreements=differing)
