"""What the synthesis stages do to how many rows, read off their jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from sq.core.config import conf_dir
from sq.domains.oracle import OracleConfig
from sq.engine.config import EngineConfig
from sq.engine.openai import OpenAIConfig
from sq.engine.ray import RayConfig
from sq.models.load import ModelConfig
from sq.recipe.cost import PlanStage, Work
from sq.recipe.flow import Flow
from sq.synth.answers import AnswersStage
from sq.synth.config import SynthJob
from sq.synth.fail_rate import FailRateStage
from sq.synth.filter import FilterStage
from sq.synth.filters.base import FilterConfig
from sq.synth.filters.difficulty import DifficultyFilter
from sq.synth.filters.solvability import SolvabilityFilter
from sq.synth.questions import QuestionsStage
from sq.synth.rewrite import PairSource, RewriteStage
from sq.synth.select import SelectionMethod, SelectStage

FREE = "filters without a model"


def synthesised(name: str, job: SynthJob, flow: Flow) -> list[PlanStage]:
    """What one stage does; what it writes is noted in `flow`."""
    stage, place = job.stage, job.output_dir
    if isinstance(stage, QuestionsStage):
        made = _questions(name, job, stage, flow)
        flow.generators[place] = {one.model: one.kept for one in made}
        flow.wrote[place] = name
    else:
        rows = flow.rows_of(job.source)
        read = flow.source_of(job.source)
        (flow.for_pairs if isinstance(stage, RewriteStage) else flow.for_more).add(read or "")
        if read in flow.generators:
            flow.generators[place] = flow.generators[read]
        if isinstance(stage, RewriteStage):
            made = [_rewrite(name, job, stage, rows, flow)]
        elif isinstance(stage, FailRateStage):
            made = [_fail_rate(name, job, stage, rows, flow)]
            flow.per_question[place] = stage.n
        elif isinstance(stage, FilterStage):
            made = _filters(name, job, rows, flow)
        elif isinstance(stage, AnswersStage):
            made = [_answers(name, job, stage, rows, flow)]
            flow.per_question[place] = stage.n
        elif isinstance(stage, SelectStage):
            n = flow.per_question.get(read or "", 1.0)
            made = [_select(name, job, stage, rows, n, flow)]
        else:
            made = [_other(name, rows, flow)]
    made = [replace(one, first=i == 0) for i, one in enumerate(made)]
    flow.rows[place] = made[-1].kept if not isinstance(stage, QuestionsStage) else sum(one.kept for one in made)
    return made


def served(model: ModelConfig, engine: EngineConfig, flow: Flow) -> tuple[Work, float, tuple[float, float]]:
    """How a model is asked: on our devices, over an API, or not at all where an oracle stands in its place."""
    engine = engine.inner if isinstance(engine, RayConfig) else engine
    if isinstance(engine, OracleConfig):
        return Work.NONE, 0.0, (0.0, 0.0)
    if isinstance(engine, OpenAIConfig):
        own = (engine.price_in / 1e6, engine.price_out / 1e6)
        return Work.API, 0.0, own if any(own) else flow.sizes.price(engine.served or model.path)
    return Work.GENERATE, flow.billions(model), (0.0, 0.0)


def prompt_tokens(prompt: str, flow: Flow) -> tuple[float, float]:
    """Tokens of a prompt's text before the question, which all requests share, and after it."""
    template = str(OmegaConf.load(conf_dir() / "prompt" / f"{prompt}.yaml").template)
    before, _, after = template.partition("{question}")
    per = flow.assume.chars_per_token
    return flow.assume.prefix + len(before) / per, len(after) / per


def _questions(name: str, job: SynthJob, stage: QuestionsStage, flow: Flow) -> list[PlanStage]:
    assume = flow.assume
    shares = stage.generators or {job.model.name: 1.0}
    total = sum(shares.values())
    found = []
    for generator, share in shares.items():
        model = _generator(generator, job.model) if stage.generators else job.model
        work, parameters, api = served(model, job.engine, flow)
        count = stage.count * share / total
        one = PlanStage(
            name=name, phase="questions", what="generate questions", work=work, model=model.name, parameters=parameters,
            rows=count, shared=assume.prefix, output=min(assume.question, stage.max_tokens),
            kept=count * assume.kept("questions"), api=api,
        )  # fmt: skip
        found.append(one)
    return found


def _generator(name: str, like: ModelConfig) -> ModelConfig:
    path = conf_dir() / "model" / f"{name}.yaml"
    if path.is_file():
        return replace(like, name=name, path=str(OmegaConf.load(path).path))
    return replace(like, name=Path(name).parent.name if Path(name).name == "model" else Path(name).name, path=name)


