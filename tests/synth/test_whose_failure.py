"""Whose failure is it that a worker ends: its own, that of a row, or nobody's?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from forked_workers import fork_workers
from gone_workers import connect_worker, pool_of
from test_killed import content

from sq.core.errors import ConfigError, EndpointError, EngineError, LedgerError, UnfinishedError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.domains.oracle import OracleEngine
from sq.engine.meter import Usage
from sq.engine.ray import WorkerEnd
from sq.synth.launchers import _LocalProcess
from sq.synth.places import TRIES, Worker, able_workers
from sq.synth.suspects import OUTSIDE, OUTSIDE_EVER, SuspectedParts

GIVEN = ("input=domain", "engine.error_rate=0.2", "part_size=8", "limit=40")
KILLED = WorkerEnd("its process was ended by SIGKILL")
TERMINATED = WorkerEnd("its process was ended by SIGTERM", from_outside=True)


def suspected():
    parts = SuspectedParts()
    for worker in (0, 1):
        parts.add(worker, {0}, [])
    return parts


@pytest.mark.parametrize(
    ("ended", "served", "several", "deadly"),
    [
        ([["a"], ["a"]], {0, 1}, True, {"a"}),
        ([["a"], ["a"]], {0}, True, set()),  # worker 1 has served nothing: its engine may be broken
        ([["a"], ["a"], ["a"]], {0}, True, set()),
        ([["a"], ["a"]], {0}, False, set()),
        ([["a"], ["a"], ["a"]], {0}, False, {"a"}),  # there is no other to ask
        ([["a"]], {0, 1}, True, set()),
        ([["a"], ["b"]], {0, 1}, True, set()),
        ([["a", "b"], ["a", "b"]], {0, 1}, True, set()),
        ([[7], [0], [1]], {0, 1}, True, set()),
    ],
)
def test_a_row_is_deadly_that_ended_two_workers_asked_alone_which_serve_others(ended, served, several, deadly):
    parts = suspected()
    for number, at in enumerate(ended):
        parts.add(number % 2, {0}, at if isinstance(at[0], str) else [])
    assert parts.of(0, served, several).deadly == deadly


def test_a_suspected_part_goes_to_another_worker_than_it_has_just_ended():
    parts = suspected()
    assert not parts.is_for(0, 1, True, True) and parts.is_for(0, 0, True, True)
    assert parts.is_for(0, 1, True, False), "there is no other"
    assert not parts.is_for(0, 0, False, True), "beside other parts none is"
    assert parts.is_for(1, 1, False, True)


def test_ends_from_outside_that_come_at_the_same_part_again_and_again_are_not_chance():
    """A row that takes all memory is ended by SIGTERM where something watches, or takes its node with it."""
    parts = SuspectedParts()
    often = [parts.add_outside({0, 1}) for _ in range(OUTSIDE + 1)]
    assert often == [False] * OUTSIDE + [True]
    parts.has_served({1})
    assert parts.add_outside({0}) and not parts.add_outside({1})


@pytest.mark.parametrize(("held", "serves", "ends"), [({0}, True, OUTSIDE_EVER), (set(), False, OUTSIDE)])
def test_ends_from_outside_go_on_for_ever_nowhere(held, serves, ends):
    """Neither where results are lost with each worker's disk, nor before a worker has a part."""
    parts = SuspectedParts()
    for _ in range(ends):
        assert not parts.add_outside(held)
        if serves:
            parts.has_served(held)
    assert parts.add_outside(held)


def test_a_worker_that_fails_at_a_suspected_part_is_taken_out_after_three(pool_of_gone):
    """Its engine does not work: no row is held to be deadly for that."""
    first, bad = pool_of_gone._workers
    pool_of_gone._suspects = suspected()
    for at in (["a", "b", "c"], ["a"], ["a"]):
        end = connect_worker(pool_of_gone, bad)
        bad.parts, bad.due = {0}, None
        end.send(("at", at))
        pool_of_gone._receive(bad)
        pool_of_gone._start(first)
        pool_of_gone._worker_failed(bad, KILLED)
    assert bad.down and bad.failures == TRIES
    known = pool_of_gone._suspects.of(0, [w.number for w in pool_of_gone._workers if w.served], False)
    assert known.alone == {"a": 2, "b": 0, "c": 0} and not known.deadly


