"""Connections to a coordinator: of workers that go away without a word, and of what is no worker."""

import os
import queue
import signal
import socket
import struct
import threading
import time
from multiprocessing import Pipe

import pytest
from forked_workers import fork_workers
from gone_workers import Gone, connected
from test_killed import content

import sq.synth.worker
from sq.core.errors import EngineError
from sq.core.ledger import read_manifest
from sq.core.progress import Progress
from sq.domains.oracle import OracleEngine
from sq.engine.meter import Usage
from sq.synth import pool
from sq.synth.connections import KEEP_ALIVE, MESSAGE_SECONDS, WorkerConnections, connect

GIVEN = ("input=domain", "engine.error_rate=0.2", "part_size=8", "limit=40")


def options(link):
    """The settings of a connection's socket: whether it is kept alive and how, and its time limits."""
    with socket.socket(fileno=os.dup(link.fileno())) as end:
        alive = [end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        alive += [end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEP_ALIVE]
        limits = [end.getsockopt(socket.SOL_SOCKET, o, 16) for o in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)]
    return alive, limits


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.0\r\n\r\n", b"", b"\0\0\0\x08#WELCOME", b"\0\0\0\x20" + bytes(32)])
@pytest.mark.parametrize("stays", [True, False])
def test_whatever_else_connects_keeps_no_worker_out(sent, stays):
    connections, ends = WorkerConnections(("127.0.0.1", 0)), []
    with socket.create_connection(connections.address) as stray:
        stray.sendall(sent)
        if not stays:
            stray.close()
        worker = threading.Thread(
            target=lambda: ends.append(connect(connections.address, connections.key, 3)), daemon=True
        )
        worker.start()
        number, _, link = connections.arrived.get(timeout=5)
    worker.join()
    connections.close()
    (end,) = ends
    end.send("a message")
    assert (number, link.recv()) == (3, "a message")
    alive = [1, *KEEP_ALIVE.values()]
    assert options(link) == (alive, [struct.pack("@ll", MESSAGE_SECONDS, 0), bytes(16)])
    assert options(end) == (alive, [bytes(16)] * 2)
    with pytest.raises(queue.Empty):
        connections.arrived.get_nowait()


def test_who_says_nothing_is_turned_away_in_the_end(monkeypatch):
    monkeypatch.setattr("sq.synth.connections.HANDSHAKE_SECONDS", 1)
    connections = WorkerConnections(("127.0.0.1", 0))
    with socket.create_connection(connections.address) as stray:
        stray.settimeout(20)
        while stray.recv(100):
            pass
    connections.close()