def _rewrite(name: str, job: SynthJob, stage: RewriteStage, rows: float, flow: Flow) -> PlanStage:
    assume = flow.assume
    work, parameters, api = served(job.model, job.engine, flow)
    if stage.source is PairSource.SUCCESS_RATE:
        return PlanStage(
            name=name, phase="QPO", what="pairs by success rates", work=work, model=job.model.name,
            parameters=parameters, rows=rows, samples=float(stage.k), prompt=assume.question + assume.instruction,
            output=min(assume.answer, stage.max_tokens), kept=rows * assume.kept("success_rate"), api=api,
        )  # fmt: skip
    solvable, harder = (prompt_tokens(p, flow) for p in (stage.solvability_prompt, stage.difficulty_prompt))
    share = stage.solvability
    shared, after = (share * a + (1 - share) * b for a, b in zip(solvable, harder, strict=True))
    judged = assume.judge if stage.judge_prompt else 0.0
    return PlanStage(
        name=name, phase="QPO", what="improve into pairs", work=work, model=job.model.name,
        parameters=parameters, rows=rows, shared=shared, prompt=assume.question + after,
        output=min(assume.rewrite, stage.max_tokens) + judged, kept=rows * assume.kept("rewrite"), api=api,
    )  # fmt: skip


def _fail_rate(name: str, job: SynthJob, stage: FailRateStage, rows: float, flow: Flow) -> PlanStage:
    assume = flow.assume
    work, parameters, api = served(job.model, job.engine, flow)
    return PlanStage(
        name=name, phase="filter", what="count failures", work=work, model=job.model.name,
        parameters=parameters, rows=rows, samples=float(stage.n), output=min(assume.answer, stage.max_tokens),
        prompt=(assume.seed or assume.question) + assume.instruction, kept=rows, api=api,
    )  # fmt: skip


def _filters(name: str, job: SynthJob, rows: float, flow: Flow) -> list[PlanStage]:
    """Each filter that asks a model is a line of its own; the others together are one, before them."""
    assume = flow.assume
    plain = PlanStage(
        name=name, phase="filter", what=FREE, work=Work.NONE, rows=rows, kept=rows, filter_rows=assume.filter_rows
    )
    found: list[PlanStage] = [plain]
    left = rows
    for label, config in job.filters.items():
        looked_at = _meant(config, flow.generators.get(flow.source_of(job.source) or "", {}))
        kept = left * (1 - looked_at * (1 - assume.kept(label)))
        if isinstance(config, SolvabilityFilter):
            work, parameters, api = served(job.model, job.engine, flow)
            shared, after = prompt_tokens(config.prompt, flow)
            found.append(
                PlanStage(
                    name=name,
                    phase="filter",
                    what="judge solvability",
                    work=work,
                    model=job.model.name,
                    parameters=parameters,
                    rows=left,
                    samples=float(config.votes),
                    shared=shared,
                    prompt=assume.question + after,
                    output=min(assume.judge, config.max_tokens),
                    kept=kept,
                    api=api,
                )  # fmt: skip
            )
        elif isinstance(config, DifficultyFilter):
            found.append(_difficulty(name, config, left * looked_at, kept, flow))
        left = kept
    found[0] = replace(plain, kept=left if len(found) == 1 else found[1].rows)
    found[-1] = replace(found[-1], kept=left)
    return found


def _meant(config: FilterConfig, generators: Mapping[str, float]) -> float:
    """Share of the rows that a filter looks at: the paper samples one of two generators by difficulty."""
    total = sum(generators.values())
    if not isinstance(config, DifficultyFilter) or not config.generators or not total:
        return 1.0
    return sum(generators.get(name, 0.0) for name in config.generators) / total


def _difficulty(name: str, config: DifficultyFilter, rows: float, kept: float, flow: Flow) -> PlanStage:
    model = config.model
    return PlanStage(
        name=name, phase="filter", what="score difficulty", work=Work.SCORE, model=model.name if model else "",
        parameters=flow.billions(model) if model else 0.0, rows=rows, prompt=flow.assume.question + 1, kept=kept,
    )  # fmt: skip


def _answers(name: str, job: SynthJob, stage: AnswersStage, rows: float, flow: Flow) -> PlanStage:
    assume = flow.assume
    work, parameters, api = served(job.model, job.engine, flow)
    return PlanStage(
        name=name, phase="answers", what=f"answer, {stage.n} each", work=work, model=job.model.name,
        parameters=parameters, rows=rows, samples=float(stage.n), prompt=assume.question + assume.instruction,
        output=min(assume.answer, stage.max_tokens), kept=rows * stage.n, api=api,
    )  # fmt: skip


def _select(name: str, job: SynthJob, stage: SelectStage, rows: float, n: float, flow: Flow) -> PlanStage:
    """Rows here are questions; each has n candidates."""
    assume = flow.assume
    questions = rows / n
    asks = (
        stage.method in (SelectionMethod.REWARD, SelectionMethod.WEIGHTED)
        and served(job.model, job.engine, flow)[0] is Work.GENERATE
    )
    return PlanStage(
        name=name, phase="reward", what="score answers" if asks else "choose by votes",
        work=Work.SCORE if asks else Work.NONE, model=job.model.name if asks else "",
        parameters=flow.billions(job.model) if asks else 0.0, rows=questions, samples=n,
        prompt=assume.question + assume.instruction + assume.answer, kept=questions * assume.kept("select"),
        filter_rows=assume.filter_rows,
    )  # fmt: skip


def _other(name: str, rows: float, flow: Flow) -> PlanStage:
    return PlanStage(
        name=name, phase="other", what="no model", work=Work.NONE, rows=rows, kept=rows,
        filter_rows=flow.assume.filter_rows, note="not forecast",
    )  # fmt: skip
