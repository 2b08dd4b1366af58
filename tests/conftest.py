"""Fixtures for all tests. Helper modules beside this file are handed out as fixtures: tests/ is no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


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
