"""A stage run in this process with the arithmetic oracle in the model's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sq.core.columns import TABLE
from sq.core.config import build, conf_dir
from sq.core.ledger import read_manifest
from sq.core.metrics import metrics_of
from sq.synth.config import SynthJob
from sq.synth.stage_metrics import read_stage_metrics

sys.path.append(str(Path(__file__).parent))  # helper modules beside this file


@pytest.fixture(scope="session")
def job():
    """`job("answers", "input=domain", ...)` -> a SynthJob, as the command line would compose it."""

    def compose_job(stage: str, *overrides: str) -> SynthJob:
        base = [f"stage={stage}", "tracking=none"]
        if not any(o.startswith("engine=") for o in overrides):
            base.append("engine=oracle")
        groups = ("stage", "model", "domain", "engine", "tracking", "filters", "source")
        own = [o.replace("source=", "source@stage.source=", 1) if o.startswith("source=") else o for o in overrides]
        given = [o if o.split("=")[0].split("@")[0] in groups or o.startswith("+") else f"++{o}" for o in own]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(compose("synthesize", overrides=[*base, *given]), SynthJob)

    return compose_job


@pytest.fixture
def pool_of_gone(job, tmp_path, monkeypatch):
    """A coordinator of two workers without processes (`gone_workers.py`)."""
    from gone_workers import pool_of

    monkeypatch.setattr("sq.synth.pool.CHECK_SECONDS", 0)
    given = ("input=domain", "engine.error_rate=0.2", "part_size=8", "limit=40")
    with pool_of(job("answers", *given, "workers=2", f"output_dir={tmp_path}/a"), tmp_path) as pool:
        yield pool


@pytest.fixture
def run(job, tmp_path):
    """`run("answers", "input=domain", to="a")` -> the figures; the directory is tmp_path / to."""

    def done(stage: str, *overrides: str, to: str) -> dict[str, float]:
        metrics = job(stage, *overrides, f"output_dir={tmp_path / to}").run()
        unknown = [name for name in read_manifest(tmp_path / to).schema if name not in TABLE]
        assert not unknown, f"stage={stage} writes columns that sq/core/columns.py does not know: {unknown}"
        measured = read_stage_metrics(tmp_path / to)["figures"]
        known = {name + end for _, name, _ in metrics_of(stage, measured) for end in ("", "_low", "_high")}
        assert measured.keys() <= known, f"sq/core/metrics.py does not know {measured.keys() - known}"
        return metrics

    return done
