"""Nothing that happens to the store stops the work or loses a record, and no secret is written anywhere."""

import contextlib
import json
import logging
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sq.core import spool
from sq.core.errors import SqError
from sq.core.tracking import DataRef, TrackingConfig, send_spool, track

SECRETS = {
    "OPENAI_API_KEY": "planted-openai-Value1",
    "MLFLOW_TRACKING_PASSWORD": 'planted "quoted\\ ü&Value2',
    "HF_TOKEN": "hf_plantedValue3abcdefgh",
    "DATABASE_URL": "postgres://me:plantedValue4@db/x",
}


@pytest.mark.parametrize("uri", ["sqlite:///outputs/mlflow.db", "sqlite:////proc/nowhere/mlflow.db"])
def test_no_secret_is_ever_written(store, tmp_path, monkeypatch, caplog, uri):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    values = [*SECRETS.values(), "plantedValue4", "sk-plantedValue5abcdefgh", "http://u:plantedValue6@h/x"]
    everything = " ".join(values)
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "plantedValue7", f"x={everything}"])
    (tmp_path / "log.txt").write_text(f"{everything}\n" * 3)
    (tmp_path / "blob.bin").write_bytes(b"\0\xff" + SECRETS["OPENAI_API_KEY"].encode())
    params = {f"p{i}": v for i, v in enumerate(values)} | {
        "engine.api_key": "plantedValue8",
        everything: 1,
        "long": everything * 200,
    }
    config = TrackingConfig(uri=uri, run_name=everything, tags={"mine": everything, everything: "1"})
    with pytest.raises(ValueError), track(config, stage=everything, params=params, directory=everything) as run:
        run.metrics({everything: 1})
        run.tag(everything, everything)
        run.table(
            "t" + everything,
            [{"text": everything, everything: 1, "obj": {"password": "plantedValue9"}, "b": everything.encode()}],
        )
        run.text("notes.txt", everything + " and plantedValue8 again")
        run.artifact(tmp_path / "log.txt")
        run.artifact(tmp_path / "blob.bin")
        run.input(DataRef(name=everything, path=f"s3://x/{everything}", digest="1"))
        raise ValueError(f"cannot log in with {everything} plantedValue8")
    assert "blob.bin is not logged: it holds the value of a secret" in caplog.text
    files = [p for p in Path("outputs").rglob("*") if p.is_file()]
    assert len(files) > 4
    for content in [caplog.text.encode(), *[p.read_bytes() + str(p).encode() for p in files]]:
        assert b"planted" not in content, content[max(0, content.index(b"planted") - 200) :][:400]


def test_a_store_that_is_away_from_the_start_gets_everything_later(store, caplog):
    """The directory of the database is missing; both runs, parent and child, are sent when it is there."""
    away = TrackingConfig(uri="sqlite:///outputs/file/mlflow.db")
    Path("outputs/file").write_text("in the way")
    with track(away, stage="recipe", params={"a": 1}) as parent:
        with track(away, stage="child", params={}, parent=parent.id) as run:
            for step in range(100):
                run.metrics({"loss": step}, step=step)
            run.text("note.txt", "kept")
    assert caplog.text.count("was not reached") == 2 and "python -m sq.core.tracking" in caplog.text
    with pytest.raises(SqError, match="was not sent, MLflow at sqlite"):
        send_spool("outputs/tracking-spool")
    Path("outputs/file").unlink()
    assert send_spool("outputs/tracking-spool") > 5
    runs = {r["name"]: r for r in store.runs(away.uri)}
    assert runs["child"]["parent"] == runs["recipe"]["id"] and runs["child"]["metrics"]["loss"] == 99
    assert {r["status"] for r in runs.values()} == {"FINISHED"} and runs["child"]["tags"]["sq.local_id"] == run.id
    assert Path("outputs/file", *store.artifacts(runs["child"]["id"]).parts[1:], "note.txt").read_text() == "kept"
    assert not Path("outputs/tracking-spool").exists()
    with pytest.raises(SqError, match="cannot be sent: it is missing"):
        send_spool("outputs/tracking-spool/none.jsonl")


