"""Tracking against a real MLflow store: everything arrives whole, under the right run, with the right end."""

import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sq.core.config import build
from sq.core.errors import ConfigError, SqError
from sq.core.tracking import DataRef, TrackingConfig, multirun_parent, read_runs, track


def test_everything_arrives(store, tmp_path):
    (tmp_path / "in").mkdir()
    params = {
        "stage.lr": 5e-7,
        "seed": 3,
        "none": None,
        "list": [1, "zwei"],
        "text": "größer ≤ 数",
        "odd key+*": "x",
        "../up": 1,
    }
    data = DataRef(name="seeds", path="in", digest="d" * 64, rows=12, run="r" * 32)
    with track(store.config, stage="sft", params=params, inputs=[data], tags={"team": "ü"}, directory="out") as run:
        run.metrics({"loss": 0.5, "np": np.float32(2), "nan": math.nan, "inf": math.inf, "low": -math.inf}, step=1)
        run.metrics({"loss": 0.25, "bad": "text", "größe/≤": 1}, step=2)
        run.output("model", tmp_path / "model", digest="e" * 32, rows=7)
        run.tag("note", {"a": [1]})
    found = store.one()
    assert found["id"] == run.id and found["status"] == "FINISHED" and found["name"] == "sft"
    assert (
        found["params"]["stage.lr"] == "5e-07"
        and found["params"]["text"] == "größer ≤ 数"
        and found["params"]["none"] == "null"
    )
    assert json.loads(found["params"]["list"]) == [1, "zwei"] and len(found["params"]) == len(params)
    assert json.loads(store.text(run.id, "params.json")) == params
    assert found["metrics"]["loss"] == 0.25 and found["metrics"]["np"] == 2 and math.isnan(found["metrics"]["nan"])
    assert found["metrics"]["inf"] > 1e308 and found["metrics"]["low"] < -1e308 and "bad" not in found["metrics"]
    tags = found["tags"]
    assert tags["team"] == "ü" and tags["note"] == '{"a": [1]}' and json.loads(tags["sq.seeds"]) == {"seed": 3}
    assert tags["sq.reads"] == "r" * 32 and tags["sq.stage"] == "sft" and tags["sq.directory"] == str(tmp_path / "out")
    assert tags["version.torch"] and tags["hardware.cpu"] and int(tags["hardware.cores"]) >= 1 and tags["command"]
    inputs = store.client().get_run(run.id).inputs.dataset_inputs
    contexts = {d.dataset.name: (d.tags[0].value, d.dataset.digest, json.loads(d.dataset.profile)) for d in inputs}
    assert contexts["seeds"] == ("input", "d" * 36, {"rows": 12, "digest": "d" * 64, "run": "r" * 32})
    assert contexts["model"] == ("output", "e" * 32, {"rows": 7, "digest": "e" * 32})
    assert not Path("outputs/tracking-spool").exists()


def test_git_commit_and_dirty_flag(store):
    root = Path(__file__).parents[2]
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode:
        pytest.skip("no git checkout")
    with track(store.config, stage="s", params={}):
        pass
    tags = store.one()["tags"]
    assert tags["git.commit"] == commit.stdout.strip() == tags["mlflow.source.git.commit"]
    assert tags["git.dirty"] in ("true", "false")


def test_long_values_are_kept_whole(store):
    long = {f"k{i}": "ä" * n for i, n in enumerate([5999, 6000, 6001, 100_000])}
    with track(store.config, stage="s", params=long) as run:
        run.tag("story", "é" * 9000)
    found = store.one()
    assert found["params"]["k0"] == long["k0"] and found["params"]["k1"] == long["k1"]
    assert "[6001 characters, blake2b " in found["params"]["k2"] and found["params"]["k3"].startswith("äää")
    assert "whole in params.json]" in found["params"]["k3"]
    assert json.loads(store.text(run.id, "params.json")) == long
    assert store.text(run.id, "tags/story.txt") == "é" * 9000 and "tags/story.txt" in found["tags"]["story"]


def test_many_parameters_and_colliding_names(store):
    params = {f"group.{i}": i for i in range(450)} | {"a+b": 1, "a*b": 2, "k" * 400: 3, "": 4, "x//y": 5, "..": 6}
    with track(store.config, stage="s", params=params):
        pass
    assert sorted(store.one()["params"].values()) == sorted(str(v) for v in params.values())


