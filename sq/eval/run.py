"""One evaluation, from problems to figures: answer, grade, report (paper, section 3.1: zero-shot, greedy, pass@1).

Each benchmark has a directory below `output_dir`: `answers/` and `scores/` are ledgers, `disagreements.jsonl` lists
what the graders do not agree on. A run that was killed continues; a finished one is read back without an engine.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from sq.core.config import flatten
from sq.core.run import Run
from sq.core.tracking import DataRef, track
from sq.engine.base import Sampling
from sq.eval.answer import Answering, LazyEngine, answer, answers_dir
from sq.eval.benchmarks import Problems
from sq.eval.config import EvalJob
from sq.eval.figures import figures, read_graded
from sq.eval.paper import base_of
from sq.eval.prompting import Asker
from sq.eval.report import Told, details, disagreements, flat, rows_of, table, write_jsonl
from sq.eval.rewards import reward
from sq.eval.score import LazyGrader, score, scores_dir, tolerance_of

log = logging.getLogger(__name__)


def evaluate(job: EvalJob) -> dict[str, dict[str, float]]:
    """Run every benchmark of the job; the figures by benchmark."""
    started = time.monotonic()
    problems = {name: benchmark.load(job.limit, job.seed) for name, benchmark in job.benchmark.items()}
    inputs = [DataRef(name=name, digest=p.digest, rows=len(p.by_id)) for name, p in problems.items()]
    engine, grader = LazyEngine(job.engine, job.model), LazyGrader(job.grader, job.profiles)
    base = base_of(job.base or "", job.model.name, job.model.path)
    told = []
    try:
        askers = {name: _asker(job, name) for name in problems}
        with track(job.tracking, stage="evaluate", params=flatten(job), inputs=inputs, directory=job.output_dir) as run:
            for name, found in problems.items():
                told.append(_one(job, name, found, askers[name], engine, grader, run))
                run.metrics({f"{name}/{key}": value for key, value in flat(told[-1]).items()})
            run.table("figures", rows_of(told, base))
            differing = [row for one in told for row in one.disagreements]
            if differing:
                run.table("disagreements", [{**row, "prediction": row["prediction"][-2000:]} for row in differing])
    finally:
        engine.close()
        grader.close()
    print("\n".join(filter(None, (table(told, base), details(told)))))
    log.info(
        "evaluated in %.0f s; answers, scores and disagreements are in %s", time.monotonic() - started, job.output_dir
    )
    return {one.name: flat(one) for one in told}


def _asker(job: EvalJob, name: str) -> Asker:
    domain = job.benchmark[name].domain_of()
    form = job.formats.get(job.model.name, job.format)
    return Asker(job.model, form, instruction=domain.instruction if domain else None, ids=job.engine.reads_ids)


def _one(
    job: EvalJob, name: str, problems: Problems, asker: Asker, engine: LazyEngine, grader: LazyGrader, run: Run
) -> Told:
    """One benchmark: its answers, their scores, and what they tell."""
    directory = Path(job.output_dir) / name
    sampling = Sampling(
        n=job.n,
        temperature=job.temperature,
        top_p=job.top_p,
        max_tokens=job.max_tokens,
        stop_token_ids=tuple(asker.stop_ids),
    )
    how = Answering(
        model=job.engine.identity(job.model), engine=job.engine, sampling=sampling, seed=job.seed, run=run.id
    )
    answers = answer(name, problems, directory, asker, engine, how)
    for number, summary in enumerate(answers, 1):
        run.output(f"{name} answers", answers_dir(directory, number), digest=summary.digest, rows=summary.rows)
    tolerances = {key: t for key, p in problems.by_id.items() if (t := tolerance_of(p)) is not None}
    scored = score(directory, answers, tolerances, grader, job.benchmark[name].domain_of())
    run.output(f"{name} scores", scores_dir(directory), digest=scored.digest, rows=scored.rows)
    rewards = None
    if job.reward is not None and job.reward_engine is not None:
        engine.close()  # two models may not fit beside each other
        rewards = reward(directory, answers, job.reward, job.reward_engine, run.id)
    graded = read_graded(scores_dir(directory))
    differing = list(disagreements(scores_dir(directory)))
    write_jsonl(directory / "disagreements.jsonl", differing)
    found = {p: figures(g, ks=job.k, rewards=rewards, seed=job.seed) for p, g in graded.items()}
    return Told(name=name, figures=found, left_out=len(problems.bad), disagreements=differing)
