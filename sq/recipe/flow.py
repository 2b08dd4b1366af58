"""Rows on their way through a recipe's stages: how many reach each, how long they are, and which model meets them.

Counts are those of the stages' settings; what filters let through and how long texts are is assumed. Everything else
(models, samples, prompts, epochs) is read off the jobs as they would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from sq.core.config import conf_dir
from sq.core.errors import ConfigError
from sq.data.count_rows import count_rows
from sq.data.sources import DOMAIN_ROWS, SourceConfig, parts
from sq.domains.oracle import OracleConfig
from sq.engine.config import EngineConfig
from sq.engine.openai import OpenAIConfig
from sq.eval.benchmarks import BenchmarkConfig, DomainBenchmark
from sq.eval.config import EvalJob
from sq.models.load import ModelConfig
from sq.recipe.assumptions import AssumptionsConfig
from sq.recipe.cost import PlanStage, Use
from sq.recipe.question_flow import plan_annotations, plan_questions
from sq.recipe.sizes import SizesConfig
from sq.recipe.solutions import solutions, wanted_of
from sq.synth.annotate import AnnotateStage
from sq.synth.answers import AnswersStage
from sq.synth.config import SynthJob
from sq.synth.fail_rate import FailRateStage
from sq.synth.filter import FilterStage
from sq.synth.filters.base import FilterConfig
from sq.synth.filters.difficulty import DifficultyFilter
from sq.synth.filters.pass_rate import PassRateFilter
from sq.synth.filters.solvability import SolvabilityFilter
from sq.synth.questions import QuestionsStage
from sq.synth.rewrite import PairSource, RewriteStage
from sq.synth.select import SelectionMethod, SelectStage
from sq.synth.sources.dart import DartSource
from sq.train.config import TrainJob
from sq.train.pretrain import PretrainStage
from sq.train.stage import StageConfig

Job = TrainJob | SynthJob | EvalJob
T = TypeVar("T")
DOMAIN = "domain"
"""An input that means the domain's own problems."""
PHASES = {"qft": "QFT", "qpo": "QPO", "pretrain": "base", "sft": "student", "reward": "reward model"}
TRAININGS = {
    "qft": "train on questions", "qpo": "train on pairs", "difficulty": "train scorer", "sft": "train student",
    "pretrain": "train base", "reward": "train reward model",
}  # fmt: skip


def flow(jobs: Mapping[str, Job], assume: AssumptionsConfig, sizes: SizesConfig) -> list[PlanStage]:
    """What every stage does, in the order given."""
    rows = Flow(assume, sizes)
    planned: list[PlanStage] = []
    for name, job in jobs.items():
        if isinstance(job, TrainJob):
            planned.append(_trained(name, job, rows))
        elif isinstance(job, SynthJob):
            planned += _synthesised(name, job, rows)
        else:
            planned.append(_evaluated(name, job, rows))
    for_pairs = {rows.wrote[place] for place in rows.for_pairs - rows.for_more if place in rows.wrote}
    return [replace(stage, phase="QPO") if stage.name in for_pairs else stage for stage in planned]


