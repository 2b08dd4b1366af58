"""What every engine's config is: something that can start an engine on a model."""

from __future__ import annotations

from dataclasses import dataclass

from sq.engine.base import Engine
from sq.models.load import ModelConfig


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Base of the engines' configs."""

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`."""
        raise TypeError(f"{type(self).__name__} starts no engine")
