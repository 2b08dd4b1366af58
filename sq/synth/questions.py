"""Questions from nothing but the chat prefix (paper, section 2.1), each with the seed that made it.

Kept are texts that ended by themselves; empty, cut-off and repeating ones become rejects with the reason. Several
generators (the paper mixes two) take their shares of the count one after the other, each with its own engine.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sq.core.config import build, conf_dir, flatten, setting
from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem, read_rows
from sq.core.rows import QUESTION, row_id, text_problem
from sq.domains.base import Domain
from sq.engine.base import Completion, Sampling
from sq.engine.failures import rejected
from sq.models.load import ModelConfig
from sq.synth.config import SynthJob, SynthStage
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult, StageSpec, seed_of

__all__ = ["QuestionsStage", "oracle_metrics", "question_problem", "repeats", "seed_of"]


@dataclass(frozen=True, kw_only=True)
class QuestionsStage(SynthStage):
    """Questions sampled from nothing but the chat prefix (paper, section 2.1: T 1.0, top-p 0.99, 512 tokens)."""

    count: int = setting(1000, ge=1, help="samples to draw")
    temperature: float = setting(1.0, ge=0)
    top_p: float = setting(0.99, gt=0, le=1)
    max_tokens: int = setting(512, ge=1)
    generators: dict[str, float] = setting(
        {}, gt=0, help="name of a model YAML, or a model's path -> its share; none: model= alone"
    )

    def spec(self, job: SynthJob) -> StageSpec:
        """Sample `count` questions, by each generator its share."""
        generators = [QuestionGenerator(job, self, model, count) for model, count in _shares(job, self)]
        if len({g.key for g in generators}) < len(generators):
            raise ConfigError(f"stage.generators={self.generators} names the same weights twice")
        if len({g.client.name for g in generators}) < len(generators):
            raise ConfigError(f"stage.generators={self.generators} has two of one name; rename one's directory")
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
            total=self.count,
            unit="sample",
            metrics=lambda directory: _metrics(directory, job.domain.create(), job.engine.seed_bits),
            then=f"synthesize stage=filter {'engine=oracle ' if job.domain.has_oracle else ''}input",
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
        self._job, self.count = job, count

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


def question_problem(completion: Completion, text: str) -> str | None:
    """Why a sampled text is no complete question, if it is none."""
    if completion.finish_reason == "length":
        return "cut-off"
    if problem := text_problem(text):
        return "empty" if "empty" in problem or "blank" in problem else "unreadable"
    return "repeating" if repeats(text) else None


def repeats(text: str, *, width: int = 4, share: float = 0.5) -> bool:
    """Whether more than `share` of the text's runs of `width` words have come before in it."""
    words = text.split()
    runs = [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]
    return len(runs) >= 2 * width and len(set(runs)) < (1 - share) * len(runs)


def oracle_metrics(questions: Iterator[str], domain: Domain) -> dict[str, float]:
    """Share of solvable questions and their mean steps, where the domain has an oracle."""
    labels = [v for v in map(domain.oracle_label, questions) if v is not None]
    if not labels:
        return {}
    steps = [v.steps for v in labels if v.solvable]
    return {"oracle/solvable": len(steps) / len(labels), "oracle/steps": sum(steps) / max(1, len(steps))}


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


def _metrics(directory: Path, domain: Domain, seed_bits: int) -> dict[str, float]:
    counts = Counter(row["generator"] for row in read_rows(directory, columns=["generator"]))
    return {
        **oracle_metrics((row["question"] for row in read_rows(directory, columns=["question"])), domain),
        **({f"rows/{name}": float(n) for name, n in counts.items()} if len(counts) > 1 else {}),
        "repeated": float(_repeated(row["question"] for row in read_rows(directory, columns=["question"]))),
        "repeated_by_seed": sum(n * (n - 1) / 2 for n in counts.values()) / 2**seed_bits,
    }


def _repeated(texts: Iterator[str]) -> int:
    """How many are the same as an earlier one."""
    import numpy as np

    digests = (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts)
    values = np.fromiter(digests, dtype=np.uint64)
    return len(values) - len(np.unique(values))
