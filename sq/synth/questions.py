"""Questions, from whichever source: `source=prefix` samples the tuned generator (paper, section 2.1), others are what
the paper compares with (sources/, one file each).

Kept are complete texts; empty, cut-off and repeating ones become rejects with the reason. Every row says which source
and which operation made it, and from which rows.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.core.ledger import read_rows
from sq.domains.base import Domain
from sq.synth.config import AskedModel, SynthJob, SynthStage
from sq.synth.diversity import distinct_ngrams
from sq.synth.sources.base import QuestionSource, question_problem, repeats
from sq.synth.stage import StageSpec, seed_of

__all__ = ["QuestionsStage", "oracle_metrics", "question_problem", "repeats", "seed_of"]

COUNTED = 10_000
"""Questions whose runs of words are counted: the share of distinct ones falls with the size of the sample."""


@dataclass(frozen=True, kw_only=True)
class QuestionsStage(SynthStage):
    """Questions of a source. Of the default, prefix: section 2.1 of the paper, T 1.0, top-p 0.99, 512 tokens."""

    source: QuestionSource = setting(help="where questions come from: source=NAME, of conf/source/")
    count: int = setting(1000, ge=1, help="items: samples, or turns at a seed; of fixed and dart at most so many rows")
    temperature: float = setting(1.0, ge=0)
    top_p: float = setting(0.99, gt=0, le=1)
    max_tokens: int = setting(512, ge=1)
    generators: dict[str, float] = setting(
        {}, gt=0, help="prefix, magpie: name of a model YAML, or a model's path -> its share; none: model= alone"
    )

    def engines(self, job: SynthJob) -> list[AskedModel]:
        """None for rows that are there."""
        return [(None if self.generators else job.model, job.engine)] if self.source.asks_model else []

    def spec(self, job: SynthJob) -> StageSpec:
        """The questions of the source, and what is measured of them."""
        from sq.synth.sources.prefix import PrefixSource

        if self.generators and not isinstance(self.source, PrefixSource):
            raise ConfigError(f"stage.generators={self.generators} is for source=prefix; source={self.source.name} "
                              "asks model= alone")  # fmt: skip
        spec = self.source.spec(job, self)
        return replace(
            spec,
            metrics=lambda directory: _metrics(directory, job.domain.create(), job.engine.seed_bits),
            then=f"synthesize stage=filter {'engine=oracle ' if job.domain.has_oracle else ''}input",
        )


def oracle_metrics(questions: Iterable[str], domain: Domain) -> dict[str, float]:
    """Share of solvable questions and their mean steps, where the domain has an oracle."""
    labels = [v for v in map(domain.oracle_label, questions) if v is not None]
    if not labels:
        return {}
    steps = [v.steps for v in labels if v.solvable]
    return {"oracle/solvable": len(steps) / len(labels), "oracle/steps": sum(steps) / max(1, len(steps))}


def _metrics(directory: Path, domain: Domain, seed_bits: int) -> dict[str, float]:
    def questions() -> Iterator[str]:
        return (row["question"] for row in read_rows(directory, columns=["question"]))

    counts = Counter(row["generator"] for row in read_rows(directory, columns=["generator"]))
    return {
        **oracle_metrics(questions(), domain),
        **({f"rows/{name}": float(n) for name, n in counts.items()} if len(counts) > 1 else {}),
        **_of_operations(directory, domain),
        "distinct_3grams": distinct_ngrams(itertools.islice(questions(), COUNTED)),
        "repeated": float(_repeated(questions())),
        "repeated_by_seed": sum(n * (n - 1) / 2 for n in counts.values()) / 2**seed_bits,
    }


def _of_operations(directory: Path, domain: Domain) -> dict[str, float]:
    """Of a source with several operations: rows of each, and the share that the oracle calls solvable."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in read_rows(directory, columns=["operation", "question"]):
        texts[row["operation"]].append(row["question"])
    if len(texts) < 2:
        return {}
    solvable = {name: oracle_metrics(of, domain) for name, of in texts.items()}
    return {f"operation/{name}": float(len(of)) for name, of in texts.items()} | {
        f"oracle/solvable/{name}": m["oracle/solvable"] for name, m in solvable.items() if m
    }


def _repeated(texts: Iterator[str]) -> int:
    """How many are the same as an earlier one."""
    import numpy as np

    digests = (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts)
    values = np.fromiter(digests, dtype=np.uint64)
    return len(values) - len(np.unique(values))
