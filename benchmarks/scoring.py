"""Scores: ours beside one conversation at a time and beside naive padding, with the scores compared.

    python benchmarks/scoring.py MODEL_DIR [--questions 4] [--repeats 3] [--dtype bfloat16|float32]

A head of random numbers makes a reward model and a difficulty regressor of a small language model (SmolLM2-135M).
Rewards: five replies of answers' usual lengths to each question, through `engine=hf`. Difficulty: questions through the
filter's scorer. Rates are per CPU second, medians over repeats that take turns.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sq.core.chat import ChatFormat
from sq.core.cpu import cpu_has_bf16
from sq.data.scoring import score_questions
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine.base import ScoreRequest
from sq.engine.hf import HFConfig
from sq.models.load import ModelConfig, load_classifier, load_model, load_tokenizer
from sq.models.regressor import NOTE, Regressor, export_regressor

Scores = dict[str, float]


def main() -> None:
    """Measure both kinds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16" if cpu_has_bf16() else "float32", choices=("bfloat16", "float32"))
    parser.add_argument("--only", choices=("reward", "difficulty"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        named = _scorer(asked.model, Path(made) / "scorer", asked.dtype)
        if asked.only != "reward":
            _difficulty(named, asked)
        if asked.only != "difficulty":
            (Path(named.path) / NOTE).unlink()  # without it the classifier is a reward model
            _rewards(named, asked)


def _rewards(named: ModelConfig, asked: argparse.Namespace) -> None:
    talks = _conversations(asked.questions)
    engine = HFConfig(device="cpu", dtype=asked.dtype).create(named)
    model, tokenizer = load_classifier(named, dtype=asked.dtype).eval(), load_tokenizer(named)
    ids = {key: tuple(tokenizer.apply_chat_template(list(m), return_dict=False)) for key, m in talks.items()}
    mean = sum(map(len, ids.values())) / len(ids)
    print(f"rewards, {len(ids)} conversations of {mean:.0f} tokens, five to a question, {asked.dtype}")
    ways: dict[str, Callable[[], Scores]] = {
        "one at a time": lambda: _alone(model, ids),
        "padded by 8": lambda: _padded(model, ids, 8),
        "ours": lambda: {
            s.key: s.score or 0.0 for s in engine.score(ScoreRequest(key=k, messages=m) for k, m in talks.items())
        },
    }
    _compare(ways, len(ids), asked.repeats)
    engine.close()


def _difficulty(named: ModelConfig, asked: argparse.Namespace) -> None:
    regressor, plain = Regressor(named, dtype=asked.dtype), load_classifier(named, dtype=asked.dtype).eval()
    questions = [row["question"] for row in ArithmeticDomain().seeds(16 * asked.questions, 0, "train")]
    ids = {text: tuple(regressor.chat.question_ids(text).ids) for text in questions}
    mean = sum(map(len, ids.values())) / len(ids)
    print(f"difficulty, {len(ids)} questions of {mean:.0f} tokens, {asked.dtype}")
    bias = float(regressor.head.bias.detach())
    ways: dict[str, Callable[[], Scores]] = {
        "one at a time": lambda: {k: v + bias for k, v in _alone(plain, ids).items()},
        "padded by 16": lambda: {k: v + bias for k, v in _padded(plain, ids, 16).items()},
        "ours": lambda: dict(zip(questions, score_questions(regressor, questions), strict=True)),
    }
    _compare(ways, len(ids), asked.repeats)


def _compare(ways: dict[str, Callable[[], Scores]], count: int, repeats: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Scores] = {}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begun = time.process_time()
            found[name] = way()
            if turn:  # the first is to warm up
                rates[name].append(count / (time.process_time() - begun))
    base = found["one at a time"]
    for name in ways:
        ratio = statistics.median(r / b for r, b in zip(rates[name], rates["one at a time"], strict=True))
        apart = max(abs(found[name][key] - base[key]) for key in base)
        print(f"{name:>14}: {statistics.median(rates[name]):7.2f} per CPU s, {ratio:.2f}x, scores within {apart:.1e}")


@torch.inference_mode()
def _alone(model: Any, ids: dict[str, tuple[int, ...]]) -> Scores:
    model.config.pad_token_id = None
    return {key: float(model(input_ids=torch.tensor([one])).logits[0, 0]) for key, one in ids.items()}


@torch.inference_mode()
def _padded(model: Any, ids: dict[str, tuple[int, ...]], size: int) -> Scores:
    """Batches as they come, padded on the right with an id that no conversation ends in."""
    model.config.pad_token_id = 0
    scores: Scores = {}
    keys = list(ids)
    for part in (keys[i : i + size] for i in range(0, len(keys), size)):
        width = max(len(ids[key]) for key in part)
        batch = torch.tensor([[*ids[key], *[0] * (width - len(ids[key]))] for key in part])
        mask = torch.tensor([[1] * len(ids[key]) + [0] * (width - len(ids[key])) for key in part])
        scores |= zip(part, model(input_ids=batch, attention_mask=mask).logits[:, 0].tolist(), strict=True)
    return scores


def _conversations(count: int) -> dict[str, tuple[dict[str, str], ...]]:
    """Five replies to each of `count` questions; a reply is some worked solutions one after the other."""
    rng = random.Random(0)
    rows = list(ArithmeticDomain().seeds(400, 0, "train"))
    talks = {}
    for i in range(count):
        question = " ".join(row["question"] for row in rows[2 * i : 2 * i + 2])  # as long as those of MATH and GSM8K
        for j in range(5):
            words = rng.randint(120, 420)
            text = " ".join(" ".join(rng.choice(rows)["solution"] for _ in range(40)).split()[:words])
            asks = f"{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
            talks[f"{i}-{j}"] = ({"role": "user", "content": asks}, {"role": "assistant", "content": text})
    return talks


def _scorer(path: str, directory: Path, dtype: str) -> ModelConfig:
    """The model with a head of random numbers, as stage=difficulty would export it."""
    named = ModelConfig(name="scorer", path=path)
    model, tokenizer = load_model(named), load_tokenizer(named)
    head = nn.Linear(model.config.hidden_size, 1)
    nn.init.normal_(head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    chat = ChatFormat.from_tokenizer(tokenizer, named.chat)
    state = model.state_dict().items()
    export_regressor(
        model, state, head.state_dict(), tokenizer, chat, directory, dtype=getattr(torch, dtype), origin={}
    )
    return ModelConfig(name="scorer", path=str(directory))


if __name__ == "__main__":
    main()
