"""The settings of an evaluation, and what must hold between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sq.core.config import nearest, setting
from sq.core.tracking import TrackingConfig
from sq.engine.config import EngineConfig
from sq.eval.benchmarks import BenchmarkConfig
from sq.eval.grader_config import GraderConfig, Profile
from sq.eval.paper import base_of
from sq.eval.prompting import FormatConfig
from sq.models.load import ModelConfig
from sq.sandbox.config import SandboxConfig

PROFILES = tuple(p.value for p in Profile)


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """A model, an engine, benchmarks, how questions are put and answers graded."""

    model: ModelConfig
    engine: EngineConfig
    benchmark: dict[str, BenchmarkConfig]
    tracking: TrackingConfig
    format: FormatConfig
    formats: dict[str, FormatConfig] = field(default_factory=dict)
    grader: GraderConfig = field(default_factory=GraderConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    reward: ModelConfig | None = None
    reward_engine: EngineConfig | None = None
    output_dir: str = setting(help="where answers and scores go, one directory for each benchmark")
    limit: int | None = setting(None, ge=1, help="only so many problems of each benchmark, the first ones")
    n: int = setting(1, ge=1, help="answers to each problem")
    k: list[int] = setting([], ge=1, help="the k of pass@k, maj@k, best-of-k; none: powers of two up to n")
    temperature: float = setting(0.0, ge=0, help="0 is greedy")
    top_p: float = setting(1.0, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1, help="longest answer")
    profiles: list[str] = setting(
        ["strict", "dart"], choices=PROFILES, help="graders; the first one's score is the score"
    )
    export: list[str] = setting(
        [], choices=("lm-eval", "inspect"), help="write what these harnesses' tools read, too, below output_dir"
    )
    base: str | None = setting(None, help="base model of a tuned one, to stand beside the paper's: Mistral-7B, ...")
    retry_engine_rejects: bool = setting(False, help="ask again what the engine could not answer in an earlier run")
    seed: int = setting(0, ge=0, help="random seed: the same one gives the same rows and weights")

    @property
    def paper_base(self) -> str | None:
        """Which of the paper's base models it is, to stand beside."""
        return base_of(self.base or "", self.model.name, self.model.path)

    def __post_init__(self) -> None:
        if not self.benchmark:
            raise ValueError("benchmark=[] names none; give at least one, as in benchmark=[gsm8k]")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n={self.n} answers with temperature=0 are all the same; raise temperature=")
        if not self.profiles:
            raise ValueError(f"profiles=[] names no grader; give {' or '.join(PROFILES)}")
        if len(set(self.profiles)) < len(self.profiles):
            raise ValueError(f"profiles={self.profiles} names a grader twice")
        if too_many := [k for k in self.k if k > self.n]:
            raise ValueError(f"k={too_many} needs more answers to each problem than n={self.n}")
        if (self.reward is None) != (self.reward_engine is None):
            raise ValueError("reward and reward_engine come together: +model@reward=NAME +engine@reward_engine=NAME")
        for name in self.formats.keys() - {self.model.name}:
            if hint := nearest(name, [self.model.name]):
                raise ValueError(f"formats.{name} is for no model here{hint}")