def test_ten_thousand_metrics_arrive_in_order(store):
    with track(store.config, stage="s", params={}) as run:
        for step in range(10_000):
            run.metrics({"loss": step * 0.5}, step=step)
    rows = sqlite3.connect("outputs/mlflow.db").execute("select step, value from metrics order by step").fetchall()
    assert rows == [(i, i * 0.5) for i in range(10_000)]


def test_tables_figures_and_files(store, tmp_path, caplog):
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    figure.add_subplot().plot([1, 2])
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a.txt").write_text("text ü")
    (tmp_path / "d" / "sub" / "b.bin").write_bytes(bytes(range(256)))
    with track(store.config, stage="s", params={}) as run:
        run.table("by/level", [{"level": 1, "share": 0.5}, {"level": np.int64(2), "why": ["x"], "share": math.nan}])
        run.table("by/level", [{"level": 1}])
        run.figure("plot", figure)
        run.artifact(tmp_path / "d", to="kept")
        (tmp_path / "d" / "a.txt").write_text("changed after the call")
        run.artifact(tmp_path / "missing")
    assert json.loads(store.text(run.id, "tables/by/level.json")) == {"columns": ["level"], "data": [[1]]}
    assert json.loads(store.one()["tags"]["mlflow.loggedArtifacts"]) == [
        {"path": "tables/by/level.json", "type": "table"}
    ]
    folder = store.artifacts(run.id)
    assert (folder / "figures/plot.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "kept/d/a.txt").read_text() == "text ü"
    assert (folder / "kept/d/sub/b.bin").read_bytes() == bytes(range(256))
    assert "missing does not exist" in caplog.text


@pytest.mark.parametrize(
    "error, status",
    [
        (ValueError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(0), "FINISHED"),
        (SystemExit(3), "FAILED"), (SystemExit(143), "KILLED"),
    ],
)  # fmt: skip
def test_the_status_says_how_it_ended(store, error, status):
    with pytest.raises(type(error)), track(store.config, stage="s", params={}):
        raise error
    found = store.one()
    assert found["status"] == status and found["end"] is not None
    assert ("sq.error" in found["tags"]) == (status != "FINISHED")
    if isinstance(error, ValueError):
        assert found["tags"]["sq.error"] == "ValueError: boom" and "raise error" in store.text(found["id"], "error.txt")


@pytest.mark.slow
def test_sigterm_marks_killed(store):
    process = store.child(
        """
        with track(config, stage="s", params={}) as run:
            print(run.id, flush=True)
            time.sleep(60)
        """,
    )
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143 and store.one()["status"] == "KILLED"


def test_after_kill_9_the_next_run_of_the_directory_says_so(store):
    process = store.child(
        """
        with track(config, stage="s", params={}, directory="out") as run:
            run.metrics({"loss": 1.0}, step=7)
            print(run.id, flush=True)
            time.sleep(60)
        """,
    )
    first = process.stdout.readline().strip()
    assert store.one()["status"] == "RUNNING"
    process.kill()
    process.communicate(timeout=60)
    with track(store.config, stage="s", params={}, directory="out") as second:
        pass
    runs = {r["id"]: r for r in store.runs()}
    assert runs[first]["status"] == "KILLED" and runs[first]["metrics"] == {"loss": 1.0}
    assert "ended without a word" in runs[first]["tags"]["sq.error"] and runs[second.id]["status"] == "FINISHED"


def test_a_live_run_of_the_same_directory_is_left_alone(store):
    with (
        track(store.config, stage="a", params={}, directory="out") as first,
        track(store.config, stage="b", params={}, directory="out") as second,
    ):
        assert first.id != second.id
        assert {r["id"]: r["status"] for r in store.runs()}[first.id] == "RUNNING"


def test_a_resumed_run_goes_on_in_the_same_run(store):
    with pytest.raises(ValueError), track(store.config, stage="s", params={"a": 1, "b": "x" * 7000}) as first:
        first.metrics({"loss": 1.0}, step=1)
        raise ValueError("at 90%")
    with track(store.config, stage="s", params={"a": 2, "b": "x" * 7000, "c": 3}, resume_run_id=first.id) as second:
        second.metrics({"loss": 0.5}, step=2)
    found = store.one()
    assert second.id == first.id == found["id"] and found["status"] == "FINISHED"
    assert found["tags"]["sq.resumed"] == "1" and found["tags"]["sq.resumed_from"] == "FAILED"
    assert found["params"]["a"] == "1" and found["params"]["resumed-1/a"] == "2" and found["params"]["c"] == "3"
    assert "resumed-1/b" not in found["params"]
    assert [m.step for m in store.client().get_metric_history(first.id, "loss")] == [1, 2]


def test_a_run_to_resume_that_this_store_does_not_know_keeps_its_id(store):
    with track(store.config, stage="s", params={}, resume_run_id="f" * 32) as run:
        assert run.id == "f" * 32
    assert store.one()["tags"]["sq.local_id"] == "f" * 32
    with track(store.config, stage="s", params={}, resume_run_id="f" * 32):
        pass
    assert store.one()["tags"]["sq.resumed"] == "1"


def test_runs_nest(store, monkeypatch):
    with track(store.config, stage="recipe", params={}) as parent:
        with track(store.config, stage="a", params={}, parent=parent.id) as explicit:
            pass
        for name, value in parent.env.items():
            monkeypatch.setenv(name, value)
        with track(store.config, stage="b", params={}) as by_env:
            pass
    parents = {r["id"]: r["parent"] for r in store.runs()}
    assert parents == {parent.id: None, explicit.id: parent.id, by_env.id: parent.id}


def test_jobs_of_a_sweep_share_one_parent(store, caplog):
    for round in range(2):
        assert (ids := {multirun_parent(store.config, "multirun", params={"n": 2}) for _ in range(3)})
        (parent,) = ids
        for job in range(2):
            with track(
                store.config, stage="sft", params={"job": job}, parent=parent, directory=f"multirun/{job}"
            ) as run:
                assert run.id  # now it is open
                status = {r["id"]: r["status"] for r in store.runs()}
                assert status[parent] == "RUNNING"
                if round == 0 and job == 1:
                    run.end("FAILED")
        runs = store.runs()
        assert {r["id"]: r["status"] for r in runs}[parent] == ("FAILED" if round == 0 else "FINISHED")
        assert len([r for r in runs if r["parent"] == parent]) == 2 * (round + 1)
    assert not caplog.text
    assert multirun_parent(TrackingConfig(enabled=False), "multirun") is None


@pytest.mark.slow
def test_jobs_that_start_at_once_share_one_parent(store):
    program = "print(multirun_parent(config, 'multirun'))"
    jobs = [store.child(program) for _ in range(3)]
    ids = {store.finished(job)[1].strip() for job in jobs}
    assert len(ids) == 1 and store.one()["id"] in ids


def test_none_does_nothing(store, tmp_path):
    process = store.child(
        """
        with track(TrackingConfig(enabled=False), stage="s", params={"a": 1}, inputs=[DataRef(name="x")]) as run:
            run.metrics({"a": 1}, step=1); run.table("t", [{}]); run.figure("f", None); run.artifact("nowhere")
            run.output("o", "x"); run.tag("a", 1); run.text("t", "x"); run.params({}); run.input(DataRef(name="y"))
            assert len(run.id) == 32 and run.env == {"SQ_PARENT_RUN": run.id}
        assert "mlflow" not in sys.modules
        """
    )
    assert store.finished(process) == (0, "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outputs"] and os.listdir("outputs") == ["mlflow.db"]


def test_it_is_quiet(store):
    process = store.child("with track(config, stage='s', params={'a': 1}) as run: run.metrics({'a': 1})")
    assert store.finished(process) == (0, "", "") and store.one()["status"] == "FINISHED"


def test_only_the_first_process_of_a_distributed_training_tracks(store, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with track(store.config, stage="s", params={}) as run:
        run.metrics({"a": 1})
    monkeypatch.setenv("RANK", "0")
    with track(store.config, stage="t", params={}):
        pass
    assert store.one()["name"] == "t"


@pytest.mark.parametrize("uri", ["outputs/mlflow.db", "htp://x", "file:///x", "", "http:host"])
def test_an_address_that_cannot_be_used_is_a_config_error(uri):
    with pytest.raises(ConfigError, match="cannot be used: give sqlite:///path"):
        build({"uri": uri}, TrackingConfig)
    with pytest.raises(ConfigError, match="timeout=0 must be at least 1"):
        build({"timeout": 0}, TrackingConfig)


def test_reading_says_what_is_wrong(store):
    with pytest.raises(SqError, match="no experiment 'other'.*It has: Default"):
        read_runs(store.uri, "other")
    Path("outputs/mlflow.db").write_text("no database")
    with pytest.raises(SqError, match="mlflow.db cannot be read"):
        read_runs(store.uri, "other")


def test_importing_is_light():
    program = (
        "import sys, sq.core.tracking; print([m for m in ('mlflow', 'torch', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]", done.stderr