@pytest.mark.slow
def test_a_locked_database_delays_only_the_records(store, caplog):
    caplog.set_level(logging.INFO, "sq.tracking")
    with track(store.config, stage="s", params={}) as run:
        assert run.id
        blocker = sqlite3.connect("outputs/mlflow.db", isolation_level=None)
        blocker.execute("begin exclusive")
        run.metrics({"loss": 1.0}, step=1)
        deadline = time.monotonic() + 60
        while (
            "does not answer (OperationalError: database is locked" not in caplog.text and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        blocker.execute("rollback")
    assert "is back" in caplog.text and store.one()["metrics"] == {"loss": 1.0} and store.one()["status"] == "FINISHED"


def test_the_next_run_sends_what_the_last_one_could_not(store):
    database = Path("outputs/mlflow.db")
    database.rename("outputs/aside.db")
    database.mkdir()
    with track(store.config, stage="first", params={"a": 1}) as run:
        run.metrics({"x": 1.0})
    database.rmdir()
    Path("outputs/aside.db").rename(database)
    with track(store.config, stage="second", params={}):
        pass
    runs = {r["name"]: r for r in store.runs()}
    assert runs["first"]["metrics"] == {"x": 1.0} and runs["first"]["status"] == runs["second"]["status"] == "FINISHED"
    assert not Path("outputs/tracking-spool").exists()


def test_a_refused_record_is_kept_and_stops_nothing(store, caplog):
    with track(store.config, stage="s", params={"a": 1}) as run:
        run.metrics({"before": 1.0})
        run._sender.put({"op": "artifact", "file": "gone/x.txt", "to": "", "staged": False})
        run._sender.put({"op": "metrics", "metrics": [["loss", 1.0, 2**70, 1]]})
        run.metrics({"after": 1.0})
    found = store.one()
    assert {"before", "after"} <= found["metrics"].keys() and found["status"] == "FINISHED"
    assert "refused 2 records" in caplog.text
    (kept,) = Path("outputs/tracking-spool").glob("*.refused.jsonl")
    assert "gone" in json.loads(kept.read_text().splitlines()[0])["reason"]


def test_an_unwritable_spool_is_no_trouble(store, caplog):
    Path("outputs/tracking-spool").write_text("in the way")
    with track(store.config, stage="s", params={"a": 1}) as run:
        run.metrics({"x": 1.0})
    assert (
        store.one()["metrics"] == {"x": 1.0}
        and store.one()["params"] == {"a": "1"}
        and store.one()["status"] == "FINISHED"
    )


@pytest.mark.slow
def test_two_processes_make_and_fill_one_new_database(store):
    Path("outputs/mlflow.db").unlink()
    program = """
        with track(config, stage=sys.argv[0] or "s", params={"pid": os.getpid()}) as run:
            for i in range(500): run.metrics({"x": i}, step=i); time.sleep(0.0005)
        """
    jobs = [store.child(program) for _ in range(2)]
    assert [store.finished(job) for job in jobs] == [(0, "", "")] * 2
    runs = store.runs()
    assert len(runs) == 2 and all(r["metrics"]["x"] == 499 and r["status"] == "FINISHED" for r in runs)
    assert sqlite3.connect("outputs/mlflow.db").execute("select count(*) from metrics").fetchone() == (1000,)


def test_the_journal_is_bounded_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_COMPACT_ABOVE", 2000)
    journal = spool.Journal.create(tmp_path / "j.jsonl", {"op": "open", "id": "x"})
    seen = []
    for i in range(3000):
        journal.append({"op": "n", "i": i})
        if i % 7 == 0:
            records = journal.peek()
            seen += [r["i"] for r in records]
            journal.done(len(records))
            assert (tmp_path / "j.jsonl").stat().st_size < 2300
    seen += [r["i"] for r in journal.peek()]
    assert seen == list(range(3000))
    assert spool.Journal.left_behind(tmp_path / "j.jsonl") is None  # its owner lives


def test_a_full_disk_moves_the_journal_to_memory_and_back(tmp_path, monkeypatch):
    journal = spool.Journal.create(tmp_path / "j.jsonl", {"op": "open", "id": "x"})
    journal.append({"op": "n", "i": 0})
    write = spool.Journal._write

    def full(self, line):
        self._file.write(line[:5])
        self._file.flush()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.Journal, "_write", full)
    for i in range(1, 5):
        journal.append({"op": "n", "i": i})
    monkeypatch.setattr(spool, "_MEMORY_BYTES", 0)
    journal.append({"op": "n", "i": 99})
    monkeypatch.setattr(spool.Journal, "_write", write)
    assert journal.dropped == 1 and [r["i"] for r in journal.peek()] == [0, 1, 2, 3, 4]
    journal.done(5)
    journal.append({"op": "n", "i": 5})
    assert [r["i"] for r in journal.peek()] == [5] and journal.pending == 1


