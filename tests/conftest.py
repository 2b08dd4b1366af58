"""Fixtures for all tests. Helper modules beside this file are handed out as fixtures: tests/ is no package."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

settings.register_profile("sq", deadline=None)  # no test fails on the clock
settings.load_profile("sq")

os.environ["SQ_RATES"] = ""  # forecasts neither follow what this machine has run nor learn from tests

# A shell that starts pytest in the background has it ignore SIGINT, and what tests start would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = (
    "synth/test_killed_vllm.py", "recipe/test_tiny.py", "train/test_effects.py", "test_setup.py", "test_sweep.py",
    "synth/test_workers.py", "synth/test_workers_ray.py", "train/test_resume", "core/test_tracking_away.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left alone with one in the end."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))


@pytest.fixture(scope="session")
def chat_tokenizers() -> ModuleType:
    """The module `chat_tokenizers.py`: small tokenizers with the chat formats of well-known models."""
    return _helper("chat_tokenizers")


def _helper(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def random_tiny(tmp_path_factory):
    """A tiny Llama with random weights and a tokenizer made here, in Hugging Face form."""
    from sq.models.tiny import make_model, make_tokenizer

    texts = ["Tom has 12 apples. He buys 7 more apples. How many apples does he have now? \\boxed{19}"] * 20
    directory = tmp_path_factory.mktemp("random-tiny")
    tokenizer = make_tokenizer(texts)
    make_model(tokenizer, seed=1).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
