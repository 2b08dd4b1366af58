"""`source=prefix`: questions from nothing but the chat prefix (ScaleQuest, section 2.1), each with its seed.

`source=magpie` is the same with an instruct model as it came (Magpie, arXiv 2406.08464): its step 1, the query from the
pre-query template. Several generators (the paper mixes two) take their shares of the count one after the other, each
with its own engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sq.core.config import build, conf_dir, flatten
from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem
from sq.core.rows import QUESTION, row_id
from sq.engine.base import Sampling
from sq.engine.failures import rejected
from sq.models.load import ModelConfig
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.sources.base import QuestionSource, question_problem
from sq.synth.stage import ItemResult, StageSpec, seed_of

if TYPE_CHECKING:
    from sq.synth.config import SynthJob
    from sq.synth.questions import QuestionsStage


@dataclass(frozen=True, kw_only=True)
class PrefixSource(QuestionSource):
    """Questions that a model writes from its bare chat prefix: the tuned generator, or an untuned model (magpie)."""

    def spec(self, job: SynthJob, stage: QuestionsStage) -> StageSpec:
        """Sample `count` questions, by each generator its share."""
        generators = [QuestionGenerator(job, stage, model, count) for model, count in _shares(job, stage)]
        if len({g.key for g in generators}) < len(generators):
            raise ConfigError(f"stage.generators={stage.generators} names the same weights twice")
        if len({g.client.name for g in generators}) < len(generators):
            raise ConfigError(f"stage.generators={stage.generators} has two of one name; rename one's directory")
        return StageSpec(
            schema=QUESTION,
            fingerprint_fields={
                k: v for g in generators for k, v in g.fingerprint_fields(alone=len(generators) == 1).items()
            },
            items=lambda: _items(generators, 0),
            items_from=lambda start: _items(generators, start),
            process=lambda items, run: _in_turn(generators, items, run),
            close=lambda: _close(generators),
            usages=tuple(g.client.usage for g in generators),
            traces=lambda limit: [trace for g in generators for trace in g.client.traces(limit)],
            total=stage.count,
            unit="sample",
        )


class QuestionGenerator:
    """One model that writes questions, and how many."""

    def __init__(self, job: SynthJob, stage: QuestionsStage, model: ModelConfig, count: int) -> None:
        self.client = ModelClient(model, job.engine)
        self.sampling = Sampling(
            temperature=stage.temperature,
            top_p=stage.top_p,
            max_tokens=stage.max_tokens,
            stop_token_ids=self.client.own_chat.stop_ids,
        )
        self.chat = self.client.own_chat
        self.client.check_length(stage.max_tokens, prompt=len(self.chat.question_prefix_ids))
        self.key = row_id("generator", **self.client.fingerprint_fields)
        self._job, self._source, self.count = job, stage.source.name, count

    def fingerprint_fields(self, *, alone: bool) -> dict[str, Any]:
        """Its part of the ledger's identity."""
        prefix = "" if alone else f"generators.{self.client.name}."
        return {f"{prefix}{k}": v for k, v in {**self.client.fingerprint_fields, "count": self.count}.items()}

    def items(self, start: int = 0) -> Iterator[WorkItem]:
        """One item a sample, from number `start` on; the payload is the generator and the sample's number."""
        fingerprint_fields = {
            **self.client.fingerprint_fields,
            "sampling": flatten(self.sampling),
            "seed": self._job.seed,
        }
        for index in range(start, self.count):
            yield WorkItem(row_id("question", **fingerprint_fields, index=index), (self, index))

    def request_flow(self, item: WorkItem, run: str) -> RequestFlow:
        """Ask for one question and check its form."""
        row: dict[str, Any] = {
            "id": item.key,
            "run": run,
            "model": self.client.identity,
            "seed": seed_of(item.key),
            "parents": [],
            "domain": self._job.domain.name,
            "generator": self.client.name,
            "prefix": self.chat.digest,
            "index": item.payload[1],
            "question_source": self._source,
        }
        (result,) = yield [self.client.prefix_request(item.key, self.sampling)]
        row["question_prompt_tokens"] = result.prompt_tokens
        if result.error is not None:
            return ItemResult(key=item.key, rejects=[rejected(row, result)])
        completion = result.completions[0]
        text = self.chat.question_text(completion.token_ids)
        row |= {
            "question": text,
            "question_finish_reason": completion.finish_reason,
            "question_tokens": completion.tokens,
        }
        if problem := question_problem(completion, text):
            return ItemResult(key=item.key, rejects=[Reject(row=row, reason=problem, detail=text[:200])])
        return ItemResult(key=item.key, rows=[row])


def _items(generators: list[QuestionGenerator], start: int) -> Iterator[WorkItem]:
    """The items of all generators, one after the other, from number `start` on."""
    for generator in generators:
        yield from generator.items(start)
        start = max(0, start - generator.count)


def _in_turn(generators: list[QuestionGenerator], items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
    """Each generator's items with its own engine; one engine at a time."""
    for generator, own in itertools.groupby(items, key=lambda item: item.payload[0]):
        _close([other for other in generators if other is not generator])
        yield from generator.client.run_flows(own, lambda item, g=generator: g.request_flow(item, run))


def _close(generators: list[QuestionGenerator]) -> None:
    for generator in generators:
        generator.client.close()


def _shares(job: SynthJob, stage: QuestionsStage) -> list[tuple[ModelConfig, int]]:
    """The generators and their counts, which sum to `count` (by largest remainder)."""
    if not stage.generators:
        return [(job.model, stage.count)]
    total = sum(stage.generators.values())
    exact = {name: stage.count * share / total for name, share in stage.generators.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: counts[n] - exact[n])[: stage.count - sum(counts.values())]:
        counts[name] += 1
    return [(_model(job, name), count) for name, count in counts.items() if count]


def _model(job: SynthJob, name: str) -> ModelConfig:
    path = conf_dir() / "model" / f"{name}.yaml"
    if path.is_file():
        return build(OmegaConf.load(path), ModelConfig, key=f"stage.generators.{name}")
    given = Path(name)  # what train.py leaves is in DIR/model; DIR tells generators apart
    return replace(job.model, name=given.parent.name if given.name == "model" else given.name, path=name)