def test_a_worker_that_serves_rows_of_a_suspected_part_is_not_taken_out(pool_of_gone, monkeypatch):
    monkeypatch.setattr(pool_of_gone, "_progress", type("None_", (), {"update": lambda *a, **k: None})(), raising=False)
    worker, other = pool_of_gone._workers
    pool_of_gone._suspects = suspected()
    pool_of_gone._start(other)
    for asked in (0, 5, 0, 5, 0, 5):
        end = connect_worker(pool_of_gone, worker)
        worker.parts, worker.due = {0}, None
        end.send(("at", ["a"]))
        end.send(("count", 1, (), [Usage(requests=asked)], {}))
        for _ in range(2):
            pool_of_gone._receive(worker)
        pool_of_gone._worker_failed(worker, KILLED)
        assert worker.failures == (1 if asked else worker.failures) and not worker.down
    assert pool_of_gone._suspects.of(0, [0], False).deadly == {"a"}


def test_ends_from_outside_are_nobodys_failure(pool_of_gone):
    worker = pool_of_gone._workers[0]
    pool_of_gone._start(pool_of_gone._workers[1])
    for _ in range(OUTSIDE):
        connect_worker(pool_of_gone, worker)
        worker.parts = {0}
        pool_of_gone._worker_failed(worker, TERMINATED)
        assert pool_of_gone._again == [0] and worker.failures == 0 and not worker.down
    assert 0 not in pool_of_gone._suspects


@pytest.mark.parametrize(("seconds_ago", "ends"), [(None, True), (1, False), (60, True)])
def test_an_endpoint_that_serves_nobody_is_not_tried_by_each_worker(pool_of_gone, seconds_ago, ends):
    """Eight workers that waited for it one after the other would wait eight times as long."""
    worker, other = pool_of_gone._workers
    end = connect_worker(pool_of_gone, worker)
    pool_of_gone._start(other)
    worker.parts = {0}
    if seconds_ago is not None:
        other.result_at = time.monotonic() - seconds_ago
    end.send(("error", EndpointError, "could not be reached for 45 s"))
    if ends:
        with pytest.raises(EndpointError, match="45 s"):
            pool_of_gone._receive(worker)
    else:
        pool_of_gone._receive(worker)
        assert worker.failures == 1 and not other.failures


@pytest.mark.parametrize(("number", "outside"), [(signal.SIGTERM, True), (signal.SIGKILL, False)])
def test_a_process_that_somebody_terminates_has_ended_from_outside(number, outside):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    child.send_signal(number)
    child.wait()
    assert _LocalProcess(child).ended() == WorkerEnd(f"its process was ended by {number.name}", outside)


def test_workers_that_are_all_ended_at_their_start_end_the_stage(pool_of_gone):
    """Something watches the memory, and ends with SIGTERM what loads a model."""
    for worker in pool_of_gone._workers:
        pool_of_gone._start(worker)
    with pytest.raises(EngineError, match="every worker has failed 3 times"):
        for end in range(99):
            worker = pool_of_gone._workers[end % 2]
            if not worker.down:
                connect_worker(pool_of_gone, worker)
                pool_of_gone._worker_failed(worker, TERMINATED)


def test_few_parts_of_a_share_are_suspected_whose_worker_is_killed(job, tmp_path):
    one = job("answers", "input=domain", "limit=4000", "workers=2", "part_size=1024", f"output_dir={tmp_path}/a")
    with pool_of(one, tmp_path, in_turns=True) as pool:
        held = []
        for death in range(TRIES):
            worker = pool._workers[death % 2]
            connect_worker(pool, worker)
            while pool._next(worker, False):
                pass
            held.append(len(worker.parts))
            pool._worker_failed(worker, KILLED)
        assert held[0] == 250  # the share, by the directory's part size, whatever the setting is
        assert held[1] <= 20 and sum(index in pool._suspects for index in range(500)) == 1


