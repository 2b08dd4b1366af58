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
from pathlib import Path
from types import SimpleNamespace

import pytest

from sq import cli
from sq.core import tracking_file
from sq.core.errors import SqError
from sq.core.tracking import DataRef, TrackingConfig, send_tracked

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
        "engine.api_key": "plantedValue8", everything: 1, "long": everything * 200,
    }  # fmt: skip
    config = TrackingConfig(uri=uri, run_name=everything, tags={"mine": everything, everything: "1"})
    data = DataRef(name=everything, path=f"s3://x/{everything}", digest="1")
    with (
        pytest.raises(ValueError),
        store.track(config, stage=everything, params=params, directory="outputs/out", inputs=[data]) as run,
    ):
        run.metrics({everything: 1})
        run.tag(everything, everything)
        cells = {"text": everything, everything: 1, "obj": {"password": "plantedValue9"}, "b": everything.encode()}
        run.table("t" + everything, [cells])
        run.text("notes.txt", everything + " and plantedValue8 again")
        run.artifact(tmp_path / "log.txt")
        run.artifact(tmp_path / "blob.bin")
        raise ValueError(f"cannot log in with {everything} plantedValue8")
    assert "blob.bin is not logged: it holds the value of a secret" in caplog.text
    files = [p for p in Path("outputs").rglob("*") if p.is_file()]
    assert len(files) > 4
    for content in [caplog.text.encode(), *[p.read_bytes() + str(p).encode() for p in files]]:
        assert b"planted" not in content, content[max(0, content.index(b"planted") - 200) :][:400]


def test_a_store_that_is_away_from_the_start_gets_everything_later(store, caplog, capsys):
    """The directory of the database is missing; both runs, parent and child, are sent when it is there."""
    away = "sqlite:///outputs/file/mlflow.db"
    Path("outputs/file").write_text("in the way")
    with store.track(TrackingConfig(uri=away), stage="recipe", params={"a": 1}, directory="outputs/r") as parent:
        child = TrackingConfig(uri=away, parent=parent.id)
        with store.track(child, stage="child", directory="outputs/r/child") as run:
            for step in range(100):
                run.metrics({"loss": step}, step=step)
            run.text("note.txt", "kept")
    assert caplog.text.count("was not reached") == 2 and "sent by: sq track " in caplog.text
    with pytest.raises(SqError, match="metrics.jsonl was not sent, MLflow at sqlite"):
        send_tracked("outputs")
    Path("outputs/file").unlink()
    cli.main(["track", "outputs"])
    assert "2 files of runs sent" in capsys.readouterr().out
    runs = {r["name"]: r for r in store.runs(away)}
    assert runs["child"]["parent"] == runs["recipe"]["id"] and runs["child"]["metrics"]["loss"] == 99
    assert {r["status"] for r in runs.values()} == {"FINISHED"} and runs["child"]["tags"]["sq.run"] == run.id
    assert Path("outputs/file", *store.artifacts(runs["child"]).parts[1:], "note.txt").read_text() == "kept"
    assert send_tracked("outputs") == 0, "what is there is not sent again"


def test_a_child_that_is_sent_before_its_parent_is_under_it_in_the_end(store):
    with store.track(stage="recipe", directory="r") as parent:
        with store.track(TrackingConfig(parent=parent.id), stage="child", directory="r/child"):
            pass
    copy = "sqlite:///outputs/copy.db"
    assert send_tracked("r/child", copy) == 1
    Path("r/child").rename("child")
    assert send_tracked("r", copy) == 1
    runs = {r["name"]: r for r in store.runs(copy)}
    assert runs["child"]["parent"] == runs["recipe"]["id"]


