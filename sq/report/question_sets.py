"""The sets of questions that the page sets side by side: what the run began with, and what its stages made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from sq.core.errors import SqError
from sq.report.artifacts import RunArtifacts, StageArtifacts

MOST = 20_000
"""Questions of one stage that are looked at; of more, so many are drawn."""
SEEDS = 2_000
"""Seeds that are looked at."""


def question_stages(artifacts: RunArtifacts, most: int = 4) -> dict[str, StageArtifacts]:
    """The stages whose questions are worth setting side by side: the ablation's, else all; at most `most`."""
    sampled = [s for s in artifacts.of("questions") if "figure" not in s.tags and s.tags.get("seed", "0") == "0"]
    return {stage.variant or stage.name: stage for stage in sampled[: most - 1] + artifacts.filters[-1:]}


def question_sets(artifacts: RunArtifacts) -> dict[str, list[str]]:
    """The questions of seeds and of each of those stages."""
    stages = {name: stage.questions(MOST) for name, stage in question_stages(artifacts).items()}
    return {name: texts for name, texts in {"seeds": seeds(artifacts), **stages}.items() if texts}


def seeds(artifacts: RunArtifacts) -> list[str]:
    """Seed questions: what question fine-tuning read, else what fail rates are of; empty where they cannot be read."""
    for stage in artifacts.of("qft"):
        if stage.overrides and (read := _training_input(stage.overrides)):
            return read
    for stage in artifacts.of("fail_rate"):
        if read := stage.questions(SEEDS):
            return read
    if artifacts.domain is None or not artifacts.of("questions"):
        return []
    return [row["question"] for row in artifacts.domain.seeds(SEEDS, 0, "train")]


@lru_cache(maxsize=8)
def _training_input(overrides: tuple[str, ...]) -> list[str]:
    """What train.py would read with these overrides."""
    from sq.core.compose import compose
    from sq.core.config import build
    from sq.data.sources import read_source
    from sq.train.config import TrainJob

    try:
        job = build(compose("train", overrides, "sq.train"), TrainJob)
        rows = read_source(job.data, ("question",), domain=job.domain.create())
        return [row["question"] for row in islice(rows, SEEDS)]
    except (SqError, OSError):
        return []  # the file is not here any more, or the command is of another version


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 5th percentile, the median and the 95th."""
    ranked = sorted(values)
    low, middle, high = (ranked[min(len(ranked) - 1, int(place * len(ranked)))] for place in (0.05, 0.5, 0.95))
    return low, middle, high


def repeated(texts: Sequence[str]) -> int:
    """How many are the same as another one, letters' case and spaces aside."""
    return len(texts) - len({" ".join(text.casefold().split()) for text in texts})
