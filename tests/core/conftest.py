"""A real MLflow store for the tests of tracking, copied from one that was made once: its migrations take a second."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sq.core import secrets
from sq.core.tracking import Run, TrackingConfig, track
from sq.recipe.tracked_runs import read_runs

sys.path.append(str(Path(__file__).parent))  # helper modules beside this file


@pytest.fixture
def without_waiting_for_the_disk(monkeypatch):
    """What syncing is for is tested in test_ledger_power.py; nothing here can tell the difference."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """An empty store at the default place, in a working directory of its own."""
    for name in ("SQ_PARENT_RUN", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(secrets, "_remembered", set())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    shutil.copy(empty_store, tmp_path / "outputs" / "mlflow.db")
    yield Store()
    for process in Store.children:
        process.kill()
        process.communicate()
    Store.children.clear()


class Store:
    """What tests ask of a store."""

    uri = "sqlite:///outputs/mlflow.db"
    children: list[subprocess.Popen] = []

    def __init__(self):
        self.config = TrackingConfig()

    def track(self, config: TrackingConfig | None = None, **how) -> AbstractContextManager[Run]:
        """A run of stage `s` in the directory `out`, unless given another."""
        return track(config or self.config, **{"stage": "s", "params": {}, "directory": "out", **how})

    def runs(self, uri: str | None = None) -> list[dict]:
        return read_runs(uri or self.uri, "scalequest")

    def one(self) -> dict:
        """The one run there is."""
        (run,) = self.runs()
        return run

    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{Path.cwd()}/outputs/mlflow.db")  # MLflow keeps connections by name

    def artifacts(self, found: dict) -> Path:
        return Path(f"outputs/mlartifacts/scalequest/{found['id']}/artifacts")

    def text(self, name: str) -> str:
        """An artifact of the one run there is."""
        return (self.artifacts(self.one()) / name).read_text()

    def count(self, table: str, database: str = "outputs/mlflow.db") -> int:
        return sqlite3.connect(database).execute(f"select count(*) from {table}").fetchone()[0]

    def child(self, program: str) -> subprocess.Popen:
        """A process that tracks; `track` and a config are there."""
        start = "from sq.core.tracking import *\nimport os, signal, sys, time\nconfig = TrackingConfig()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", start + textwrap.dedent(program)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.children.append(process)
        return process

    def finished(self, process: subprocess.Popen) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=400)
        return process.returncode, out, err

    def records(self) -> list[dict]:
        """What stands in the run's file."""
        return [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for what another thread or process does; a minute is ample, five are for a busy machine."""
        deadline = time.monotonic() + 300
        while not true():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)
