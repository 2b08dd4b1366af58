"""A small recipe of four real stages, and `sq run` as a process of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from forked_command import run

ROOT = Path(__file__).resolve().parents[2]
FORKED_RUN = Path(__file__).with_name("forked_run.py")
SMALL = {
    "_target_": "sq.recipe.config.RecipeConfig",
    "title": "A small one",
    "set": {"tracking": "none"},
    "scripts": {"synthesize": {"engine": "oracle", "engine.error_rate": 0.2}, "train": {"trainer.threads": 1}},
    "tracking": {"enabled": False},
    "stages": {
        "labels": {"script": "synthesize", "set": {"stage": "fail_rate", "limit": 24, "stage.n": 2}},
        "answers": {"script": "synthesize", "set": {"stage": "answers", "input": "@labels", "stage.n": 2}},
        "select": {"script": "synthesize", "set": {"stage": "select", "input": "@answers"}},
        "sft": {
            "script": "train",
            "set": {
                "stage": "sft",
                "model": "tiny-base",
                "data.input": "@select",
                "stage.max_steps": 2,
                "stage.batch_packs": 1,
                "stage.pack_tokens": 256,
            },
        },
    },
}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The recipe's file."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def command(small):
    """`command("seed=1", ...)` -> the words of `sq run` for the small recipe."""
    return lambda *words: [sys.executable, "-m", "sq.cli", "run", str(small), *words]


@pytest.fixture(scope="session")
def sq_run(small):
    """`sq_run(directory, "seed=1", ...)` -> the finished process, run in that directory; its stages are forks of it."""
    return lambda directory, *words: run(FORKED_RUN, ["run", small, *words], directory, environment())


@pytest.fixture(scope="session")
def finished(tmp_path_factory, sq_run):
    """A directory in which the small recipe has come to its end, and what was said."""
    directory = tmp_path_factory.mktemp("finished")
    done = sq_run(directory)
    assert done.returncode == 0, done.stderr
    return directory, done


@pytest.fixture(scope="session")
def record_of():
    """`record_of(directory)` -> recipe.json of the small recipe run there."""
    return lambda directory: json.loads((directory / "outputs/small/recipe.json").read_text())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "1000"}


@pytest.fixture(scope="session", name="environment")
def _environment():
    """The environment of such a process."""
    return environment()
