"""`kill -9` of `sq run` at random moments, again and again: the rows and weights are those of an uninterrupted run."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from forked_command import ForkedCommand

from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.provenance import process_is_gone

pytestmark = pytest.mark.slow
KILLS = 10


def content(directory):
    """What the stages hold, but for the ids of the runs that made it."""

    def plain(row):
        return {k: plain(v) if isinstance(v, dict) else v for k, v in row.items() if k != "run"}

    found = {}
    for name in ("labels", "answers", "select"):
        place = directory / "outputs/small" / name
        assert read_manifest(place).finished
        rejects = [{**r, "row": plain(json.loads(r["row"]))} for r in read_rejects(place)]
        found[name] = [plain(r) for r in read_rows(place)], rejects
    found["weights"] = (directory / "outputs/small/sft/model/model.safetensors").read_bytes()
    return found


def test_ten_kills_at_random_moments_change_nothing(finished, small, environment, record_of, tmp_path):
    forked_run = Path(__file__).with_name("forked_run.py")
    draw, kills, code = random.Random(5), 0, None
    while code is None:
        process = ForkedCommand(forked_run, ["run", small, "parallel=2"], tmp_path, environment)
        code = process.wait(draw.uniform(0.1, 0.9) if kills < KILLS else 600)
        if code is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert all(map(ended, [s["process"] for s in stages(tmp_path, record_of) if s["process"]]))
    assert code == 0, process.stderr
    assert kills >= KILLS // 2, "the machine is too fast for this test to mean anything"
    assert content(tmp_path) == content(finished[0])


def ended(process):
    """A stage dies with the run that started it; the system needs a moment for that."""
    deadline = time.monotonic() + 10
    while not process_is_gone(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process_is_gone(process)


def stages(directory, record_of):
    try:
        return record_of(directory)["stages"]
    except FileNotFoundError:
        return []