@dataclass
class Flow:
    """What is known so far, by the directory that a stage writes."""

    assume: AssumptionsConfig
    sizes: SizesConfig
    rows: dict[str, float] = field(default_factory=dict)
    per_question: dict[str, float] = field(default_factory=dict)
    """Rows of a directory that belong to one question: the candidates of `answers`."""
    wanted: dict[str, float] = field(default_factory=dict)
    """Solutions that a row of a directory asks for by its difficulty, in the mean: `source=dart`."""
    label_samples: dict[str, int] = field(default_factory=dict)
    """Solutions that the fail rates of a directory's rows are counted of."""
    trained: dict[str, float] = field(default_factory=dict)
    """Billion parameters of the model in a directory."""
    generators: dict[str, dict[str, float]] = field(default_factory=dict)
    """Rows of a directory by generator."""
    wrote: dict[str, str] = field(default_factory=dict)
    """Stages that write questions, by their directory."""
    for_pairs: set[str] = field(default_factory=set)
    """Directories whose rows are improved into pairs."""
    for_more: set[str] = field(default_factory=set)
    """Directories that other stages read."""

    def rows_of(self, source: SourceConfig) -> float:
        """How many rows a source has.

        Raises:
            ConfigError: where that cannot be known.
        """
        share = 1.0 if source.where is None else self.assume.kept("where")
        if source.mix:  # each part has the whole's `where` too
            total = sum(self.rows_of(part.source) for part in parts(source).values())
        elif source.input is None or source.input.partition(":")[0] == DOMAIN:
            total = float(source.limit or DOMAIN_ROWS * share)
        else:
            total = self._rows_at(source) * share
        return min(total, source.limit) if source.limit else total

    def _rows_at(self, source: SourceConfig) -> float:
        path = str(source.input)
        for known in (_above(path, self.rows), self.sizes.rows.get(path)):
            if known is not None:
                return known
        with suppress(ConfigError):
            if (count := count_rows(replace(source, limit=None))) is not None:
                return count
        raise ConfigError(f"how many rows {path} has is not known; say it: sizes.rows.'{path}'=10000, or set a limit")

    def billions(self, model: ModelConfig) -> float:
        """Billion active parameters of a model, which a stage of the recipe may have trained."""
        trained = _above(model.path, self.trained)
        return self.sizes.billions(model.path) if trained is None else trained

    def source_of(self, source: SourceConfig) -> str:
        """The directory of the stage that a source reads; none where it is no stage's."""
        return _above(source.input, {place: place for place in self.rows}) or "" if source.input else ""

    def asked(self, model: ModelConfig, engine: EngineConfig) -> dict[str, Any]:
        """How a model is asked: on our devices, over an API, or not at all where an oracle stands in its place."""
        if isinstance(engine, OracleConfig):
            return {"use": Use.NONE, "model": model.name}
        if isinstance(engine, OpenAIConfig):
            own = (engine.price_in / 1e6, engine.price_out / 1e6)
            price = own if any(own) else self.sizes.price(engine.served or model.path)
            return {"use": Use.API, "model": model.name, "api": price}
        return {"use": Use.GENERATE, "model": model.name, "parameters": self.billions(model)}

    def prompt(self, name: str) -> tuple[float, float]:
        """Tokens of a prompt's text before the question, which all requests share, and after it."""
        template = str(OmegaConf.load(conf_dir() / "prompt" / f"{name}.yaml").template)
        before, _, after = template.partition("{question}")
        per = self.assume.chars_per_token
        return self.assume.prefix + len(before) / per, len(after) / per


def _above(path: str, of: Mapping[str, T]) -> T | None:
    """What `of` has for `path` or the nearest directory above it."""
    return next((of[str(place)] for place in (Path(path), *Path(path).parents) if str(place) in of), None)


def _synthesised(name: str, job: SynthJob, flow: Flow) -> list[PlanStage]:
    """What one synthesis stage does; what it writes is noted in `flow`."""
    stage, place, read = job.stage, job.output_dir, flow.source_of(job.source)
    if counted := stage.n if isinstance(stage, FailRateStage) else flow.label_samples.get(read):
        flow.label_samples[place] = counted
    if isinstance(stage, QuestionsStage):
        planned = plan_questions(name, job, stage, flow)
        flow.generators[place] = {one.model: one.kept for one in planned}
        flow.wrote[place] = name
        flow.rows[place] = sum(one.kept for one in planned)
        if isinstance(stage.source, DartSource):
            flow.wanted[place] = wanted_of(stage.source, flow, read)
    else:
        (flow.for_pairs if isinstance(stage, RewriteStage) else flow.for_more).add(read)
        if read in flow.generators:
            flow.generators[place] = flow.generators[read]
        if read in flow.wanted:
            flow.wanted[place] = flow.wanted[read]
        rows = flow.rows_of(job.source)
        if isinstance(stage, AnnotateStage):
            planned = [plan_annotations(name, job, stage, rows, flow)]
        elif isinstance(stage, FilterStage):
            planned = _filters(name, job, rows, flow)
        elif isinstance(stage, SelectStage):
            planned = [_select(name, job, stage, rows, flow.per_question.get(read, 1.0), flow)]
        else:
            planned = [_of_each_row(name, job, rows, flow)]
        flow.rows[place] = planned[-1].kept
        if isinstance(stage, FailRateStage | AnswersStage):
            flow.per_question[place] = planned[-1].samples
    return [replace(one, first=i == 0) for i, one in enumerate(planned)]


