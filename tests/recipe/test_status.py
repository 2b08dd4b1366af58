"""`sq status`: stages that run, that were stopped, that are done; and how long a recipe still takes."""

import json
import os
import re
from pathlib import Path

import pytest

from sq.core.errors import ConfigError
from sq.core.files import DirectoryLock
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.progress import Progress
from sq.core.provenance import process_name
from sq.core.rows import QUESTION
from sq.recipe.record import RecipeRecord, StageRecord, Status
from sq.recipe.status import format_status, seconds_left


def stage(directory, name, status, seconds=0.0):
    return StageRecord(
        name=name, script="synthesize", stage="answers", variant=None, tags={}, reads=[], overrides=[],
        output_dir=str(directory / name), log="", digest="", status=status, seconds=seconds,
        process=process_name() if status == Status.RUNNING else "",
    )  # fmt: skip


@pytest.fixture
def recipe(tmp_path):
    """One stage done in twice its forecast of 100 s, one at work, one waiting with a forecast of 50 s."""
    record = RecipeRecord(
        recipe="mine", title="", seed=0, domain="math", output_dir=str(tmp_path), command="", sq="", tracking={},
        hardware={}, stages=[stage(tmp_path, "a", Status.DONE, 200), stage(tmp_path, "b", Status.RUNNING),
                             stage(tmp_path, "c", Status.WAITING)],
    )  # fmt: skip
    sums = dict.fromkeys(("rows", "kept", "tokens_in", "tokens_out", "gpu_hours", "price"), 0)
    forecast = [
        {"stage": name, "seconds": seconds, **sums} for name, seconds in (("a", 60), ("a", 40), ("b", 30), ("c", 50))
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"stages": forecast}))
    record.write()
    return record


# The first stage took (200 + 60) s for (100 + 60) s: the forecast counts for 60 s.
@pytest.mark.parametrize(
    ("running", "parallel", "left"),
    [({}, 1, 130.0), ({"b": 20.0}, 1, 110.0), ({"b": 90.0}, 1, 81.25), ({"b": 20.0}, 2, 55.0)],
)
def test_a_recipes_time_left_is_its_forecast_at_its_own_speed(recipe, running, parallel, left):
    recipe.parallel = parallel
    assert seconds_left(recipe, running) == pytest.approx(left)


def test_a_start_is_no_speed_and_what_was_not_chosen_no_time_left(recipe, tmp_path):
    document = json.loads((tmp_path / "plan.json").read_text())
    for line, start in zip(document["stages"], (14, 0, 14, 14), strict=True):
        line["start"] = start
    document["stages"][-1]["seconds"] = 1014
    (tmp_path / "plan.json").write_text(json.dumps(document))
    recipe.stages[0].busy_seconds, recipe.stages[0].attempts = 86.0, 1  # as forecast, after a start of 114 s
    assert seconds_left(recipe, {}) == pytest.approx(114 + 16 + 114 + 1000)
    recipe.stages[2].script = "train"  # it starts no engine
    assert seconds_left(recipe, {}) == pytest.approx(114 + 16 + 14 + 1000)
    recipe.chosen = ["a", "b"]
    recipe.write()
    assert seconds_left(recipe, {}) == pytest.approx(114 + 16)
    shown = format_status(tmp_path)
    assert shown.startswith("mine: running, 1 of 2 chosen stages (3 in all) done, about 2 min 10 s left"), shown
    assert re.search(r"^ *c +not chosen", shown, re.MULTILINE), shown
    recipe.status, recipe.stages[1].status, recipe.stages[1].process = Status.STOPPED, Status.DONE, ""
    recipe.write()
    assert format_status(tmp_path).startswith("mine: ended, 2 of 2 chosen stages (3 in all) done\n")


