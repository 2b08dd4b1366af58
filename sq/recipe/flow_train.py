"""What training and evaluation do to how many rows, read off their jobs."""

from __future__ import annotations

from sq.eval.config import EvalJob
from sq.recipe.cost import PlanStage, Work
from sq.recipe.flow import Flow, problems_of
from sq.recipe.flow_synth import served
from sq.train.config import TrainJob
from sq.train.pretrain import PretrainStage
from sq.train.stage import StageConfig

PHASES = {"qft": "QFT", "qpo": "QPO", "difficulty": "filter", "sft": "student", "pretrain": "base"}
WHAT = {
    "qft": "train on questions",
    "qpo": "train on pairs",
    "difficulty": "train scorer",
    "sft": "train student",
    "pretrain": "train base",
    "reward": "train reward model",
}


def trained(name: str, job: TrainJob, flow: Flow) -> list[PlanStage]:
    """One training."""
    stage = job.stage
    documents = isinstance(stage, PretrainStage)
    rows = float(stage.documents) if isinstance(stage, PretrainStage) else flow.rows_of(job.data)
    parameters = flow.billions(job.model)
    samples, tokens = _row(stage.name, flow.per_question.get(flow.source_of(job.data) or "", 1.0), flow)
    made = PlanStage(
        name=name,
        phase=PHASES.get(stage.name, "reward" if stage.name == "reward" else "student"),
        what=WHAT.get(stage.name, f"train {stage.name}"),
        work=Work.TRAIN,
        model=job.model.name,
        parameters=parameters,
        rows=rows,
        samples=samples,
        prompt=tokens,
        epochs=1.0 if documents else stage.epochs,
        forward_only=1.0 if stage.name == "qpo" else 0.0,
        recompute=job.trainer.gradient_checkpointing,
        step_tokens=_step(stage, samples * tokens),
        most_steps=stage.max_steps,
        kept=rows,
    )
    flow.trained[job.output_dir] = parameters
    return [made]


def evaluated(name: str, job: EvalJob, flow: Flow) -> list[PlanStage]:
    """One evaluation, over all its benchmarks."""
    count = sum(min(problems_of(b, flow.sizes), job.limit or float("inf")) for b in job.benchmark.values())
    work, parameters, api = served(job.model, job.engine, flow)
    assume = flow.assume
    asked = PlanStage(
        name=name,
        phase="evaluation",
        what=f"evaluate, {_benchmarks(job)}",
        work=work,
        model=job.model.name,
        parameters=parameters,
        rows=count,
        samples=float(job.n),
        prompt=(assume.seed or assume.question) + assume.instruction,
        output=min(assume.answer, job.max_tokens),
        kept=count,
        api=api,
    )
    return [asked]


def _benchmarks(job: EvalJob) -> str:
    return next(iter(job.benchmark)) if len(job.benchmark) == 1 else f"{len(job.benchmark)} benchmarks"


def _row(stage: str, n: float, flow: Flow) -> tuple[float, float]:
    """Texts of a row of this stage, and tokens of a text. The prefix is shared, so it is as good as free.

    `n` is how many solutions stand in a row, where a reward model learns from a solver's graded ones.
    """
    assume = flow.assume
    seed = assume.seed or assume.question
    if stage == "qpo":
        return 2.0, assume.question + 1
    if stage == "sft":
        return 1.0, assume.question + assume.instruction + assume.answer
    if stage == "reward":
        return n, assume.question + assume.instruction + assume.answer
    if stage == "pretrain":
        return 1.0, seed + assume.answer
    return 1.0, seed + 1


def _step(stage: StageConfig, row: float) -> float:
    """Tokens of one optimiser step."""
    return stage.batch_rows * row if stage.batch_rows else float((stage.batch_packs or 1) * stage.pack_tokens)
