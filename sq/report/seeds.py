"""The questions that a run began with: what its question fine-tuning read, else what fail rates were measured on."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice

from sq.core.errors import SqError
from sq.report.artifacts import RunArtifacts

MOST = 2_000
"""Seeds that are looked at."""


def seeds(artifacts: RunArtifacts) -> list[str]:
    """Seed questions of the run; empty where none are known or can be read any more."""
    for stage in artifacts.of("qft"):
        if stage.overrides and (read := _of_training(stage.overrides)):
            return read
    for stage in artifacts.of("fail_rate"):
        if read := [row["question"] for row in stage.sample(MOST, "question")]:
            return read
    if artifacts.domain is None or not artifacts.of("questions"):
        return []
    return [row["question"] for row in artifacts.domain.seeds(MOST, 0, "train")]


@lru_cache(maxsize=8)
def _of_training(overrides: tuple[str, ...]) -> list[str]:
    """What train.py would read with these overrides."""
    from sq.core.compose import compose
    from sq.core.config import build
    from sq.data.sources import read_source
    from sq.train.config import TrainJob

    try:
        job = build(compose("train", overrides, "sq.train"), TrainJob)
        rows = read_source(job.data, ("question",), domain=job.domain.create())
        return [row["question"] for row in islice(rows, MOST)]
    except (SqError, OSError):
        return []  # the file is not here any more, or the command is of another version