def test_sending_again_doubles_nothing(store):
    """A server that has a part: the rest comes, and what was there stays once."""
    with store.track(params={"a": 1, "b": 2}, inputs=[DataRef(name="x", path="y")]) as run:
        for step in range(700):
            run.metrics({"loss": step, "nan": math.nan}, step=step)
        run.table("t", [{"a": 1}])
    tables = ("runs", "metrics", "params", "tags", "datasets", "inputs", "experiments")
    before = {table: store.count(table) for table in tables}
    assert before["metrics"] == 1400
    lines = Path("out/metrics.jsonl").read_text().splitlines(keepends=True)
    Path("out/metrics.jsonl").write_text("".join(lines[:-1]))  # as if it were not known that all was sent
    database = sqlite3.connect("outputs/mlflow.db")
    database.execute("delete from metrics where step >= 350")
    database.commit()
    assert send_tracked("out") == 1
    assert {table: store.count(table) for table in tables} == before
    assert store.one()["status"] == "FINISHED" and store.one()["metrics"]["loss"] == 699
    other = "sqlite:///outputs/other.db"
    assert send_tracked("out", other) == send_tracked("out", other) == 1
    assert store.count("metrics", "outputs/other.db") == 1400 and store.count("runs", "outputs/other.db") == 1


def test_sending_leaves_a_run_alone_that_goes_on_and_closes_one_that_was_killed(store, caplog):
    program = """
        with track(config, stage="s", params={}, directory="out") as run:
            run.metrics({"loss": 1.0})
            print(run.id, flush=True)
            time.sleep(60)
        """
    process = store.child(program)
    process.stdout.readline()
    assert send_tracked("out") == 0 and "is left alone: it is in use" in caplog.text
    process.kill()
    process.communicate(timeout=60)
    assert send_tracked(".") == 1
    found = store.one()
    assert found["status"] == "KILLED" and found["metrics"] == {"loss": 1.0}


@pytest.mark.slow
def test_a_locked_database_delays_only_the_records(store, caplog):
    caplog.set_level(logging.INFO, "sq.tracking")
    with store.track() as run:
        store.until(lambda: store.count("runs") == 1)
        blocker = sqlite3.connect("outputs/mlflow.db", isolation_level=None)
        blocker.execute("begin exclusive")
        run.metrics({"loss": 1.0}, step=1)
        store.until(lambda: "does not answer (OperationalError: database is locked" in caplog.text)
        blocker.execute("rollback")
    assert "is back" in caplog.text and store.one()["metrics"] == {"loss": 1.0} and store.one()["status"] == "FINISHED"


def test_the_same_work_sends_what_it_could_not_before(store):
    database = Path("outputs/mlflow.db")
    database.rename("outputs/aside.db")
    database.mkdir()
    with pytest.raises(ValueError), store.track(params={"a": 1}) as run:
        run.metrics({"x": 1.0})
        raise ValueError
    database.rmdir()
    Path("outputs/aside.db").rename(database)
    with store.track(params={"a": 1}):
        pass
    assert store.one()["metrics"] == {"x": 1.0} and store.one()["status"] == "FINISHED"


def test_a_refused_record_stays_in_the_file_and_stops_nothing(store, caplog):
    with store.track(params={"a": 1}) as run:
        run.metrics({"before": 1.0})
        run._put("metrics", step=1, time=-1, metrics={"before all time": 1.0})
        run.metrics({"after": 1.0})
        run.text("gone.txt", "x")
        Path("out/tracking/gone.txt").unlink()
        run.tag("later", 1)
    found = store.one()
    assert {"before", "after"} <= found["metrics"].keys() and found["status"] == "FINISHED"
    assert "refuses metrics" in caplog.text and found["tags"]["later"] == "1"


