"""Reward models of Qwen2.5-Math: two layers on the state of every token, in the place of their repositories' code.

That code was written for another transformers. One number a token (Qwen2.5-Math-RM), or two (Qwen2.5-Math-PRM).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model, Qwen2PreTrainedModel

LABELS = {"Qwen2ForRewardModel": 1, "Qwen2ForProcessRewardModel": 2}


class QwenReward(Qwen2PreTrainedModel):  # type: ignore[misc]
    """The body of Qwen2 with the head of a reward model."""

    config_class = Qwen2Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        size = config.hidden_size
        self.score = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, LABELS[config.architectures[0]]))
        self.post_init()

    @staticmethod
    def fits(config: Any) -> bool:
        """Whether a model of this configuration is one."""
        return bool(LABELS.keys() & set(config.architectures or ()))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """The numbers of every token [B, T, labels]."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return (self.score(states.to(self.score[0].weight.dtype)),)
