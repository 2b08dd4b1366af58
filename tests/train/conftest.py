"""A model small enough to train in seconds, files of rows, and jobs as the command line would make them."""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked_command import ForkedRank
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.domains.arithmetic import ArithmeticDomain, poor
from sq.models.tiny import make_tokenizer
from sq.train import launch
from sq.train.config import TrainJob

COMMON = [
    "tracking=none",
    "trainer.accelerator=cpu",
    "trainer.precision=fp32",
    "trainer.parity_check=false",
    "trainer.threads=1",
    "trainer.log_every=1",
    "stage.pack_tokens=256",
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 45K parameters with random weights and a tokenizer of the arithmetic domain's words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    seeds = list(ArithmeticDomain().seeds(300, 0))
    tokenizer = make_tokenizer(f"{s['question']}\n{s['solution']}" for s in seeds)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    directory = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What Lightning leaves in it is not there for the next test."""
    with launch.environment_kept():
        yield


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further processes of a training as forks of one that has imported what they need."""
    monkeypatch.setattr(launch, "_start", ForkedRank)


@pytest.fixture
def job(tiny_model: Path, tmp_path: Path) -> Callable[..., TrainJob]:
    """A training job as the command line makes it."""

    def make(stage: str, *overrides: str) -> TrainJob:
        return build(compose_train(stage, tiny_model, tmp_path / "out", *overrides))

    return make


def compose_train(stage: str, model: Path, output: Path, *overrides: str) -> Any:
    """The composed config of `python train.py stage=... ...`."""
    given = [f"stage={stage}", "model=tiny", f"model.path={model}", f"output_dir={output}", *COMMON]
    given += [*_few(stage, model, overrides), *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(
            "train",
            overrides=[
                o if o.split("=")[0] in ("stage", "model", "tracking", "trainer", "data") else f"++{o}" for o in given
            ],
        )


def _few(stage: str, model: Path, overrides: Sequence[str]) -> list[str]:
    """80 rows where a test names none: of the domain's 15,000 some would be held out at any limit."""
    if stage not in ("qft", "sft") or any(o.startswith(("data.input=", "data.mix=")) for o in overrides):
        return []
    path = model.with_name("seeds.jsonl")
    if not path.exists():
        write_rows(path, list(ArithmeticDomain().seeds(80, 0)))
    return [f"data.input={path}"]


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The same as words of a command line."""

    def make(stage: str, *overrides: str) -> list[str]:
        return [
            f"stage={stage}",
            "model=tiny",
            f"model.path={tiny_model}",
            f"output_dir={tmp_path / 'out'}",
            *COMMON,
            *_few(stage, tiny_model, overrides),
            *overrides,
        ]

    return make


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """40 pairs: a sound question, and a bad one."""
    import random

    draw = random.Random(0)
    rows = [
        {"chosen": s["question"], "rejected": poor(draw) or "What?", "direction": "solvability"}
        for s in ArithmeticDomain().seeds(40, 1)
    ]
    return write_rows(tmp_path / "pairs.jsonl", rows)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """80 questions whose fail rate grows with their steps."""
    rows = [
        {"question": s["question"], "fail_rate": min(1.0, s["steps"] / 6), "n": 6}
        for s in ArithmeticDomain().seeds(80, 1)
    ]
    return write_rows(tmp_path / "labels.jsonl", rows)


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """40 questions, each with a good solution said twice and two bad ones, as `fail_rate` keeps them."""
    import random

    draw, rows = random.Random(0), []
    for seed in ArithmeticDomain().seeds(40, 1):
        bad = [f"I do not know. \\boxed{{{draw.randint(200, 300)}}}", "Who can say?"]
        texts = [seed["solution"], bad[0], seed["solution"], bad[1]]
        rows.append({"question": seed["question"], "answer": seed["answer"], "solver_solutions": texts,
                     "solver_right": [True, False, True, False]})  # fmt: skip
    return write_rows(tmp_path / "graded.jsonl", rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
