"""A sweep that is killed with -9: the same command does what is missing, under the same parent run."""

import json
import os
import signal
import time

import pytest
from forked_command import ForkedCommand, run

from sq.domains.arithmetic import ArithmeticDomain
from sq.recipe.experiment import compare_runs
from sq.recipe.tracked_runs import read_runs

SWEPT = ["stage.lr=1e-3,1e-2", "data.limit=12,24"]


@pytest.mark.slow
def test_a_killed_sweep_continues_with_what_is_missing(random_tiny, tmp_path):
    """The promise that a sweep survives kill -9, shown on a real one of four trainings."""
    rows = tmp_path / "rows.jsonl"  # of the domain's own problems 15,000 would be read, to hold some out
    rows.write_text("".join(json.dumps(row) + "\n" for row in ArithmeticDomain().seeds(80, 0)))
    command = [
        "-m", "stage=qft", "model=tiny-base", f"model.path={random_tiny}",
        *SWEPT, "stage.pack_tokens=256", "stage.batch_packs=1", "stage.validation=0.1", "trainer.threads=1",
        "trainer.parity_check=false", f"data.input={rows}",
        "tracking.experiment=swept", "output_dir=outputs/swept",
    ]  # fmt: skip
    sweep, store = tmp_path / "outputs" / "swept", f"sqlite:///{tmp_path}/outputs/mlflow.db"
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    first = ForkedCommand("train.py", command, tmp_path, environment)
    while not done(sweep) and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = done(sweep)
    assert 1 <= len(before) < 4, first.stderr
    weights = {name: (sweep / name / "model" / "model.safetensors").read_bytes() for name in before}
    parent = json.loads((sweep / "metrics.jsonl").read_text().splitlines()[0])["id"]

    again = run("train.py", command, tmp_path, environment)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already trained") == len(before)
    after = done(sweep)
    assert set(after) == {f"stage.lr={lr},data.limit={limit}" for lr in (0.001, 0.01) for limit in (12, 24)}
    assert {name: after[name] for name in before} == before, "what was done is not touched"
    assert all((sweep / n / "model" / "model.safetensors").read_bytes() == kept for n, kept in weights.items())

    runs = read_runs(store, "swept")
    sweeps = [run for run in runs if run["tags"]["sq.stage"] == "sweep"]
    assert [run["tags"]["sq.run"] for run in sweeps] == [parent] and sweeps[0]["status"] == "FINISHED"
    children = [run for run in runs if run not in sweeps]
    assert {run["parent"] for run in children} == {sweeps[0]["id"]}
    assert "lr=0.001,limit=12" in {run["name"] for run in children}, "named by what is varied"
    assert len({run["tags"]["sq.directory"] for run in children}) == len(children) == 4, "the killed one goes on"
    assert all(run["status"] == "FINISHED" for run in children)
    found = compare_runs(store, "swept", by=["lr", "data.limit"], metrics=["val/loss"])
    assert len(found.groups) == 4 and all(len(group.runs) == 1 for group in found.groups)


def done(sweep):
    """Jobs that are finished, with the time at which they were."""
    found = {}
    for path in sweep.glob("*/train.json"):
        if "figures" in json.loads(path.read_text()):
            found[path.parent.name] = path.stat().st_mtime_ns
    return found
