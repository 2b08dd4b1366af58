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
from sq.core.tracking import DataRef, ItemTrace, ModelRef, RequestTrace, TrackingConfig, send_tracked, track
from sq.recipe.tracked_runs import read_runs


def test_everything_arrives(store, tmp_path):
    params = {"stage.lr": 5e-7, "seed": 3, "none": None, "list": [1, "zwei"], "text": "größer ≤ 数", "odd key+*": "x"}
    params |= {"../up": 1}
    data = DataRef(name="seeds", path="in", digest="d" * 64, rows=12, run="r" * 32)
    with store.track(TrackingConfig(tags={"team": "ü"}), stage="sft", params=params, inputs=[data]) as run:
        run.metrics({"loss": 0.5, "np": np.float32(2), "nan": math.nan, "inf": math.inf, "low": -math.inf}, step=1)
        run.metrics({"loss": 0.25, "bad": "text", "größe/≤": 1}, step=2)
        run.output("model", tmp_path / "model", digest="e" * 32, rows=7)
        run.tag("note", {"a": [1]})
    found = store.one()
    assert found["tags"]["sq.run"] == run.id and found["status"] == "FINISHED" and found["name"] == "sft"
    assert found["params"]["stage.lr"] == "5e-07" and found["params"]["text"] == "größer ≤ 数"
    assert json.loads(found["params"]["list"]) == [1, "zwei"] and found["params"]["none"] == "null"
    assert len(found["params"]) == len(params) and json.loads(store.text("params.json")) == params
    assert found["metrics"]["loss"] == 0.25 and found["metrics"]["np"] == 2 and math.isnan(found["metrics"]["nan"])
    assert found["metrics"]["inf"] > 1e308 and found["metrics"]["low"] < -1e308 and "bad" not in found["metrics"]
    tags = found["tags"]
    assert tags["team"] == "ü" and tags["note"] == '{"a": [1]}' and json.loads(tags["sq.seeds"]) == {"seed": 3}
    assert tags["sq.reads"] == "r" * 32 and tags["sq.stage"] == "sft" and tags["sq.directory"] == str(tmp_path / "out")
    assert tags["version.torch"] and tags["hardware.cpu"] and int(tags["hardware.cores"]) >= 1 and tags["command"]
    inputs = store.client().get_run(found["id"]).inputs.dataset_inputs
    contexts = {d.dataset.name: (d.tags[0].value, d.dataset.digest, json.loads(d.dataset.profile)) for d in inputs}
    assert contexts["seeds"] == ("input", "d" * 36, {"rows": 12, "digest": "d" * 64, "run": "r" * 32})
    assert contexts["model"] == ("output", "e" * 32, {"rows": 7, "digest": "e" * 32})


def test_the_experiment_opens_on_its_runs_and_a_run_names_its_script(store):
    store.client().create_experiment("mine")  # made by someone else
    for name in ("scalequest", "mine"):
        with store.track(TrackingConfig(experiment=name), params={"seed": 1}, directory=name):
            pass
        experiment = store.client().get_experiment_by_name(name)
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    source = store.one()["tags"]["mlflow.source.name"]
    assert source and " " not in source and store.one()["tags"]["command"].startswith(source)


@pytest.mark.parametrize(
    ("typed", "source"),
    [(["sq", "train", "stage=sft"], "sq train"), (["train.py", "stage=sft"], "train.py")],
)
def test_the_source_of_a_run_is_the_script_or_the_command_of_sq(store, monkeypatch, typed, source):
    monkeypatch.setattr("sq.core.provenance._typed", typed)
    with store.track(params={}):
        pass
    assert store.one()["tags"]["mlflow.source.name"] == source