def test_a_worker_that_goes_without_closing_its_connection_is_noticed(run, tmp_path, monkeypatch):
    """Something else holds the connection open: an engine's process here, a machine without power elsewhere."""
    run("answers", *GIVEN, to="calm")
    fork_workers(monkeypatch)
    answer, holder = OracleEngine._answer, tmp_path / "holder"

    def go(self, request):
        try:
            file = os.open(holder, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return answer(self, request)
        if (child := os.fork()) == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        os.write(file, str(child).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(OracleEngine, "_answer", go)
    try:
        run("answers", *GIVEN, "workers=2", to="a")
    finally:
        os.kill(int(holder.read_text()), signal.SIGKILL)
    assert content(tmp_path / "a") == content(tmp_path / "calm")


def test_a_worker_that_stops_in_the_middle_of_a_message_leaves_its_part_to_the_others(
    run, tmp_path, monkeypatch, caplog
):
    run("answers", *GIVEN, to="calm")
    fork_workers(monkeypatch)
    monkeypatch.setattr("sq.synth.connections.MESSAGE_SECONDS", 1)
    do_stage, first = sq.synth.worker._do_stage, tmp_path / "first"

    def stop(remote, task, directory):
        try:
            os.close(os.open(first, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return do_stage(remote, task, directory)
        assert remote.wait_for_part() is not None
        os.write(remote._link.fileno(), struct.pack("!i", 1000) + b"a message of which")
        time.sleep(20)  # the coordinator ends it long before
        os._exit(0)

    monkeypatch.setattr(sq.synth.worker, "_do_stage", stop)
    run("answers", *GIVEN, "workers=2", to="a")
    assert "stopped in the middle of a message; it is started again" in caplog.text
    assert content(tmp_path / "a") == content(tmp_path / "calm")


def test_what_a_worker_sent_before_it_went_is_read_first(pool_of_gone):
    worker, (link, end) = pool_of_gone._workers[0], Pipe()
    pool_of_gone._start(worker)
    pool_of_gone._selector.register(link, 1, worker)
    worker.link, worker.parts = link, {0}
    pool_of_gone._check_processes()
    assert worker.link is link  # what it sent last may be on its way
    for keys in (["a"], ["b"]):
        end.send(("at", keys))
    for keys in ([], ["a"]):
        pool_of_gone._check_processes()
        assert worker.link is link and worker.at == keys
        pool_of_gone._receive(worker)
    assert worker.at == ["b"]
    worker.at = []
    pool_of_gone._check_processes()
    assert worker.link is None and pool_of_gone._again == [0] and worker.failures == 1


def test_of_two_that_die_together_each_ends_itself_alone(pool_of_gone):
    first, second, end, other_end = connected(pool_of_gone)
    first.parts, second.waits = {0}, True
    end.close()
    other_end.close()
    for worker in (first, second):
        pool_of_gone._receive(worker)
        assert worker.link is None and (first.parts, second.parts) == ({0}, set())
    pool_of_gone._check_processes()
    assert pool_of_gone._again == [0] and (first.failures, second.failures) == (1, 1)


def test_a_worker_that_dies_after_a_suspected_part_is_done_has_ended_no_part(pool_of_gone):
    first, _, end, _ = connected(pool_of_gone)
    first.parts = {0}
    for _ in range(2):
        pool_of_gone._suspects.add(0, {0}, [])
    end.send(("at", ["a"]))
    end.send(("leave", 0, 7, ["a: HTTP 503"]))
    for _ in range(2):
        pool_of_gone._receive(first)
    end.close()
    pool_of_gone._receive(first)
    pool_of_gone._check_processes()
    assert first.process is None and 0 not in pool_of_gone._suspects and pool_of_gone._again == []


def test_where_one_worker_met_an_error_and_the_others_died_it_is_tried_again_and_its_error_ends_the_stage(pool_of_gone):
    first, second, _, _ = connected(pool_of_gone)
    pool_of_gone._on_error(first, EngineError, "a GPU fell off the bus")
    for _ in range(pool.TRIES):
        assert first.down
        pool_of_gone._worker_failed(second, Gone.end)
    assert second.down and not first.down
    pool_of_gone._on_error(first, EngineError, "a GPU fell off the bus")
    assert not first.down
    with pytest.raises(EngineError, match="^a GPU fell off the bus$"):
        pool_of_gone._on_error(first, EngineError, "a GPU fell off the bus")


def test_that_no_worker_comes_is_said_each_minute_until_patience_ends(pool_of_gone, monkeypatch, caplog):
    began = pool_of_gone._seen
    pool_of_gone._patience = 200.0
    for seconds in (30, 61, 90, 121, 181):
        monkeypatch.setattr(pool.time, "monotonic", lambda after=seconds: began + after)
        pool_of_gone._check_processes()
    said = [record.getMessage() for record in caplog.records if "no worker" in record.getMessage()]
    assert [text.partition(":")[0] for text in said] == [f"no worker for {s} s" for s in (61, 121, 181)]
    monkeypatch.setattr(pool.time, "monotonic", lambda: began + 201)
    with pytest.raises(EngineError, match="no worker has been there for 201 s"):
        pool_of_gone._check_processes()


def test_what_each_process_of_a_worker_was_asked_is_counted(pool_of_gone, tmp_path):
    worker = connected(pool_of_gone)[0]
    with Progress(tmp_path / "a", "answers", "question", total=1, done=lambda: 0) as pool_of_gone._progress:
        for requests in (10, 25):
            pool_of_gone._on_count(worker, 1, (), [Usage(requests=5)], {})
            pool_of_gone._on_count(worker, 1, (), [Usage(requests=requests)], {})
            pool_of_gone._worker_failed(worker, Gone.end)
            pool_of_gone._start(worker)
    assert pool_of_gone._file.usage["usage/requests"] == 35


def test_that_a_worker_with_parts_says_nothing_is_said(pool_of_gone, monkeypatch, caplog):
    first, second, *ends = connected(pool_of_gone)
    monkeypatch.setattr(Gone, "end", None)
    first.parts, second.waits, began = {3, 4}, True, pool.time.monotonic()
    for worker in (first, second):
        worker.has_spoken(began)
    for seconds in (59, 61, 90, 121, 200, 241):
        monkeypatch.setattr(pool.time, "monotonic", lambda after=seconds: began + after)
        pool_of_gone._check_processes()
    said = [record.getMessage().partition(". ")[0] for record in caplog.records]
    assert said == [f"worker 0 has given no result for {s} s (part 3, 4)" for s in (61, 121, 241)]
    ends[0].send(("at", []))
    pool_of_gone._receive(first)
    pool_of_gone._check_processes()
    assert len(caplog.records) == 3


def test_the_connection_of_a_process_that_has_ended_is_not_its_successors(pool_of_gone):
    worker, connections = pool_of_gone._workers[0], pool_of_gone._connections
    for successor in (True, False):
        pool_of_gone._start(worker)
        threading.Thread(target=connect, args=(connections.address, connections.key, 0), daemon=True).start()
        assert connections.wakeup.poll(20)
        if successor:
            pool_of_gone._start(worker)
        pool_of_gone._accept_worker()
        assert (worker.link is None) == successor


@pytest.mark.parametrize(
    ("silent", "longest", "handed_over", "waits", "ends"),
    [
        (301, 0, 0, True, True),
        (299, 0, 0, True, False),
        (301, 0, 0, False, False),  # nobody waits for its parts
        (301, 150, 0, True, False),  # as long between two results before
        (451, 150, 0, True, True),
        (1199, 0, 2, True, False),  # a long reply, perhaps: each time twice as long
        (1201, 0, 2, True, True),
    ],
)
def test_a_worker_that_hangs_is_ended_where_others_wait(
    pool_of_gone, monkeypatch, silent, longest, handed_over, waits, ends
):
    hung, other, end, other_end = connected(pool_of_gone)
    monkeypatch.setattr(Gone, "end", None)
    began = pool.time.monotonic()
    hung.parts, hung.heard_at, hung.longest, other.waits = {3}, began, longest, waits
    pool_of_gone._suspects.handed_over[3] = handed_over
    monkeypatch.setattr(pool.time, "monotonic", lambda: began + silent)
    pool_of_gone._check_processes()
    assert (hung.link is None) == ends and not hung.failures and not hung.down
    assert other.parts == ({3} if ends else set()) and pool_of_gone._suspects.handed_over[3] == handed_over + ends
    hung.waits = True
    pool_of_gone._check_processes()
    assert other.link is not None, "that it waited for long before is no silence"


def test_a_worker_that_hangs_holds_no_stage(run, tmp_path, monkeypatch, caplog):
    run("answers", *GIVEN, to="calm")
    fork_workers(monkeypatch)
    monkeypatch.setattr("sq.synth.places.HUNG_SECONDS", 0.5)
    answer, first = OracleEngine._answer, tmp_path / "first"

    def stop(self, request):
        try:
            os.close(os.open(first, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return answer(self, request)
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(OracleEngine, "_answer", stop)
    run("answers", *GIVEN, "workers=2", to="a")
    assert "s, and others wait for parts; it is started again" in caplog.text
    assert content(tmp_path / "a") == content(tmp_path / "calm")
    assert read_manifest(tmp_path / "a").finished and not list((tmp_path / "a").glob("journal-*"))
