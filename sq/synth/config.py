"""The configuration of synthesis: the job that ties a stage to its input, a model, an engine and a directory.

Each stage's own config stands with its code (`sq/synth/answers.py`, say), each filter's with the filter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.data.sources import SourceConfig, check_there
from sq.domains.base import DomainConfig
from sq.engine.config import EngineConfig
from sq.engine.engine_log import LOG, log_to
from sq.models.load import ModelConfig
from sq.synth.filters.base import FilterConfig
from sq.synth.launchers import ClusterConfig
from sq.synth.run import run_stage
from sq.synth.stage import StageSpec

AskedModel: TypeAlias = tuple[ModelConfig | None, EngineConfig]
"""A model and what serves it; None for one that is not the job's."""


@dataclass(frozen=True, kw_only=True)
class SynthStage:
    """Base of the synthesis stages' configs."""

    name: str = setting(help="stage name")

    def spec(self, job: SynthJob) -> StageSpec:
        """What this stage does, checked and ready to run; no weight is loaded yet."""
        raise TypeError(f"stage {self.name} has no spec")

    def engines(self, job: SynthJob) -> list[AskedModel]:
        """Those that start for it, on the same GPUs: without one it takes none."""
        return [(job.model, job.engine)]


@dataclass(frozen=True, kw_only=True)
class SynthJob:
    """One stage of synthesis: rows from a model, exactly once each."""

    stage: SynthStage
    model: ModelConfig
    engine: EngineConfig
    domain: DomainConfig
    tracking: TrackingConfig
    source: SourceConfig
    filters: dict[str, FilterConfig] = field(default_factory=dict)
    input: str | None = setting(None, help="a stage's directory, or any file or dataset from outside")
    columns: dict[str, str] | None = setting(None, help="of a file from outside: our column -> its name there")
    limit: int | None = setting(None, ge=1, help="only so many rows of the input")
    where: str | None = setting(None, help="which rows of the input: fail_rate >= 0.5 and level != 'easy'")
    workers: int = setting(1, ge=1, help="processes with an engine of their own that share the stage's parts")
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    part_size: int = setting(1024, ge=1, help="rows of the input that a worker takes at once; of a new directory")
    output_dir: str = setting(help="the stage's directory: parts, rejects, manifest")
    retry_engine_rejects: bool = setting(False, help="ask again for rows that an earlier run rejected as engine")
    seed: int = setting(0, ge=0, help="random seed: the same one gives the same rows and weights")

    @property
    def gpus_each(self) -> int:
        """How many GPUs each of its workers takes, where there are any."""
        return max((engine.gpus for _, engine in self.stage.engines(self)), default=0)

    def run(self) -> dict[str, float]:
        """Run the stage to its end; its metrics."""
        check_there(self.source)
        on_gpus = self.cluster.address is not None and self.cluster.gpus
        job = replace(self, engine=self.engine.on_gpu()) if on_gpus else self
        with log_to(Path(self.output_dir) / LOG):
            job.engine.prepare()
            return run_stage(job, job.stage.spec(job))