def test_places_are_tags_and_no_axes_of_a_plot(store):
    places = {"output_dir": "outputs/a", "data.input": "outputs/q", "model.path": "/m", "input": None,
              "tracking.run_name": "path=/m", "tracking.parent": "0" * 9, "tracking.uri": "sqlite:///x.db"}  # fmt: skip
    with store.track(params={**places, "stage.lr": 0.1}):
        pass
    found = store.one()
    assert found["params"] == {"stage.lr": "0.1"} and json.loads(store.text("params.json")) == {
        **places,
        "stage.lr": 0.1,
    }
    assert {k: found["tags"].get(k) for k in places} == places


def test_models_are_ranked_by_what_was_measured_of_them(store, caplog):
    """A sweep's models by held-out loss, and what an evaluation adds; sent twice it is the same."""
    seeds, bench = DataRef(name="seeds", digest="d" * 64), DataRef(name="gsm8k", digest="b" * 12)
    for name, loss in (("low", 0.5), ("high", 0.9)):
        model = ModelRef(
            name=name, path=f"/m/{name}", digest=f"w-{name}", stage="sft", params={"stage.lr": 0.1}, exported=True
        )
        with store.track(params={"name": name}, directory=name) as run:
            run.metrics({"val/loss": 9.0}, step=0)
            run.metrics({"val/loss": loss}, step=6)
            run.model(model, {"val/loss": loss, "nan": math.nan}, seeds)
            run.model(model, {"train/loss": 1.0}, DataRef(name="rows", digest="r" * 12))
    low = ModelRef(name="another name", path="/elsewhere", digest="w-low")
    with store.track(TrackingConfig(experiment="later"), stage="evaluate", directory="eval") as run:
        run.model(low, {"gsm8k/accuracy": 0.25}, bench)
    for _ in range(2):
        experiment = store.client().get_experiment_by_name("scalequest").experiment_id
        ranked = store.client().search_logged_models(
            [experiment], order_by=[{"field_name": "metrics.val/loss", "ascending": True}]
        )
        assert [model.name for model in ranked] == ["low", "high"], "the evaluation's model is the one trained"
        assert ranked[0].status == "READY" and ranked[0].tags["sq.path"] == "/m/low" and ranked[0].model_type == "sft"
        measured = {m.key: (m.value, m.dataset_name, m.dataset_digest) for m in ranked[0].metrics}
        assert measured == {
            "val/loss": (0.5, "seeds", "d" * 36), "train/loss": (1.0, "rows", "r" * 12),
            "gsm8k/accuracy": (0.25, "gsm8k", "b" * 12),
        }  # fmt: skip
        assert len(ranked[0].metrics) == 3 and "refuses" not in caplog.text
        trained = next(run for run in store.runs() if run["id"] == ranked[0].source_run_id)
        history = {(m.step, m.value) for m in store.client().get_metric_history(trained["id"], "val/loss")}
        assert history == {(0, 9.0), (6, 0.5)}, "what is of the model is no second value of another step"
        assert [o.model_id for o in store.client().get_run(trained["id"]).outputs.model_outputs] == [ranked[0].model_id]
        send_tracked(".", store.uri)


def test_a_run_that_exports_equal_weights_has_an_entry_of_its_own(store):
    model = ModelRef(name="m", path="/m", digest="w", stage="sft", exported=True)
    for directory, experiment in (("a", "scalequest"), ("b", "scalequest"), ("c", "second")):
        with store.track(TrackingConfig(experiment=experiment), directory=directory) as run:
            run.model(model, {"val/loss": 0.5}, DataRef(name="seeds", digest="d" * 64))
            run.model(model, {"train/loss": 0.7}, DataRef(name="rows", digest="r" * 64))
    names = {e.name: e.experiment_id for e in store.client().search_experiments()}
    entries = [e for name in ("scalequest", "second") for e in store.client().search_logged_models([names[name]])]
    assert len(entries) == len({entry.source_run_id for entry in entries}) == 3
    assert all({metric.key for metric in entry.metrics} == {"val/loss", "train/loss"} for entry in entries)