@pytest.fixture
def server(tmp_path):
    """Starts and kills one MLflow server at a time, always on the same port and files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running: list[subprocess.Popen] = []
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/outputs/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "far"),
    ]

    def start():
        running.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
            time.sleep(0.2)
        pytest.fail("the MLflow server did not start in five minutes")

    def kill():
        process = running.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    yield SimpleNamespace(uri=f"http://127.0.0.1:{port}", start=start, kill=kill)
    while running:
        kill()


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_misses_nothing(store, server, caplog):
    caplog.set_level(logging.INFO, "sq.tracking")
    server.start()
    config = TrackingConfig(uri=server.uri, timeout=5)
    values = {"nan": float("nan"), "inf": float("inf")}
    with track(config, stage="s", params={"long": "ü" * 7000, "n": 1}) as run:
        for step in range(3000):
            run.metrics({"loss": float(step)}, step=step)
            if step == 1000:
                assert len(run.id) == 32
                server.kill()
        until(lambda: "does not answer (" in caplog.text)
        run.text("note.txt", "written while away")
        run.table("t", [{"a": 1}])
        run.output("data", "out", digest="abc", rows=1)
        run.metrics(values)
        server.start()
        until(lambda: "is back" in caplog.text)
    (found,) = store.runs(server.uri)
    assert found["id"] == run.id and found["status"] == "FINISHED" and found["metrics"]["loss"] == 2999
    assert found["params"]["long"].endswith("whole in params.json]") and math.isnan(found["metrics"]["nan"])
    rows = sqlite3.connect("outputs/mlflow.db").execute("select step from metrics where key = 'loss' order by step")
    assert [row[0] for row in rows] == list(range(3000))
    for name, text in {"note.txt": "written while away", "tables/t.json": '{"columns": ["a"], "data": [[1]]}'}.items():
        with urllib.request.urlopen(f"{server.uri}/get-artifact?run_uuid={run.id}&path={name}", timeout=60) as answer:
            assert answer.read().decode() == text
    assert not Path("outputs/tracking-spool").exists()


@pytest.mark.slow
def test_a_server_that_stays_away_is_named_and_gets_everything_later(store, server, caplog):
    server.start()
    config = TrackingConfig(uri=server.uri, timeout=5)
    with track(config, stage="s", params={"n": 1}) as run:
        assert len(run.id) == 32
        server.kill()
        run.metrics({"loss": 1.0}, step=1)
    # why depends on when it is noticed: refused, reset, or closed without an answer
    assert f"{server.uri} was not reached (" in caplog.text and "onnect" in caplog.text.split("was not reached (")[1]
    assert run.id in caplog.text
    server.start()
    assert send_spool("outputs/tracking-spool") >= 2
    (found,) = store.runs(server.uri)
    assert found["id"] == run.id and found["metrics"] == {"loss": 1.0} and found["status"] == "FINISHED"


@pytest.mark.slow
def test_the_ui_shows_runs_and_files_of_the_sqlite_store(store, server):
    with track(store.config, stage="s", params={"n": 1}) as run:
        run.text("note.txt", "seen in the UI")
    server.start()
    with urllib.request.urlopen(f"{server.uri}/get-artifact?run_uuid={run.id}&path=note.txt", timeout=60) as answer:
        assert answer.read() == b"seen in the UI"
    with urllib.request.urlopen(f"{server.uri}/ajax-api/2.0/mlflow/runs/get?run_id={run.id}", timeout=60) as answer:
        assert json.loads(answer.read())["run"]["info"]["status"] == "FINISHED"


def until(true: Callable[[], bool]) -> None:
    """Wait for something that the background thread does; a minute is ample, five are for a busy machine."""
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
