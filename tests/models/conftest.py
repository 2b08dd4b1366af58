"""Tiny models of every family that is trained on packs: random weights, from configs alone."""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import random
from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from sq.models.pack import TokenSequence

VOCABULARY = 97
PREFIX = 7
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
CONFIGS = {
    "llama": lambda: LlamaConfig(**GROUPED),
    "llama-tied-bias": lambda: LlamaConfig(**GROUPED, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen2-sliding": lambda: Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": lambda: Qwen3Config(**HEADS),
    "qwen3-wide": lambda: Qwen3Config(**{**GROUPED, "head_dim": 64}),
    "mistral-sliding": lambda: MistralConfig(**GROUPED, sliding_window=6),
    "gemma": lambda: GemmaConfig(**{**HEADS, "num_key_value_heads": 1}),
    "gemma2-sliding-capped": lambda: Gemma2Config(
        **HEADS, sliding_window=6, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gemma3-sliding": lambda: Gemma3TextConfig(
        **HEADS, sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
    ),
    "gpt-neox": lambda: GPTNeoXConfig(**SIZES),
    "cohere-scaled": lambda: CohereConfig(**GROUPED, logit_scale=0.25),
    "granite-scaled": lambda: GraniteConfig(**GROUPED, logits_scaling=2.0, attention_multiplier=0.3),
}
FAMILIES = tuple(CONFIGS)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return str(request.param)


@pytest.fixture
def prefix() -> int:
    """Length of the prefix that `rows` share."""
    return PREFIX


@pytest.fixture
def make_model() -> Callable[[str], PreTrainedModel]:
    """Build a family's tiny model with weights large enough for attention to matter."""

    def make(family: str) -> PreTrainedModel:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[family](), attn_implementation="eager")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(4)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.train()

    return make


@pytest.fixture
def rows() -> list[TokenSequence]:
    """Rows of several lengths behind one prefix: one token alone, equal lengths, longer than the sliding windows."""
    draw = random.Random(0)
    prefix = [draw.randrange(VOCABULARY) for _ in range(PREFIX)]
    own = (1, 5, 12, 13, 20, 3, 3)
    return [TokenSequence(prefix + [draw.randrange(VOCABULARY) for _ in range(n)], PREFIX) for n in own]