def _of_each_row(name: str, job: SynthJob, rows: float, flow: Flow) -> PlanStage:
    """A stage that asks a model about each of its rows."""
    stage, assume, asked = job.stage, flow.assume, flow.asked(job.model, job.engine)
    solved = assume.question + assume.instruction
    if isinstance(stage, AnswersStage):
        n = solutions(stage, flow, flow.source_of(job.source))
        return PlanStage(
            name=name, phase="answers", what=f"answer, {round(n, 1):g} each", **asked, rows=rows, samples=n,
            prompt=solved, output=min(assume.answer, stage.max_tokens), kept=rows * n,
        )  # fmt: skip
    if isinstance(stage, FailRateStage):
        return PlanStage(
            name=name, phase="difficulty", what="count failures", **asked, rows=rows, samples=float(stage.n),
            prompt=assume.of_seed + assume.instruction, output=min(assume.answer, stage.max_tokens), kept=rows,
        )  # fmt: skip
    if isinstance(stage, RewriteStage) and stage.source is not PairSource.REWRITE:  # a judge's word is one reply more
        judged = min(assume.judge, stage.max_tokens) / stage.k if stage.judge_prompt else 0.0
        return PlanStage(
            name=name, phase="QPO", what=f"pairs by {stage.source.value.replace('_', ' ')}", **asked, rows=rows,
            window=stage.window, samples=float(stage.k), prompt=solved,
            output=min(assume.answer, stage.max_tokens) + judged, kept=rows * assume.kept(stage.source.value),
        )  # fmt: skip
    if isinstance(stage, RewriteStage):
        share, solvable, harder = stage.solvability, flow.prompt(stage.solvability_prompt), flow.prompt(
            stage.difficulty_prompt)  # fmt: skip
        shared, after = (share * a + (1 - share) * b for a, b in zip(solvable, harder, strict=True))
        output = min(assume.rewrite, stage.max_tokens) + (assume.judge if stage.judge_prompt else 0.0)
        return PlanStage(
            name=name, phase="QPO", what="improve into pairs", **asked, rows=rows, shared=shared,
            prompt=assume.question + after, output=output, kept=rows * assume.kept("rewrite"),
        )  # fmt: skip
    return PlanStage(
        name=name, phase="other", what="no model", use=Use.NONE, rows=rows, kept=rows, note="not forecast",
        filter_rows=assume.filter_rows,
    )  # fmt: skip


def _filters(name: str, job: SynthJob, rows: float, flow: Flow) -> list[PlanStage]:
    """Each filter that asks a model is a line of its own; the others, if any, together are one, before them."""
    assume, left = flow.assume, rows
    asking: list[PlanStage] = []
    for label, config in job.filters.items():
        share = _share_looked_at(config, flow.generators.get(flow.source_of(job.source), {}))
        keeps = assume.kept(label) if config.share_kept is None else config.share_kept
        kept = left * (1 - share * (1 - keeps))
        if isinstance(config, SolvabilityFilter):
            shared, after = flow.prompt(config.prompt)
            asking.append(PlanStage(
                name=name, phase="filter", what="judge solvability", **flow.asked(job.model, job.engine), rows=left,
                samples=float(config.votes), shared=shared, prompt=assume.question + after,
                output=min(assume.judge, config.max_tokens), kept=kept,
            ))  # fmt: skip
        elif isinstance(config, PassRateFilter):  # as many as there may be: how often it stops early is not known
            asking.append(PlanStage(
                name=name, phase="filter", what="measure pass rates", **flow.asked(job.model, job.engine), rows=left,
                samples=float(config.k), prompt=assume.question + assume.instruction,
                output=min(assume.answer, config.max_tokens), kept=kept,
            ))  # fmt: skip
        elif isinstance(config, DifficultyFilter):
            asking.append(PlanStage(
                name=name, phase="filter", what="score difficulty", use=Use.SCORE, rows=left * share,
                model=config.model.name if config.model else "", prompt=assume.question + 1, kept=kept,
                parameters=flow.billions(config.model) if config.model else 0.0,
            ))  # fmt: skip
        left = kept
    free = PlanStage(
        name=name, phase="filter", what="filters without a model", use=Use.NONE, rows=rows,
        filter_rows=assume.filter_rows, kept=asking[0].rows if asking else left,
    )  # fmt: skip
    before = [free] if len(asking) < len(job.filters) else []
    return [*before, *asking[:-1], replace(asking[-1], kept=left)] if asking else [free]


