"""Tests of what only a GPU runs. `SQ_GPU_TESTS=cpu` tries the tests themselves where there is none."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else os.environ.get("SQ_GPU_TESTS", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this directory are marked, and skipped without a device to run on."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not DEVICE:
                item.add_marker(pytest.mark.skip(reason="this machine has no GPU"))


@pytest.fixture
def device() -> str:
    """Where the models are."""
    return DEVICE


@pytest.fixture
def needs():
    """Skip a test whose package is not installed."""

    def check(package: str | None) -> None:
        if package and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")

    return check
