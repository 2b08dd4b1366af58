"""Rows of random tokens and models of random weights for `gpu.py`, of real ones' lengths and shapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

PREFIX = 24
SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    },
}  # fmt: skip


def rows_of(stage: str, vocabulary: int, tokens: int, scale: float) -> Iterator[Any]:
    """Rows of `tokens` in all: a prefix, and a question and a solution (SFT), two questions (QPO) or one (QFT)."""
    from sq.data.tokens import TokenizedExample
    from sq.models.pack import TokenSequence

    draw = random.Random(0)
    prefix = [draw.randrange(vocabulary) for _ in range(PREFIX)]

    def text(low: int, high: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(max(2, int(draw.randint(low, high) * scale)))]

    made, number = 0, 0
    while made < tokens:
        question = text(60, 200)
        if stage == "sft":
            answer = text(150, 900)
            sequences = [TokenSequence([*prefix, *question, *answer], PREFIX + len(question))]
        else:
            sides = [question] if stage == "qft" else [question, text(60, 200)]
            sequences = [TokenSequence([*prefix, *side], PREFIX) for side in sides]
        made += sum(len(sequence.ids) for sequence in sequences)
        yield TokenizedExample(tuple(sequences), f"row {number}")
        number += 1


def new_model(shapes: str, device: str, dtype: Any, **more: int) -> Any:
    """Random weights of Qwen2's architecture, made on the device."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Qwen2ForCausalLM(Qwen2Config(**SHAPES[shapes] | more, tie_word_embeddings=False))
    finally:
        torch.set_default_dtype(before)


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