def test_an_early_error_ends_no_stage_whose_other_workers_were_killed():
    first, other = Worker(0), Worker(1)
    first.error, first.failures, other.failures = EngineError("no memory left"), 1, TRIES
    assert able_workers([first, other], False, "answers", "killed") == [first]
    first.failures = TRIES
    with pytest.raises(EngineError, match="no memory left"):
        able_workers([first, other], False, "answers", "killed")


def die(row):
    os.kill(os.getpid(), signal.SIGKILL)


def be_terminated(row):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def break_down(row):
    raise EngineError("vLLM died: illegal memory access")


@pytest.fixture
def poison(run, tmp_path, monkeypatch):
    """`poison(how)`: from now on the question of row 13 ends who answers it, in that way."""
    run("answers", *GIVEN, to="calm")
    seed = next(row["response_seed"] for row in read_rows(tmp_path / "calm") if row["source_row"] == 13)
    answer = OracleEngine._answer
    fork_workers(monkeypatch)

    def set_poison(how):
        monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: (r.seed == seed and how(r)) or answer(self, r))

    return set_poison


@pytest.mark.parametrize(("how", "workers"), [(die, 3), (break_down, 3), (be_terminated, 3), (break_down, 1)])
def test_a_row_that_ends_its_worker_each_time_costs_itself_alone(run, tmp_path, monkeypatch, poison, how, workers):
    """It is left, or else a reject; also where nothing but it is left to show that workers serve."""
    monkeypatch.setattr("sq.synth.worker.COUNTED_EVERY", 0.0)
    poison(how)
    given = (*GIVEN, f"workers={workers}", "cluster.address=auto")
    with pytest.raises(UnfinishedError, match="(?s)39 questions done, 1 question left .*its worker ended each"):
        run("answers", *given, to="a")
    run("answers", *given, "engine.reject_failed=true", to="a")
    (lost,) = read_rejects(tmp_path / "a")
    assert (lost["reason"], lost["detail"]) == ("engine", "its worker ended each time it was asked")
    rows = [row["id"] for row in read_rows(tmp_path / "calm") if row["source_row"] != 13]
    assert [row["id"] for row in read_rows(tmp_path / "a")] == rows


def test_what_was_left_is_done_when_it_ends_nobody_any_more(run, tmp_path, poison):
    poison(die)
    with pytest.raises(UnfinishedError):
        run("answers", *GIVEN, "workers=2", to="a")
    poison(lambda row: None)
    run("answers", *GIVEN, "workers=2", to="a")
    assert content(tmp_path / "a") == content(tmp_path / "calm")


BROKEN = {
    "cuda": RuntimeError("CUDA error: unspecified launch failure"),
    "disk": LedgerError("/tmp/sq-1/journal-00000.jsonl: cannot write the journal: No space left on device"),
    "path": ConfigError("model.path='/models/x' is not there"),
}


@pytest.fixture
def break_machines(monkeypatch):
    """`break_machines(error, "0")`: the engine of these workers raises it."""

    def broken(error, numbers):
        generate = OracleEngine.generate

        def broken_generate(self, requests):
            if os.environ["WORKER"] in numbers:
                raise error
            for result in generate(self, requests):
                time.sleep(0.02)
                yield result

        monkeypatch.setattr(OracleEngine, "generate", broken_generate)

    fork_workers(monkeypatch)
    return broken


@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_on_one_machine_leaves_the_work_to_the_others(run, tmp_path, break_machines, error):
    break_machines(error, "0")
    assert run("answers", *GIVEN, "workers=2", to="a")["items"] == 40
    assert not read_manifest(tmp_path / "a").reasons


@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
def test_what_all_workers_say_ends_the_stage(run, tmp_path, break_machines, error):
    break_machines(error, "01")
    with pytest.raises(type(error), match=str(error)[-20:]):
        run("answers", *GIVEN, "workers=2", to="a")