def test_traces_of_requests_are_sent_once(store, caplog):
    """A trace an item, a span a request, under the run; what is sent again is the same trace."""
    tokens = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    requests = tuple(
        RequestTrace(started=1000 * i, seconds=0.5, prompt=f"user: größer {i}?", response=f"yes {i}", tokens=tokens)
        for i in (1, 2)
    )
    with store.track() as run:
        for item, failed in (("a", False), ("b", True)):
            run.trace(
                ItemTrace(
                    name="filter", item=item, started=1000, seconds=1.5, prompt="user: größer 1?", response="1 row",
                    requests=requests, failed=failed,
                )
            )  # fmt: skip
    experiment = store.client().get_experiment_by_name("scalequest").experiment_id
    for _ in range(2):
        found = {t.info.tags["sq.item"]: t for t in store.client().search_traces(locations=[experiment])}
        assert sorted(found) == ["a", "b"] and "refuses" not in caplog.text
        info = found["a"].info
        assert info.trace_metadata["mlflow.sourceRun"] == store.one()["id"] and info.execution_duration == 1500
        assert info.state == "OK" and found["b"].info.state == "ERROR" and info.response_preview == "1 row"
        spans = found["a"].data.spans
        assert [(s.name, s.inputs, s.outputs) for s in spans] == [
            ("filter", "user: größer 1?", "1 row"), ("request", "user: größer 1?", "yes 1"),
            ("request", "user: größer 2?", "yes 2"),
        ]  # fmt: skip
        assert spans[1].parent_id == spans[0].span_id and spans[1].get_attribute("mlflow.chat.tokenUsage") == tokens
        assert spans[2].end_time_ns - spans[2].start_time_ns == 500_000_000
        send_tracked(".", store.uri)


def test_git_commit_and_dirty_flag(store):
    root = Path(__file__).parents[2]
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode:
        pytest.skip("no git checkout")
    with store.track():
        pass
    tags = store.one()["tags"]
    assert tags["git.commit"] == commit.stdout.strip() == tags["mlflow.source.git.commit"]
    assert tags["git.dirty"] in ("true", "false")


def test_long_values_are_kept_whole(store):
    long = {f"k{i}": "ä" * n for i, n in enumerate([5999, 6000, 6001, 100_000])}
    with store.track(params=long) as run:
        run.tag("story", "é" * 9000)
    found = store.one()
    assert found["params"]["k0"] == long["k0"] and found["params"]["k1"] == long["k1"]
    assert "[6001 characters, blake2b " in found["params"]["k2"] and found["params"]["k3"].startswith("äää")
    assert "whole in params.json]" in found["params"]["k3"] and json.loads(store.text("params.json")) == long
    assert {"story": "é" * 9000} in [r.get("tags") for r in store.records()]
    assert "whole in metrics.jsonl" in found["tags"]["story"]


def test_many_parameters_and_colliding_names(store):
    params = {f"group.{i}": i for i in range(450)} | {"a+b": 1, "a*b": 2, "k" * 400: 3, "": 4, "x//y": 5, "..": 6}
    params |= {"./x": 7, "/x": 8, "x/./y": 9, "a/..": 10, ".": 11}
    with store.track(params=params):
        pass
    assert sorted(store.one()["params"].values()) == sorted(str(v) for v in params.values())


def test_ten_thousand_metrics_arrive_in_order(store):
    with store.track() as run:
        for step in range(10_000):
            run.metrics({"loss": step * 0.5}, step=step)
    rows = sqlite3.connect("outputs/mlflow.db").execute("select step, value from metrics order by step").fetchall()
    assert rows == [(i, i * 0.5) for i in range(10_000)]


