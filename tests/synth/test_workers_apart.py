"""Workers that do not see the stage's directory work in one of their own, which is this run's and this user's."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
from forked_workers import fork_workers

import sq.synth.worker
from sq.core.errors import ConfigError, DirectoryError, UnfinishedError
from sq.core.ledger import read_manifest, read_rows
from sq.domains.oracle import OracleEngine
from sq.synth.worker import _Remote, own_directory

STAGE = ("answers", "input=domain", "part_size=8", "limit=8", "workers=2", "engine.max_failures=1")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """The other machine's directory for temporary files."""
    fork_workers(monkeypatch)
    (place := tmp_path / "machine").mkdir()
    monkeypatch.setattr(sq.synth.worker, "join_directory", lambda marker: False)
    monkeypatch.setattr(sq.synth.worker.tempfile, "gettempdir", lambda: str(place))
    return place


@pytest.fixture
def fail(monkeypatch):
    """Lets some questions fail, and marks the replies to the others."""
    answer = OracleEngine._answer

    def failing(self, request):
        reply = answer(self, request)
        if request.seed % 3 == 0:
            return replace(reply, completions=(), error="HTTP 503")
        return replace(reply, completions=tuple(replace(c, text=f"Broken. {c.text}") for c in reply.completions))

    monkeypatch.setattr(OracleEngine, "_answer", failing)
    return lambda: monkeypatch.setattr(OracleEngine, "_answer", answer)


@pytest.mark.slow
def test_what_another_run_has_left_there_is_not_taken(run, tmp_path, machine, fail):
    with pytest.raises(UnfinishedError):
        run(*STAGE, to="a")
    (left,) = machine.iterdir()
    assert list(left.glob("journal-*")) and left.stat().st_mode & 0o777 == 0o700
    fail()
    run(*STAGE, to="b")
    assert not [row for row in read_rows(tmp_path / "b") if "Broken" in row["response"]]
    assert list(machine.iterdir()) == [left], "a stage that has ended leaves nothing there"


@pytest.mark.slow
def test_results_to_be_asked_again_are_refused(run, tmp_path, machine, fail):
    run(*STAGE, "engine.reject_failed=true", to="a")
    before = read_manifest(tmp_path / "a").digest
    fail()
    with pytest.raises(ConfigError, match="workers do not see .*Give workers=1"):
        run(*STAGE, "engine.reject_failed=true", "retry_engine_rejects=true", to="a")
    assert read_manifest(tmp_path / "a").digest == before


@pytest.mark.parametrize("left", [False, True])
def test_journals_of_parts_that_others_have_done_do_not_stay_there(tmp_path, machine, left):
    """Of a worker that was killed; those of parts that the next run goes on with do."""
    place, (coordinator, link) = own_directory("1"), Pipe()
    journal = place / "journal-00003.jsonl"
    journal.touch()
    remote = _Remote(link)
    task = SimpleNamespace(working_directory=tmp_path, directory=tmp_path / "away", marker="m", run="1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sq.synth.worker, "_do_stage", lambda remote, task, directory: remote.wait_for_part())
        coordinator.send({3} if left else set())
        sq.synth.worker._work(remote, task, 0)
    assert journal.exists() == left and place.exists() == left


@pytest.mark.parametrize("planted", ["link", "open", "file"])
def test_what_somebody_else_has_put_in_its_place_is_not_used(tmp_path, machine, planted):
    place = machine / "sq-1"
    if planted == "link":
        place.symlink_to(tmp_path)
    elif planted == "open":
        place.mkdir()
        os.chmod(place, 0o777)
    else:
        place.touch()
    with pytest.raises(DirectoryError, match="not this user's own"):
        own_directory("1")


def test_a_part_stays_where_it_was_made_until_it_is_entered(tmp_path):
    """Else it is lost where the coordinator dies, or has no room for it."""
    coordinator, link = Pipe()
    remote, file = _Remote(link), tmp_path / "part-00000.parquet"
    remote.files = tmp_path
    file.write_bytes(b"rows")
    part = SimpleNamespace(index=0, file=file.name, rejects_file="", rejects=0)
    committing = threading.Thread(target=remote.commit, args=(part, 1), daemon=True)
    committing.start()
    kind, _, _, files = coordinator.recv()
    committing.join(0.2)
    assert (kind, files) == ("commit", {file.name: b"rows"}) and committing.is_alive() and file.exists()
    coordinator.send(None)
    committing.join(20)
    assert not file.exists()
    remote._over = True
    coordinator.close()
