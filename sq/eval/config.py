"""The configuration of an evaluation: a model, an engine, and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.engine.config import EngineConfig
from sq.eval.benchmarks import BenchmarkConfig
from sq.models.load import ModelConfig


@dataclass(frozen=True, kw_only=True)
class EvalJob:
    """Answers every benchmark's problems with a model and reports the share that is right."""

    model: ModelConfig
    engine: EngineConfig
    benchmark: dict[str, BenchmarkConfig]
    tracking: TrackingConfig
    output_dir: str = setting(help="where answers and scores go, one directory for each benchmark")
    limit: int | None = setting(None, ge=1, help="only so many problems of each benchmark")
    n: int = setting(1, ge=1, help="answers to each problem")
    temperature: float = setting(0.0, ge=0, help="0 is greedy")
    top_p: float = setting(1.0, gt=0, le=1)
    max_tokens: int = setting(512, ge=1, help="longest answer")
    seed: int = setting(0, ge=0)

    def __post_init__(self) -> None:
        if not self.benchmark:
            raise ValueError("benchmark=[] names none; give at least one, as in benchmark=[arithmetic]")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n={self.n} answers with temperature=0 are all the same; raise temperature=")

    def run(self) -> dict[str, dict[str, float]]:
        """Answer, grade, report; the figures by benchmark."""
        from sq.eval.run import evaluate

        return evaluate(self)