def test_tables_and_files(store, tmp_path, caplog):
    (tmp_path / "a.txt").write_text("text ü")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    with store.track() as run:
        run.table("by/level", [{"level": 1, "share": 0.5}, {"level": np.int64(2), "why": ["x"], "share": math.nan}])
        run.table("other", [{"level": 1}])
        run.artifact(tmp_path / "a.txt", to="kept")
        run.artifact(tmp_path / "b.bin", to="kept")
        (tmp_path / "a.txt").write_text("changed after the call")
        run.artifact(tmp_path / "missing")
    assert json.loads(store.text("tables/by/level.json")) == {
        "columns": ["level", "share", "why"], "data": [[1, 0.5, None], [2, None, '["x"]']],
    }  # fmt: skip
    assert json.loads(store.one()["tags"]["mlflow.loggedArtifacts"]) == [
        {"path": "tables/by/level.json", "type": "table"}, {"path": "tables/other.json", "type": "table"},
    ]  # fmt: skip
    assert store.text("kept/a.txt") == "text ü"
    assert (store.artifacts(store.one()) / "kept/b.bin").read_bytes() == bytes(range(256))
    assert "missing" in caplog.text and "the work goes on" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(0), "FINISHED"),
        (SystemExit(3), "FAILED"), (SystemExit(143), "KILLED"),
    ],
)  # fmt: skip
def test_the_status_says_how_it_ended(store, error, status):
    with pytest.raises(type(error)), store.track():
        raise error
    found = store.one()
    assert found["status"] == status and found["end"] is not None
    assert ("sq.error" in found["tags"]) == (status != "FINISHED")
    if isinstance(error, ValueError):
        assert found["tags"]["sq.error"] == "ValueError: boom" and "raise error" in store.text("error.txt")


def test_runs_nest(store, monkeypatch):
    with store.track(stage="recipe", directory="r") as parent:
        with store.track(TrackingConfig(parent=parent.id), stage="a", directory="r/a"):
            monkeypatch.setenv("SQ_PARENT_RUN", parent.id)
            with store.track(stage="b", directory="r/b"):
                pass
    runs = {r["name"]: r for r in store.runs()}
    assert runs["a"]["parent"] == runs["b"]["parent"] == runs["recipe"]["id"] and runs["recipe"]["parent"] is None


def test_none_does_nothing(store, tmp_path):
    process = store.child(
        """
        off = TrackingConfig(enabled=False)
        with track(off, stage="s", params={"a": 1}, directory="out", inputs=[DataRef(name="x")]) as run:
            run.metrics({"a": 1}, step=1); run.table("t", [{}]); run.artifact("nowhere")
            run.output("o", "x"); run.tag("a", 1); run.text("t", "x")
            assert len(run.id) == 32
        assert "mlflow" not in sys.modules
        """
    )
    assert store.finished(process) == (0, "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outputs"] and os.listdir("outputs") == ["mlflow.db"]


def test_it_is_quiet(store):
    program = "with track(config, stage='s', params={'a': 1}, directory='out') as run: run.metrics({'a': 1})"
    assert store.finished(store.child(program)) == (0, "", "") and store.one()["status"] == "FINISHED"


def test_only_the_first_process_of_a_distributed_training_tracks(store, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with store.track() as run:
        run.metrics({"a": 1})
    monkeypatch.setenv("RANK", "0")
    with store.track(stage="t"):
        pass
    assert store.one()["name"] == "t"


@pytest.mark.parametrize("uri", ["outputs/mlflow.db", "htp://x", "file:///x", "", "http:host"])
def test_an_address_that_cannot_be_used_is_a_config_error(uri):
    with pytest.raises(ConfigError, match="cannot be used: give sqlite:///path"):
        build({"uri": uri}, TrackingConfig)
    with pytest.raises(ConfigError, match="timeout=0 must be at least 1"):
        build({"timeout": 0}, TrackingConfig)


def test_a_directory_that_cannot_be_written_is_reported(store):
    Path("file").write_text("in the way")
    with pytest.raises(SqError, match="Choose|choose another output_dir"), track(
        store.config, stage="s", params={}, directory="file/out"
    ):  # fmt: skip
        pass


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
