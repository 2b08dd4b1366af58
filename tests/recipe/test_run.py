"""`sq run` as a person meets it: four real stages with the tiny model, run, done again, changed, failed, stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from forked_command import run
from openai_endpoint import Endpoint

from sq.core.ledger import read_manifest
from sq.core.provenance import process_is_gone

pytestmark = pytest.mark.slow


@pytest.fixture
def whole_copy(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def copy(whole_copy):
    """The same without its last stage: a run that leaves it out writes no report, which takes longer than all else."""
    shutil.rmtree(whole_copy / "outputs/small/sft")
    return whole_copy


def test_a_recipe_runs_from_nothing_to_its_end(finished, record_of):
    directory, done = finished
    record = record_of(directory)
    assert record["status"] == "done" and record["finished"] and record["seconds"] > 0
    assert [s["name"] for s in record["stages"]] == ["labels", "answers", "select", "sft"]
    for stage in record["stages"]:
        assert (
            stage["status"] == "done" and stage["seconds"] > 0 and stage["cpu_seconds"] > 0 and stage["attempts"] == 1
        )
        assert Path(directory / stage["log"]).read_text().startswith("$ ")
        assert re.search(rf"\[\d/4\] {stage['name']} +\d+ s  {re.escape(stage['last'])}", done.stderr), done.stderr
    assert record["stages"][1]["input_digests"] == {"labels": record["stages"][0]["output_digest"]}
    assert read_manifest(directory / "outputs/small/select").finished
    assert (directory / "outputs/small/sft/model/model.safetensors").is_file()


def test_done_again_nothing_is_started(whole_copy, sq_run, record_of):
    before = record_of(whole_copy)
    done = sq_run(whole_copy)
    assert done.returncode == 0 and "started" not in done.stderr, done.stderr
    after = record_of(whole_copy)
    assert [s["attempts"] for s in after["stages"]] == [1, 1, 1, 1]
    assert after | {"command": before["command"]} == before


def test_a_part_of_it_then_one_stage(copy, sq_run, record_of):
    for name in ("answers", "select"):
        shutil.rmtree(copy / "outputs/small" / name)
    done = sq_run(copy, "--until", "answers")
    assert done.returncode == 0 and "1 stage run, 2 left, next select" in done.stdout, done.stdout + done.stderr
    assert "stages: labels, answers" in done.stderr and "2 stages, 1 of them done already" in done.stderr
    assert "[2/2] answers" in done.stderr and record_of(copy)["chosen"] == ["labels", "answers"]
    early = sq_run(copy, "--only", "sft")
    assert early.returncode == 2 and "sft reads select, which is not done. Run it first: --until select" in early.stderr
    assert sq_run(copy, "--only", "select").returncode == 0
    assert [s["attempts"] for s in record_of(copy)["stages"]] == [1, 2, 2, 1]


def test_a_stage_with_other_settings_is_told_and_made_again_only_on_request(whole_copy, sq_run, record_of):
    refused = sq_run(whole_copy, "select.seed=9")
    assert refused.returncode == 2
    assert re.search(r"stage select was made with other settings: seed \(0 there, 9 now\).*--redo", refused.stderr)
    redone = sq_run(whole_copy, "select.seed=9", "--redo", "--until", "select")
    assert redone.returncode == 0, redone.stderr
    stages = {s["name"]: s for s in record_of(whole_copy)["stages"]}
    assert "seed=9" in stages["select"]["overrides"] and stages["select"]["attempts"] == 1
    assert stages["answers"]["attempts"] == 1 and not (whole_copy / "outputs/small/sft").exists()


def test_a_failed_stage_stops_with_the_end_of_its_log_and_the_command_that_continues(copy, sq_run, record_of):
    shutil.rmtree(copy / "outputs/small/select")
    (copy / "outputs/small/select").write_text("a file stands where a directory is needed")
    failed = sq_run(copy)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "stage select failed (exit code 2)" in failed.stderr and "outputs/small/logs/select.log" in failed.stderr
    assert re.search(r"  \| error: .*outputs/small/select", failed.stderr), failed.stderr
    assert re.search(r"this continues:\n  \S*sq run \S+small\.yaml$", failed.stderr.strip())
    assert record_of(copy)["status"] == "failed" and record_of(copy)["stages"][2]["status"] == "failed"
    (copy / "outputs/small/select").unlink()
    fixed = sq_run(copy, "--until", "select")
    assert fixed.returncode == 0, fixed.stderr
    assert record_of(copy)["stages"][2]["status"] == "done"


@pytest.mark.parametrize(("number", "stage"), [(signal.SIGINT, "select"), (signal.SIGTERM, "sft")])
def test_a_stop_ends_the_stage_and_leaves_what_continues(copy, command, environment, sq_run, record_of, number, stage):
    shutil.rmtree(copy / "outputs/small" / stage, ignore_errors=True)
    with open(copy / "printed", "w") as printed:
        words = command("--until", stage)
        process = subprocess.Popen(words, cwd=copy, env=environment, stderr=printed, stdout=printed)
        child = wait_for_process(copy, record_of, stage)
        if stage == "sft":
            second = sq_run(copy)
            assert second.returncode == 1 and "another `sq run` is at work here" in second.stderr, second.stderr
        process.send_signal(number)
        assert process.wait(60) == 130
    assert "stopped. The same command continues" in (copy / "printed").read_text()
    assert process_is_gone(child)
    record = record_of(copy)
    assert record["status"] == "stopped"
    assert next(s for s in record["stages"] if s["name"] == stage)["status"] == "waiting"
    if stage == "select":
        done = sq_run(copy, "--until", stage)
        assert done.returncode == 0 and record_of(copy)["stages"][2]["status"] == "done", done.stderr


def test_stages_that_need_nothing_of_each_other_run_side_by_side(copy, command, sq_run, record_of):
    for name in ("answers", "select"):
        shutil.rmtree(copy / "outputs/small" / name)
    record = record_of(copy)
    done = sq_run(copy, "parallel=2", "--until", "select")
    assert done.returncode == 0, done.stderr
    assert [s["attempts"] for s in record_of(copy)["stages"][:3]] == [1, 2, 2]
    assert record["stages"][0] | {"status": "done"} == record_of(copy)["stages"][0]


def test_a_dry_run_prints_commands_that_can_be_run_as_they_are(tmp_path, sq_run, environment):
    shown = sq_run(tmp_path, "--dry-run", "--until", "labels", "labels.limit=3", "labels.stage.n=1")
    assert shown.returncode == 0 and list(tmp_path.iterdir()) == []
    commands = [line for line in shown.stdout.splitlines() if not line.startswith("#")]
    assert len(commands) == 1
    done = subprocess.run(commands[0], shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "outputs/small/labels").rows == 3


def test_the_twentieth_stage_is_checked_before_the_first_is_run(tmp_path, sq_run):
    wrong = sq_run(tmp_path, "sft.stage.lrr=1")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    assert "stage sft: unknown key 'stage.lrr' (value 1), did you mean 'lr'?" in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def wait_for_process(directory, record_of, stage):
    """The name of the process that runs a stage, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            found = next(s for s in record_of(directory)["stages"] if s["name"] == stage)["process"]
            if found:
                os.kill(int(found.split(":")[1]), 0)
                return found
        except (OSError, json.JSONDecodeError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"{stage} was never started")


