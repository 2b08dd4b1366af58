"""What a forecast says of questions: those of every source, and the annotations that some sources draw from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from sq.core.config import conf_dir
from sq.models.load import ModelConfig
from sq.recipe.cost import PlanStage, Use
from sq.synth.annotate import AnnotateStage
from sq.synth.config import SynthJob
from sq.synth.questions import QuestionsStage
from sq.synth.sources.prefix import PrefixSource

if TYPE_CHECKING:
    from sq.recipe.flow import Flow


def plan_questions(name: str, job: SynthJob, stage: QuestionsStage, flow: Flow) -> list[PlanStage]:
    """What a source asks for its questions."""
    if isinstance(stage.source, PrefixSource):
        return _sampled(name, job, stage, flow)
    flow.for_more.add(flow.source_of(job.source))
    return [_of_source(name, job, stage, flow)]


def plan_annotations(name: str, job: SynthJob, stage: AnnotateStage, rows: float, flow: Flow) -> PlanStage:
    """One request for each thing that is asked of a row."""
    sizes = [flow.prompt(getattr(stage, f"{what}_prompt")) for what in stage.ask]
    shared, after = (sum(size[i] for size in sizes) for i in (0, 1))
    return PlanStage(
        name=name, phase="questions", what="annotate questions", **flow.asked(job.model, job.engine),
        rows=rows, samples=len(sizes), shared=shared, prompt=flow.assume.question * len(sizes) + after,
        output=min(flow.assume.rewrite, stage.max_tokens), kept=rows,
    )  # fmt: skip


def _sampled(name: str, job: SynthJob, stage: QuestionsStage, flow: Flow) -> list[PlanStage]:
    shares = stage.generators or {job.model.name: 1.0}
    planned = []
    for generator, share in shares.items():
        model = _generator(generator, job.model) if stage.generators else job.model
        count = stage.count * share / sum(shares.values())
        planned.append(PlanStage(
            name=name, phase="questions", what="generate questions", **flow.asked(model, job.engine), rows=count,
            shared=flow.assume.prefix, output=min(flow.assume.question, stage.max_tokens),
            kept=count * flow.assume.kept("questions"),
        ))  # fmt: skip
    return planned


def _of_source(name: str, job: SynthJob, stage: QuestionsStage, flow: Flow) -> PlanStage:
    """A source that asks with prompts, or passes rows on."""
    asks, assume = stage.source.asks, flow.assume
    if not asks:
        rows = min(float(stage.count), flow.rows_of(job.source))
        return PlanStage(name=name, phase="questions", what=f"questions of source={stage.source.name}", use=Use.NONE,
                         model=job.model.name, rows=rows, kept=rows, filter_rows=assume.filter_rows)  # fmt: skip
    requests = sum(asks.values())
    text = sum(len(template) * times for template, times in asks.items()) / assume.chars_per_token
    return PlanStage(
        name=name, phase="questions", what=f"questions by source={stage.source.name}",
        **flow.asked(job.model, job.engine), rows=stage.count, samples=requests,
        shared=assume.prefix * requests + text, prompt=assume.of_seed * requests,
        output=min(assume.rewrite, stage.max_tokens),
        kept=stage.count * stage.source.per_item * assume.kept("questions"),
    )  # fmt: skip


def _generator(name: str, like: ModelConfig) -> ModelConfig:
    path = conf_dir() / "model" / f"{name}.yaml"
    if path.is_file():
        return replace(like, name=name, path=str(OmegaConf.load(path).path))
    return replace(like, name=Path(name).parent.name if Path(name).name == "model" else Path(name).name, path=name)
