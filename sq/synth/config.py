"""The configuration of synthesis: stages and the job that ties one to a model, an engine and a directory."""

from __future__ import annotations

from dataclasses import dataclass

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.domains.base import DomainConfig
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig


@dataclass(frozen=True, kw_only=True)
class SynthStage:
    """Base of the synthesis stages' configs."""

    name: str = setting(help="stage name")


@dataclass(frozen=True, kw_only=True)
class QuestionsStage(SynthStage):
    """Questions sampled from nothing but the chat prefix (paper, section 2.1: T 1.0, top-p 0.99, 512 tokens)."""

    count: int = setting(1000, ge=1, help="samples to draw")
    temperature: float = setting(1.0, ge=0)
    top_p: float = setting(0.99, gt=0, le=1)
    max_tokens: int = setting(512, ge=1)


@dataclass(frozen=True, kw_only=True)
class SynthJob:
    """One stage of synthesis: rows from a model, exactly once each."""

    stage: SynthStage
    model: ModelConfig
    engine: EngineConfig
    domain: DomainConfig
    tracking: TrackingConfig
    output_dir: str = setting(help="the stage's directory: parts, rejects, manifest")
    seed: int = setting(0, ge=0, help="random seed: the same one gives the same rows and weights")

    def run(self) -> dict[str, float]:
        """Run the stage to its end; its figures."""
        from sq.synth.questions import sample_questions

        if not isinstance(self.stage, QuestionsStage):
            raise TypeError(f"stage {self.stage.name} has no work to do")
        return sample_questions(self, self.stage)
