"""The file of a run: all of it, a record a line; killed or not, the same work goes on in its own run."""

import math
from pathlib import Path

import pytest


def test_the_file_has_all_of_it_a_record_a_line(store):
    with store.track(params={"long": "ä" * 9000}) as run:
        run.metrics({"loss": 0.5, "nan": math.nan}, step=3)
        run.text("note.txt", "kept")
    found = {record["op"]: record for record in store.records()}
    assert list(found) == ["open", "params", "metrics", "artifact", "end", "sent"]
    assert found["params"]["params"] == {"long": "ä" * 9000} and found["open"]["id"] == run.id
    assert found["metrics"]["metrics"] == {"loss": 0.5, "nan": "nan"} and found["metrics"]["step"] == 3
    assert (
        Path("out/tracking", found["artifact"]["path"]).read_text() == "kept" and found["end"]["status"] == "FINISHED"
    )


KILLED_CHILD = """
    with track(config, stage="s", params={"a": 1}, directory="out") as run:
        run.metrics({"loss": 1.0}, step=7)
        print(run.id, flush=True)
        time.sleep(60)
    """


def killed(store, when=lambda: True):
    """A process that tracked in `out` and was killed with -9 when it had come so far; its run's id."""
    process = store.child(KILLED_CHILD)
    id = process.stdout.readline().strip()
    store.until(when)
    process.kill()
    process.communicate(timeout=60)
    return id


def test_after_kill_9_the_same_work_goes_on_in_its_own_run(store):
    first = killed(store, when=lambda: store.count("metrics") == 1)
    assert store.one()["status"] == "RUNNING"
    with store.track(params={"a": 1}) as second:
        second.metrics({"loss": 0.5}, step=8)
    found = store.one()
    assert second.id == first == found["tags"]["sq.run"] and found["status"] == "FINISHED"
    assert found["tags"]["sq.resumed"] == "1" and found["tags"]["sq.resumed_from"] == "KILLED (without a word)"
    assert [m.step for m in store.client().get_metric_history(found["id"], "loss")] == [7, 8]


def test_after_kill_9_other_work_closes_the_run_and_has_one_of_its_own(store):
    first = killed(store)
    with store.track(params={"a": 2}) as second:
        pass
    runs = {r["tags"]["sq.run"]: r for r in store.runs()}
    assert runs[first]["status"] == "KILLED" and runs[first]["metrics"] == {"loss": 1.0}
    assert "ended without a word" in runs[first]["tags"]["sq.error"] and runs[second.id]["status"] == "FINISHED"


def test_a_last_line_that_a_kill_cut_off_is_taken_back(store):
    with store.track():
        pass
    with Path("out/metrics.jsonl").open("ab") as file:
        file.write(b'{"op": "metrics", "st')
    with store.track() as run:
        run.metrics({"x": 1})
    assert store.one()["metrics"] == {"x": 1} and [r["op"] for r in store.records()].count("open") == 2


def test_a_live_process_in_the_same_directory_keeps_its_file(store):
    first = store.child(KILLED_CHILD).stdout.readline().strip()
    with store.track(params={"a": 1}) as second:
        store.until(lambda: store.count("runs") == 2)
    runs = {r["tags"]["sq.run"]: r["status"] for r in store.runs()}
    assert runs == {first: "RUNNING", second.id: "FINISHED"} and Path("out/metrics-2.jsonl").is_file()


def test_a_file_of_another_program_is_left_alone(store):
    Path("out").mkdir()
    Path("out/metrics.jsonl").write_text('{"loss": 1}')
    with store.track():
        pass
    assert Path("out/metrics.jsonl").read_text() == '{"loss": 1}' and store.one()["status"] == "FINISHED"


def test_what_differs_in_a_run_that_goes_on_stands_beside(store):
    same = {"identity": {"work": 1}}
    with pytest.raises(ValueError), store.track(params={"a": 1, "b": "x" * 7000}, **same) as first:
        first.metrics({"loss": 1.0}, step=1)
        raise ValueError("at 90%")
    with store.track(params={"a": 2, "b": "x" * 7000, "c": 3}, **same) as second:
        pass
    found = store.one()
    assert second.id == first.id and found["status"] == "FINISHED" and found["tags"]["sq.resumed_from"] == "FAILED"
    assert found["params"]["a"] == "1" and found["params"]["resumed-1/a"] == "2" and found["params"]["c"] == "3"
    assert "resumed-1/b" not in found["params"]
    with store.track(params={"a": 1}, identity={"work": 2}) as other:
        pass
    assert other.id != first.id and len(store.runs()) == 2
