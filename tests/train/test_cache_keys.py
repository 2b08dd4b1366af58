"""Every setting of a training job changes the keys of what is cached, or is listed with the reason why it need not.

The settings are read off the dataclasses, so that a new one is tested without being named here.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from sq.core.config import flatten
from sq.core.tracking import TrackingConfig
from sq.data.bin_packing import pack_rows
from sq.data.module import PackPlan
from sq.domains.arithmetic import ArithmeticConfig
from sq.models.attention import Attention, Kernel
from sq.models.load import ModelConfig
from sq.train import difficulty, pretrain, qft, reward, sft  # noqa: F401 - known by their classes
from sq.train.config import DataConfig, TrainerConfig, TrainJob
from sq.train.fit import PreparedRun, fit, prepare
from sq.train.qpo import Preference, QPOStage
from sq.train.record import IGNORED_BY_REFERENCES, IGNORED_BY_TOKENS, references_key
from sq.train.stage import StageConfig


def settings(kind: type, group: str) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, type and choices of a config's fields, those of the configs in it too."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings(hints[field.name], f"{group}.{field.name}")
        else:
            yield f"{group}.{field.name}", hints[field.name], field.metadata.get("choices")


def stages(kind: type) -> Iterator[type]:
    """The stages below a class; those in between have none of their own `encoding`."""
    for sub in kind.__subclasses__():
        yield from stages(sub) if inspect.isabstract(sub) else [sub]


STAGES = list(stages(StageConfig))
GROUPS = {"data": DataConfig, "model": ModelConfig, "trainer": TrainerConfig}
EVERY = {s[0]: (*s, stage) for stage in [*STAGES, QPOStage] for s in settings(stage, "stage")}
EVERY |= {s[0]: (*s, QPOStage) for group, kind in GROUPS.items() for s in settings(kind, group)}
GIVEN = {
    "data.input": {"data.input": "copy.jsonl"},
    "data.mix": {"data.mix": {"pairs.jsonl": 1}, "data.input": None},
    "stage.batch_rows": {"stage.batch_rows": 4, "stage.batch_packs": None},
    "stage.batch_packs": {"stage.batch_packs": 2, "stage.batch_rows": None},
    "stage.label_smoothing": {"stage.label_smoothing": 0.1, "stage.loss": Preference.ROBUST},
    "trainer.lora.quantize": {"trainer.lora.quantize": True, "trainer.lora.rank": 4},
    "model.chat.date": {"model.chat.date": "2001-01-01"},
    "data.encoding": {"data.encoding": "cp1252"},
    "data.where": {"data.where": "question != ''"},
    "model.chat.reasoning": {"model.chat.reasoning": ["<a>", "</a>"]},
}
"""Settings that not any other value will do for, or that come with others."""


def other(name: str, hint: Any, choices: Any, value: Any) -> dict[str, Any]:
    """The setting with another value that may be."""
    if name in GIVEN:
        return GIVEN[name]
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # of int | None: int
    kind = typing.get_origin(kind) or kind
    if choices or issubclass(kind, Enum):
        return {name: next(choice for choice in choices or kind if choice != value)}
    if kind is bool:
        return {name: not value}
    if value and kind in (int, float):
        return {name: value + 1 if kind is int else value * 0.9}
    return {name: {int: 64, float: 0.5, str: f"{value}x", list: ["x"], dict: {"a": "b"}}[kind]}


def replaced(config: Any, values: dict[str, Any]) -> Any:
    """A config with some settings, by dotted name, changed."""
    own = {name: value for name, value in values.items() if "." not in name}
    for group in {name.partition(".")[0] for name in values if "." in name}:
        inner = {n.partition(".")[2]: v for n, v in values.items() if n.startswith(f"{group}.")}
        own[group] = replaced(getattr(config, group), inner)
    return dataclasses.replace(config, **own)


def value_of(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainJob, PreparedRun]:
    """A job, and what it makes of rows, to change one setting of."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("pairs.jsonl", "copy.jsonl"):
        (directory / name).write_text(json.dumps({"chosen": "What is 1 + 1?", "rejected": "What?"}))
    made = TrainJob(
        stage=QPOStage(name="qpo", lr=1e-3), model=ModelConfig(name="tiny", path="package:tiny"),
        domain=ArithmeticConfig(), data=DataConfig(input=str(directory / "pairs.jsonl")), trainer=TrainerConfig(),
        tracking=TrackingConfig(enabled=False), output_dir="out",
    )  # fmt: skip
    return made, prepare(made)