def _share_looked_at(config: FilterConfig, generators: Mapping[str, float]) -> float:
    """Share of the rows that a filter looks at: the paper samples one of two generators by difficulty."""
    total = sum(generators.values())
    if not isinstance(config, DifficultyFilter) or not config.generators or not total:
        return 1.0
    return sum(generators.get(name, 0.0) for name in config.generators) / total


def _select(name: str, job: SynthJob, stage: SelectStage, rows: float, n: float, flow: Flow) -> PlanStage:
    """Rows here are questions; each has n candidates."""
    assume, questions = flow.assume, rows / n
    asked = flow.asked(job.model, job.engine)
    scores = stage.method in (SelectionMethod.REWARD, SelectionMethod.WEIGHTED) and asked["use"] is Use.GENERATE
    return PlanStage(
        name=name, phase="reward", what="score answers" if scores else "choose by votes",
        **({**asked, "use": Use.SCORE} if scores else {"use": Use.NONE}), rows=questions, samples=n,
        prompt=assume.question + assume.instruction + assume.answer, kept=questions * assume.kept("select"),
        filter_rows=assume.filter_rows,
    )  # fmt: skip


def _trained(name: str, job: TrainJob, flow: Flow) -> PlanStage:
    stage = job.stage
    documents = stage.documents if isinstance(stage, PretrainStage) else None
    rows = flow.rows_of(job.data) if documents is None else float(documents)
    parameters = flow.trained[job.output_dir] = flow.billions(job.model)
    samples, tokens = _texts(stage.name, flow.per_question.get(flow.source_of(job.data), 1.0), flow.assume)
    return PlanStage(
        name=name, phase=PHASES.get(stage.name, stage.name), what=TRAININGS.get(stage.name, f"train {stage.name}"),
        use=Use.TRAIN, model=job.model.name, parameters=parameters, rows=rows, samples=samples, prompt=tokens,
        epochs=stage.epochs if documents is None else 1.0, forward_only=1.0 if stage.name == "qpo" else 0.0,
        recompute=job.trainer.gradient_checkpointing, step_tokens=_step_tokens(stage, samples * tokens),
        most_steps=stage.max_steps, kept=rows,
    )  # fmt: skip


def _texts(stage: str, n: float, assume: AssumptionsConfig) -> tuple[float, float]:
    """Texts of a row of this stage, and tokens of a text. The prefix is shared, so it is as good as free.

    `n` is how many solutions stand in a row, where a reward model learns from a solver's graded ones.
    """
    solution = assume.question + assume.instruction + assume.answer
    if stage == "qpo":
        return 2.0, assume.question + 1
    if stage in ("sft", "reward"):
        return n if stage == "reward" else 1.0, solution
    return 1.0, assume.of_seed + (assume.answer if stage == "pretrain" else 1)


def _step_tokens(stage: StageConfig, row: float) -> float:
    """Tokens of one optimiser step."""
    return stage.batch_rows * row if stage.batch_rows else float((stage.batch_packs or 1) * stage.pack_tokens)


def _evaluated(name: str, job: EvalJob, flow: Flow) -> PlanStage:
    """One evaluation, over all its benchmarks."""
    count = sum(min(_problems(b, flow.sizes), job.limit or float("inf")) for b in job.benchmark.values())
    flow.rows[job.output_dir] = count * job.n
    named = next(iter(job.benchmark)) if len(job.benchmark) == 1 else f"{len(job.benchmark)} benchmarks"
    return PlanStage(
        name=name, phase="evaluation", what=f"evaluate, {named}", **flow.asked(job.model, job.engine), rows=count,
        samples=float(job.n), prompt=flow.assume.of_seed + flow.assume.instruction,
        output=min(flow.assume.answer, job.max_tokens), kept=count,
    )  # fmt: skip


def _problems(benchmark: BenchmarkConfig, sizes: SizesConfig) -> float:
    """How many problems a benchmark has."""
    if isinstance(benchmark, DomainBenchmark):
        return float(benchmark.count)
    if benchmark.name in sizes.rows:
        return float(sizes.rows[benchmark.name])
    raise ConfigError(f"how many problems {benchmark.name} has is not known; say it: sizes.rows.{benchmark.name}=500")