def test_a_stage_that_runs_knows_better_than_the_forecast(recipe, tmp_path):
    (tmp_path / "b").mkdir()
    progress = Progress(tmp_path / "b", "answers", "question", total=10)
    progress.update()
    values = json.loads((tmp_path / "b" / "progress.json").read_text()) | {"rate": 0.5}
    (tmp_path / "b" / "progress.json").write_text(json.dumps(values))
    assert seconds_left(recipe, {"b": 1.0}) == pytest.approx(18 + 81.25)
    shown = format_status(tmp_path)
    assert "mine: running, 1 of 3 stages done, about 99 s left" in shown, shown
    assert "1 of 10 questions (10%), 30.0/min, 18 s left" in shown and "waiting" in shown


def test_a_recipe_whose_process_is_gone_was_stopped(recipe, tmp_path):
    recipe.stages[1].process = process_name() + "0"
    recipe.write()
    assert format_status(tmp_path).startswith("mine: stopped, 1 of 3")
    (tmp_path / "plan.json").unlink()
    assert seconds_left(recipe, {}) is None


def test_stages_without_a_recipe_and_what_the_gpus_do(tmp_path, monkeypatch):
    with Ledger.open(tmp_path / "runs" / "done", schema=QUESTION, config={}) as ledger:
        for item in ledger.todo([WorkItem("k")]):
            ledger.record(item.key, rejects=[Reject(row={}, reason="cut-off")])
        ledger.finish()
    (tmp_path / "runs" / "qft").mkdir()
    (tmp_path / "runs" / "qft" / "train.json").write_text('{"config": {}}')
    (tmp_path / "bin").mkdir()
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, NVIDIA H200, 97, 120000, 143771'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    assert format_status(tmp_path / "runs").splitlines() == [
        "done: finished, 1 item in -> 0 rows, 1 reject (1 cut-off)",
        "qft: stopped",
        "GPU 0, NVIDIA H200: 97% busy, 120000 of 143771 MiB",
    ]


@pytest.mark.parametrize(
    ("content", "state"), [(None, "starting"), ({"config": {}}, "starting"), ({"figures": {}}, "trained")]
)
def test_what_has_shown_no_progress_yet_is_starting(tmp_path, content, state):
    job = tmp_path / "seed=0"
    job.mkdir()
    if content is not None:
        (job / "train.json").write_text(json.dumps(content))
    words = ["stage=qft", "seed=0,1,2", "stage.lr=1e-4,1e-3"]
    records = [{"op": "open", "name": "sweep"}, {"op": "params", "params": {"overrides": words}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    lock = DirectoryLock(job)
    assert format_status(tmp_path).splitlines()[:2] == ["sweep: job 1 of 6", f"seed=0: {state}"]
    lock.release()
    after = format_status(tmp_path)
    assert "seed=0: starting" not in after and after.startswith(
        "sweep: starting" if content is None else "sweep: job 1"
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [("FINISHED", "finished at job 2 of 2"), ("KILLED", "stopped at job 2 of 2"), (None, "job 2 of 2")],
)
def test_a_sweep_that_has_ended_says_so_its_jobs_too_that_are_evaluations(tmp_path, status, line):
    sweep = tmp_path / "sweep1"
    sweep.mkdir()
    records = [
        {"op": "open", "name": "sweep"},
        {"op": "params", "params": {"overrides": ["benchmark=gsm8k", "seed=0,1"]}},
    ]
    records += [{"op": "end", "status": status}, {"op": "sent"}] if status else []
    (sweep / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for job in ("seed=0", "seed=1"):
        with Ledger.open(sweep / job / "gsm8k" / "answers", schema=QUESTION, config={}) as ledger:
            for item in ledger.todo([WorkItem("k")]):
                ledger.record(item.key, rejects=[Reject(row={}, reason="cut-off")])
            ledger.finish()
    lines = format_status(sweep).splitlines()
    assert lines[0] == f"sweep: {line}" and lines[1].startswith("seed=0/gsm8k/answers: finished, 1 item in")
    above = format_status(tmp_path).splitlines()
    assert f"sweep1: sweep: {line}" in above
    assert above.index(f"sweep1: sweep: {line}") + 1 == above.index(f"sweep1/{lines[1]}")


@pytest.mark.parametrize(("name", "message"), [("gone", "there is no directory"), (".", "no stage is in or below")])
def test_a_directory_without_stages_is_said(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        format_status(Path(tmp_path) / name)
