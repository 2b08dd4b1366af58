"""What every engine's config is: something that can start an engine on a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sq.engine.base import Engine
from sq.models.load import ModelConfig, fingerprint, is_scorer


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Base of the engines' configs."""

    reads_ids: ClassVar[bool] = True
    """Whether prompts go to it as token ids of the job's model, made by the chat contract; else as chat messages."""

    def identity(self, model: ModelConfig) -> str:
        """What decides its output, known before it starts: the weights, or what stands in their place."""
        return fingerprint(model)

    def can_score(self, model: ModelConfig) -> bool:
        """Whether it scores with this model, known before it starts."""
        return is_scorer(model)

    def prepare(self) -> None:
        """Set what must stand in the environment before torch is imported: called first of all by a job that runs."""

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`."""
        raise TypeError(f"{type(self).__name__} starts no engine")
