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

    def context(self, model: ModelConfig) -> int | None:
        """How many tokens a prompt and its reply may have together, known before it starts; None: not known here."""
        return None

    def too_long(self, model: ModelConfig, *, max_tokens: int, prompt: int, setting: str) -> str | None:
        """What to say before a run whose replies may not become as long as allowed; None where they may.

        Args:
            model: what is served.
            max_tokens: the longest reply allowed.
            prompt: tokens of the shortest prompt there can be.
            setting: the key that sets `max_tokens`.
        """
        context = self.context(model)
        if context is None or prompt + max_tokens <= context:
            return None
        room = max(context - prompt, 0)
        return (
            f"{setting}={max_tokens} does not fit: the context of model {model.name} is {context:,} tokens here, and "
            f"the shortest prompt takes {prompt}. Replies are cut off at {room:,} tokens at most. Set {setting}={room} "
            "or less, or a longer context (engine.max_model_len, model.max_length), or choose a model that has one"
        )

    def prepare(self) -> None:
        """Set what must stand in the environment before torch is imported: called first of all by a job that runs."""

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`."""
        raise TypeError(f"{type(self).__name__} starts no engine")