def test_a_stage_of_which_a_few_requests_failed_is_started_again(tmp_path, environment):
    """It ends with exit code 75; after two more tries the recipe stops, and its command continues."""
    stage = {"stage": "fail_rate", "limit": 12, "stage.n": 1, "engine": "openai", "engine.attempts": 1}
    other = {"script": "synthesize", "set": {"stage": "answers", "input": "@labels", "engine": "oracle"}}
    recipe = {
        "_target_": "sq.recipe.config.RecipeConfig", "title": "By an endpoint", "set": {"tracking": "none"},
        "tracking": {"enabled": False}, "stages": {"labels": {"script": "synthesize", "set": stage}, "answers": other},
    }  # fmt: skip
    (tmp_path / "endpoint.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    endpoint = Endpoint()
    address = {"OPENAI_BASE_URL": f"http://127.0.0.1:{endpoint.port}/v1", "OPENAI_API_KEY": "sk-private-0123456789"}
    words = ["run", "endpoint.yaml", "--until", "labels"]

    def run_it():
        return run(Path(__file__).with_name("forked_run.py"), words, tmp_path, {**environment, **address})

    try:
        first = {}

        def fault(name, attempt):
            first.setdefault("name", name)
            return (500, "", "out of order") if name == first["name"] and attempt <= 4 else None

        endpoint.fault = fault
        stopped = run_it()
        assert stopped.returncode == 1 and stopped.stderr.count("has requests that failed; they are asked again") == 2
        assert "stage labels failed (exit code 75)" in stopped.stderr
        assert "11 problems done, 1 problem left" in stopped.stderr
        done = run_it()
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("has requests that failed; they are asked again") == 1
        assert endpoint.seen.total() == 12 + 4 and read_manifest(tmp_path / "outputs/endpoint/labels").rows == 12
    finally:
        endpoint.close()
