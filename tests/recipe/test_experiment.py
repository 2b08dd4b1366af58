"""Comparing the runs of an experiment, in a real MLflow store: groups, intervals, the best, the plot, and mistakes."""

import csv
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sq import cli
from sq.core.errors import SqError
from sq.core.tracking import TrackingConfig, track
from sq.recipe.experiment import _varied, compare_runs, format_comparison, less_is_better
from sq.recipe.experiment_plot import figure, write

LOSSES = {(1e-4, 100): (2.0, 2.2), (1e-4, 400): (1.6, 1.7), (1e-3, 100): (1.8, 1.9), (1e-3, 400): (1.1, 1.3)}

MODELS = [
    *({"experiment": "names", "name": name, "path": f"package:{name}"} for name in ("tiny", "tiny-base")),
    *({"experiment": "paths", "name": "tiny", "path": path} for path in ("outputs/a/model", "outputs/b/model")),
    {"experiment": "one", "name": "tiny"},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sweep of two learning rates, two sizes and two seeds, one job of which was killed and run again."""
    place = tmp_path_factory.mktemp("experiment")
    (place / "disk").mkdir()
    (place / "outputs").symlink_to("disk")  # as where runs are kept on another disk
    before = os.getcwd()
    os.chdir(place)
    try:
        config = TrackingConfig(experiment="sweep")
        with track(config, stage="sweep", params={}, directory="outputs") as run:
            parent = replace(config, parent=run.id)
        with pytest.raises(KeyboardInterrupt), track(
            parent, stage="qft", params={"stage.lr": 1e-3, "data.limit": 400, "seed": 1},
            directory="outputs/lr=0.001,limit=400,seed=1",
        ):  # fmt: skip
            raise KeyboardInterrupt
        for (lr, limit), losses in LOSSES.items():
            for seed, loss in enumerate(losses):
                params = {"stage.lr": lr, "data.limit": limit, "seed": seed, "output_dir": f"{lr}-{limit}-{seed}",
                          "stage.name": "qft"}  # fmt: skip
                where = f"outputs/lr={lr},limit={limit},seed={seed}"
                with track(parent, stage="qft", params=params, directory=where) as run:
                    run.metrics({"val/loss": loss, "val/token_accuracy": 1 / loss})
                    run.tag("sq.held_out", f"{seed}0123456789")
        raw = replace(config, tags={"variant": "raw"})
        with track(raw, stage="questions", params={"seed": 0}, directory="outputs/q") as run:
            run.metrics({"oracle/solvable": 0.5})
        for name, loss in (("a.csv", 5.0), ("b.csv", 10.0)):
            log("files", {"data.input": name, "seed": 0}, {"train/loss": loss})
        for model in MODELS:
            for seed in (0, 1):
                name, path = model["name"], model.get("path", f"outputs/seed{seed}/model")
                params = {"model.name": name, "model.path": path, "model.chat.end": f"<{name}>", "seed": seed}
                log(model["experiment"], params, {"accuracy": 0.5})
        for weight in (0.5, 0.1):
            mixed = {"source.mix.a.csv": weight, "source.mix.b.csv": 1 - weight, "seed": 0}
            log("mixes", mixed, {"rows": 100 * weight})
        for where, value in (("fail_rate > 0.5", 0.2), ("fail_rate < 0.5", 0.9)):
            chosen = {"source.where": where, "source.input": where, "source.limit": value, "limit": value}
            log("rows", {**chosen, "source.mix.a.split": f"of {where}"}, {"oracle/steps": value})
        for limit in (200, 800):
            log("old", {"data.limit": limit, "stage.lr": 1e-3}, {"val/loss": 1 + limit / 1000})
        for limit, seed in ((200, 0), (200, 1), (800, 0), (800, 1)):
            losses = {"val/loss": 1 + limit / 1000, "train/loss": 1.0}
            rows = f"{seed}{'a' if limit < 800 else 'b'}0123456789"
            log("sizes", {"data.limit": limit, "seed": seed}, losses, rows)
    finally:
        os.chdir(before)
    return f"sqlite:///{place}/outputs/mlflow.db"


def log(experiment, params, metrics, held_out=None):
    """One run."""
    place = f"outputs/{experiment}/{'-'.join(map(str, params.values()))}"
    with track(TrackingConfig(experiment=experiment), stage="qft", params=params, directory=place) as run:
        run.metrics(metrics)
        if held_out:
            run.tag("sq.held_out", held_out)


def by(found):
    return {group.setting: group for group in found.groups}


def test_runs_are_grouped_by_what_was_varied_with_seeds_together(store):
    found = compare_runs(store, "sweep", metrics=["val/loss"])
    assert found.by == ("data.limit", "stage.lr"), "neither seed, nor place, nor name"
    assert {tuple(map(float, s)): g.values["val/loss"] for s, g in by(found).items()} == {
        (limit, lr): pytest.approx(list(reversed(losses))) for (lr, limit), losses in LOSSES.items()
    }
    assert found.left_out["run again since"] == 1 and found.left_out["without that metric"] == 1


@pytest.mark.parametrize(("experiment", "by"), [("files", "data.input"), ("mixes", "source.mix.a.csv")])
def test_runs_of_one_seed_on_different_data_are_no_repetition(store, experiment, by):
    found = compare_runs(store, experiment, metrics=["rows" if experiment == "mixes" else "train/loss"])
    assert found.by == (by,) and len(found.groups) == 2


@pytest.mark.parametrize(
    ("experiment", "by", "groups"), [("names", ("model.name",), 2), ("paths", ("model.path",), 2), ("one", (), 1)]
)
def test_models_are_no_repetition_of_each_other(store, experiment, by, groups):
    """By name, else by the weights where one seed has several; over seeds each may have its own."""
    found = compare_runs(store, experiment)
    assert found.by == by and [len(group.runs) for group in found.groups] == [2] * groups


@pytest.mark.parametrize("key", ["input", "data.input", "model.path", "source.input", "source.mix.a.csv"])
def test_what_each_seed_may_have_of_its_own_tells_runs_of_one_seed_apart(key):
    runs = [{"params": {key: value, "seed": seed}, "tags": {}} for value, seed in (("0.5", "0"), ("0.1", "1"))]
    assert _varied(runs) == ()
    assert _varied([{"params": {**run["params"], "seed": "0"}, "tags": {}} for run in runs]) == (key,)


def test_of_many_settings_that_vary_none_is_left_out_by_which_runs_of_one_seed_differ():
    runs = [
        {"params": {**dict.fromkeys("abcd", str(n)), "model.name": name, "seed": "0"}, "tags": {"sq.stage": "sft"}}
        for n in (1, 2) for name in ("tiny", "big")
    ]  # fmt: skip
    assert _varied(runs) == ("a", "b", "c", "d", "model.name")


@pytest.mark.parametrize(
    ("names", "by"),
    [
        (("student-s0", "student-s1"), ()),
        (("student-s0", "teacher-s1"), ("model.name",)),
        (("student-s0", "student-s0-long"), ("model.name",)),
        (("student-s1", "student-s0"), ("model.name",)),
    ],
)
def test_models_named_by_their_seed_are_one(names, by):
    runs = [{"params": {"model.name": n, "seed": str(s)}, "tags": {"sq.stage": "eval"}} for s, n in enumerate(names)]
    assert _varied(runs) == by


def test_what_chooses_rows_tells_runs_apart_and_a_metric_without_a_direction_has_no_best(store):
    found = compare_runs(store, "rows", metrics=["oracle/steps"])
    assert found.by == ("limit", "source.mix.a.split", "source.where") and len(found.groups) == 2
    text = format_comparison(found)
    assert found.best("oracle/steps") is None and "*" not in text and "best" not in text


def test_a_sweep_over_sizes_with_unknown_held_out_rows_has_no_best(store):
    found = compare_runs(store, "old")
    assert found.best("val/loss") is None and "unknown" in format_comparison(found)


def test_runs_that_were_measured_on_other_rows_are_marked(store):
    """Over seeds each seed has its own rows; a setting with others than the rest is marked, and none is the best."""
    found = compare_runs(store, "sizes", metrics=["val/loss", "train/loss"])
    text = format_comparison(found)
    marked = [line for line in text.splitlines() if line.endswith("!")]
    assert found.best("val/loss") is None and len(marked) == 1 and "0b0123+1b0123 !" in text
    assert found.comparable("train/loss"), "which is not of held-out rows"
    assert "! held-out rows differ or are unknown: val/loss of these cannot be compared" in text
    assert "held-out rows differ" in figure(found).get_suptitle()
    same = compare_runs(store, "sweep", metrics=["val/loss"])
    assert same.best("val/loss") is not None
    assert "001234+101234" in format_comparison(same) and "differ" not in format_comparison(same)


def test_intervals_are_students_over_seeds_and_the_best_is_the_lowest_loss(store):
    found = compare_runs(store, "sweep", by=["lr", "data.limit"], metrics=["loss"])
    assert found.by == ("stage.lr", "data.limit") and found.metrics == ("val/loss",)
    group = by(found)["0.001", "400"]
    assert group.mean("val/loss") == pytest.approx(1.2)
    # two values 0.2 apart: t(1) = 12.71, standard error 0.1
    assert group.spread("val/loss") == pytest.approx(12.71 * 0.1, rel=1e-3)
    assert found.best("val/loss") is group
    assert [float(g.setting[0]) for g in found.groups] == [1e-4, 1e-4, 1e-3, 1e-3], "by number, not by letter"


def test_more_is_better_of_an_accuracy():
    assert less_is_better("val/loss") and less_is_better("rejects/cut-off") and less_is_better("val/mse")
    assert less_is_better("gsm8k/dart/cut_off") and less_is_better("val/calibration")
    assert not less_is_better("gsm8k/accuracy") and not less_is_better("oracle/solvable")


def test_the_table_marks_the_best_and_tells_what_is_left_out(store):
    text = format_comparison(compare_runs(store, "sweep", by=["lr", "limit"], metrics=["val/loss", "token_accuracy"]))
    starred = [line for line in text.splitlines() if "*" in line and line.startswith("0.001")]
    assert len(starred) == 1 and starred[0].count("*") == 2 and "400" in starred[0]
    assert "8 runs, 4 settings" in text and "95% interval of the mean over seeds" in text
    assert "* best val/loss (lowest)" in text and "* best val/token_accuracy (highest)" in text


def test_of_settings_that_are_equally_good_none_is_the_best(store):
    found = compare_runs(store, "sweep", by=["lr", "limit"], metrics=["val/loss"])
    best = found.best("val/loss")
    tied = replace(found, groups=(best, best))
    assert best is not None and tied.best("val/loss") is None and "best" not in format_comparison(tied)


def test_tags_are_settings_too_and_a_stage_can_be_chosen(store):
    found = compare_runs(store, "sweep", by=["variant"], stage="questions")
    assert found.metrics == ("oracle/solvable",) and list(by(found)) == [("raw",)]
    assert "sweep: 1 run, 1 setting\n" in format_comparison(found)


def test_plot_and_csv_hold_every_group(store, tmp_path):
    found = compare_runs(store, "sweep", by=["lr", "limit"], metrics=["val/loss"])
    picture, table = write(found, tmp_path)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 10_000
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 4 and {row["runs"] for row in rows} == {"2"}
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert (best["stage.lr"], best["data.limit"]) == ("0.001", "400")
    (panel,) = figure(found).axes
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert {"data.limit 100", "data.limit 400", "best"} <= set(labels)
    assert panel.get_xscale() == "linear" and panel.get_ylabel() == "val/loss"


def test_settings_that_are_no_numbers_stand_beside_each_other(store):
    (panel,) = figure(compare_runs(store, "files")).axes
    assert [text.get_text() for text in panel.get_xticklabels()] == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweeep"], "has no experiment 'sweeep'.*did you mean 'sweep'"),
        (["sweep", "--by", "stage.lrr"], "--by stage.lrr: no run has it, did you mean 'stage.lr'"),
        (["sweep", "--metric", "val/los"], "--metric val/los: no run has it, did you mean 'val/loss'"),
        (["sweep", "--stage", "qtf"], "--stage qtf: no run is of it, did you mean 'qft'"),
        (["a", "b", "c"], "3 things cannot be compared"),
    ],
)
def test_slips_end_in_one_message(store, arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *arguments, "--tracking-uri", store, "--output", str(tmp_path)])
    assert stopped.value.code in (1, 2)
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(SqError, match=r"there is no .*none\.db: nothing was tracked here"):
        compare_runs(f"sqlite:///{tmp_path}/none.db", "x")
    assert not list(tmp_path.iterdir())


def test_a_directory_without_runs_cannot_be_compared(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", str(tmp_path)])
    assert f"no run in or below {tmp_path} was tracked" in capsys.readouterr().err


@pytest.mark.parametrize(("below", "runs"), [("", 8), ("lr=0.001,limit=400,seed=1", 1)])
def test_a_sweeps_directory_stands_for_its_runs(store, tmp_path, capsys, below, runs):
    """Without a name or an address: the runs' own files have both."""
    outputs = Path(store.removeprefix("sqlite:///")).parent
    arguments = ["--metric", "val/loss", "--by", "lr", "--output", str(tmp_path)]
    place = outputs / below if below else outputs
    cli.main(["compare", str(place), *arguments])
    assert capsys.readouterr().out.startswith(f"sweep: {runs} run")


def test_the_command_prints_and_writes(store, tmp_path, capsys):
    cli.main(
        ["compare", "sweep", "--by", "lr", "--metric", "val/loss", "--tracking-uri", store, "--output", str(tmp_path)]
    )
    shown = capsys.readouterr().out
    assert "plot:" in shown and (tmp_path / "sweep.png").is_file() and (tmp_path / "sweep.csv").is_file()
    assert math.isfinite(float(next(csv.DictReader((tmp_path / "sweep.csv").open()))["val/loss"]))