def test_a_full_disk_leaves_no_half_record(store, monkeypatch, caplog):
    def full(fd, data):
        os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    with store.track() as run:
        run.metrics({"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr(tracking_file, "write_all", full)
            run.metrics({"b": 1})
        run.metrics({"c": 1})
    assert "No space left on device" in caplog.text and store.one()["metrics"] == {"a": 1, "c": 1}
    assert all(json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines())


@pytest.mark.slow
def test_two_processes_make_and_fill_one_new_database(store):
    Path("outputs/mlflow.db").unlink()
    program = """
        with track(config, stage="s", params={"pid": os.getpid()}, directory=f"out-{os.getpid()}") as run:
            for i in range(500): run.metrics({"x": i}, step=i); time.sleep(0.0005)
        """
    jobs = [store.child(program) for _ in range(2)]
    assert [store.finished(job) for job in jobs] == [(0, "", "")] * 2
    runs = store.runs()
    assert len(runs) == 2 and all(r["metrics"]["x"] == 499 and r["status"] == "FINISHED" for r in runs)
    assert store.count("metrics") == 1000


@pytest.fixture
def server(tmp_path):
    """Starts and kills one MLflow server at a time, always on the same port and files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running: list[subprocess.Popen] = []
    # What `mlflow server` starts when it has imported the same once more.
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "mlflow.server.fastapi_app:app"]
    environment = {
        **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{tmp_path}/outputs/mlflow.db", "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/", "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{tmp_path}/far",
    }  # fmt: skip

    def start():
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)
        )  # fmt: skip
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

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
            return answer.read().decode()

    yield SimpleNamespace(uri=f"http://127.0.0.1:{port}", start=start, kill=kill, get=get)
    while running:
        kill()


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_misses_nothing(store, server, caplog):
    """It shows what was in its store, gets what a run wrote while it was away, and later what it missed of another."""
    caplog.set_level(logging.INFO, "sq.tracking")
    with store.track(params={"n": 1}, directory="seen") as run:
        run.text("note.txt", "seen in the UI")
    seen = store.one()["id"]
    server.start()
    assert server.get(f"get-artifact?run_uuid={seen}&path=note.txt") == "seen in the UI"
    answer = json.loads(server.get(f"ajax-api/2.0/mlflow/runs/get?run_id={seen}"))
    assert answer["run"]["info"]["status"] == "FINISHED"

    values = {"nan": float("nan"), "inf": float("inf")}
    with store.track(TrackingConfig(uri=server.uri, timeout=5), params={"long": "ü" * 7000, "n": 1}) as run:
        for step in range(3000):
            run.metrics({"loss": float(step)}, step=step)
            if step == 1000:
                store.until(lambda: store.count("metrics") > 500)
                server.kill()
        store.until(lambda: "does not answer (" in caplog.text)
        run.text("note.txt", "written while away")
        run.table("t", [{"a": 1}])
        run.output("data", "out", digest="abc", rows=1)
        run.metrics(values)
        server.start()
        store.until(lambda: "is back" in caplog.text)
    (found,) = [found for found in store.runs(server.uri) if found["id"] != seen]
    assert found["tags"]["sq.run"] == run.id and found["status"] == "FINISHED" and found["metrics"]["loss"] == 2999
    assert found["params"]["long"].endswith("whole in params.json]") and math.isnan(found["metrics"]["nan"])
    rows = sqlite3.connect("outputs/mlflow.db").execute("select step from metrics where key = 'loss' order by step")
    assert [row[0] for row in rows] == list(range(3000))
    for name, text in {"note.txt": "written while away", "tables/t.json": '{"columns": ["a"], "data": [[1]]}'}.items():
        assert server.get(f"get-artifact?run_uuid={found['id']}&path={name}") == text

    with store.track(TrackingConfig(uri=server.uri, timeout=5), params={"n": 2}, directory="missed") as run:
        store.until(lambda: len(store.runs()) == 3)
        server.kill()
        run.metrics({"loss": 1.0}, step=1)
    # why depends on when it is noticed: refused, reset, or closed without an answer
    assert f"{server.uri} was not reached (" in caplog.text and "onnect" in caplog.text.split("was not reached (")[1]
    server.start()
    assert send_tracked("missed") == 1
    found = next(found for found in store.runs(server.uri) if found["tags"]["sq.run"] == run.id)
    assert found["metrics"] == {"loss": 1.0} and found["status"] == "FINISHED" and found["params"] == {"n": "2"}