@pytest.mark.parametrize("name", EVERY)
def test_a_setting_changes_the_keys_or_is_listed(
    name: str, base: tuple[TrainJob, PreparedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same rows, packs, weights and attention each time."""
    _, hint, choices, stage = EVERY[name]
    made, given = base
    monkeypatch.chdir(Path(made.data.input or "").parent)
    made = dataclasses.replace(made, stage=stage(name="stage", lr=1e-3))
    changed = replaced(made, other(name, hint, choices, value_of(made, name)))
    assert value_of(changed, name) != value_of(made, name)
    plan = PackPlan(packing=pack_rows([9, 9], 64), prefix=0, batch_packs=1, processes=1)
    attention = Attention(kernel=Kernel.SDPA, reason="", shares_prefix=True)

    def keys(job: TrainJob) -> tuple[str, str]:
        settings = flatten(job)
        tokens = dataclasses.replace(given.reader, source=job.data).key(settings)
        others = {"tokens": tokens, "weights": "weights", "plan": plan, "attention": attention, "device": "cpu"}
        return tokens, references_key(settings, **others)

    same = [mine == yours for mine, yours in zip(keys(made), keys(changed), strict=True)]
    assert same == [name in IGNORED_BY_TOKENS, name in IGNORED_BY_REFERENCES]


def test_what_is_listed_exists_and_has_a_reason() -> None:
    assert IGNORED_BY_REFERENCES.keys() < IGNORED_BY_TOKENS.keys() <= EVERY.keys()
    assert all(IGNORED_BY_TOKENS.values())


@pytest.mark.parametrize(
    ("words", "made_anew"),
    [
        ("data.input={model}-more.jsonl", ("tokens", "reference")),
        ("model.path={model}-other-words", ("tokens", "reference")),
        ("model.tokenizer={model}-other-words", ("tokens", "reference")),
        ("model.path={model}-other-weights", ("reference",)),
        ("model.max_length=120", ("tokens", "reference")),
        ("stage.pack_tokens=128", ("tokens", "reference")),
        ("stage.batch_rows=2", ("reference",)),
        ("stage.share_prefix=false", ("reference",)),
        ("trainer.attention=unpacked", ("reference",)),
        ("stage.lr=1e-6", ()),
        ("model.path={model}-copy", ()),
    ],
)
def test_what_follows_from_a_listed_setting_counts(
    words: str, made_anew: tuple[str, ...], job: Callable[..., TrainJob], pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A path, a limit and a size of packs are no part of a key, but what they lead to is."""
    model = tmp_path / "model"
    Path(f"{model}-more.jsonl").write_text(pairs.read_text().replace("What", "And what"))
    for name in ("", "-copy", "-other-words", "-other-weights"):
        shutil.copytree(tiny_model, f"{model}{name}")
    template = Path(f"{model}-other-words", "chat_template.jinja")
    template.write_text(template.read_text().replace("<|im_start|>{{", "<|im_start|> {{"))
    weights = Path(f"{model}-other-weights", "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    def cached(*more: str) -> set[str]:
        given = (
            f"data.input={pairs}",
            f"model.path={model}",
            f"trainer.cache={tmp_path / 'cache'}",
            "stage.max_steps=1",
        )
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        fit(job("qpo", *given, *more))
        return {path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")}

    before = cached()
    new = cached(words.format(model=model)) - before
    assert sorted(name.partition("-")[0] for name in new) == sorted(made_anew)


def test_certainty_weights_are_not_those_of_an_earlier_run(job: Callable[..., TrainJob], labels: Path) -> None:
    def weights(*words: str) -> set[float]:
        made = job("difficulty", f"data.input={labels}", *words)
        given = prepare(made)
        return set(given.reader.read(given.cache / given.tokens).train.values[:, 1].tolist())

    assert weights() == {1.0}
    assert len(weights("stage.certainty_weights=true")) > 1
