"""Rows on their way through a recipe's stages: how many reach each, how long they are, and which model meets them.

Counts are those of the stages' settings; what filters let through and how long texts are is assumed. Everything else
(models, samples, prompts, epochs) is read off the jobs as they would run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sq.core.errors import ConfigError
from sq.data.sources import DOMAIN_ROWS, SourceConfig, parts
from sq.eval.benchmarks import BenchmarkConfig, DomainBenchmark
from sq.eval.config import EvalJob
from sq.models.load import ModelConfig
from sq.recipe.assumptions import AssumptionsConfig
from sq.recipe.cost import PlanStage
from sq.recipe.sizes import SizesConfig
from sq.synth.config import SynthJob
from sq.train.config import TrainJob

Job = TrainJob | SynthJob | EvalJob
DOMAIN = "domain"
"""An input that means the domain's own problems."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A stage of a recipe: its name, its job, and whether it belongs to the paper's table."""

    name: str
    job: Job
    note: str = ""


@dataclass
class Flow:
    """What is known so far, by the directory that a stage writes."""

    assume: AssumptionsConfig
    sizes: SizesConfig
    rows: dict[str, float] = field(default_factory=dict)
    per_question: dict[str, float] = field(default_factory=dict)
    """Rows of a directory that belong to one question: the candidates of `answers`."""
    trained: dict[str, float] = field(default_factory=dict)
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
        if source.mix:
            each = [self.rows_of(part.source) for part in parts(source).values()]
            total = sum(each)
        elif source.input is None or source.input.partition(":")[0] == DOMAIN:
            total = float(source.limit or DOMAIN_ROWS)
        else:
            total = self._rows_at(source.input)
        return min(total, source.limit) if source.limit else total

    def _rows_at(self, path: str) -> float:
        if (made := self.made(path, self.rows)) is not None:
            return made
        if path in self.sizes.rows:
            return self.sizes.rows[path]
        if (held := _on_disk(Path(path))) is not None:
            return held
        raise ConfigError(f"how many rows {path} has is not known; say it: sizes.rows.'{path}'=10000, or set a limit")

    def made(self, path: str, known: dict[str, float]) -> float | None:
        """What is known of the stage that writes `path` or a directory above it."""
        place = Path(path)
        return next((known[str(p)] for p in (place, *place.parents) if str(p) in known), None)

    def billions(self, model: ModelConfig) -> float:
        """Billion active parameters of a model, which a stage of the recipe may have trained."""
        trained = self.made(model.path, self.trained)
        return self.sizes.billions(model.path) if trained is None else trained

    def source_of(self, source: SourceConfig) -> str | None:
        """The directory of the stage that a source reads, if it is one of the recipe's."""
        if source.input is None:
            return None
        place = Path(source.input)
        return next((str(p) for p in (place, *place.parents) if str(p) in self.rows), None)


def flow(stages: Iterable[Planned], assume: AssumptionsConfig, sizes: SizesConfig) -> tuple[list[PlanStage], Flow]:
    """What every stage does, in the order given, and what is known at the end."""
    from sq.recipe.flow_synth import synthesised
    from sq.recipe.flow_train import evaluated, trained

    known = Flow(assume, sizes)
    found: list[PlanStage] = []
    for stage in stages:
        job = stage.job
        if isinstance(job, TrainJob):
            found += trained(stage.name, job, known)
        elif isinstance(job, SynthJob):
            found += synthesised(stage.name, job, known)
        else:
            found += evaluated(stage.name, job, known)
    names = {known.wrote[place] for place in known.for_pairs - known.for_more if place in known.wrote}
    return [replace(one, phase="QPO") if one.name in names else one for one in found], known


def problems_of(benchmark: BenchmarkConfig, sizes: SizesConfig) -> float:
    """How many problems a benchmark has."""
    if isinstance(benchmark, DomainBenchmark):
        return float(benchmark.count)
    if benchmark.name in sizes.rows:
        return float(sizes.rows[benchmark.name])
    raise ConfigError(f"how many problems {benchmark.name} has is not known; say it: sizes.rows.{benchmark.name}=500")


def _on_disk(path: Path) -> float | None:
    """Rows of a finished stage's directory or of a jsonl file on this disk."""
    if (path / "manifest.json").is_file():
        from sq.core.ledger import read_manifest

        return float(read_manifest(path).rows)
    if path.is_file() and path.suffix == ".jsonl":
        with path.open("rb") as file:
            return float(sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")))
    if path.is_file() and path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return float(pq.read_metadata(path).num_rows)
    return None
