"""The progress of a stage: what it says, its file for `sq status`, and a line a minute where there is no terminal."""

import io
import logging
import sys
import threading
import time

import pytest

from sq.core.progress import NAME, Progress, Snapshot, read_progress
from sq.core.provenance import process_name


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)` moves time on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"done": 7}, "7 rows"),
        ({"done": 1200, "total": 10_000, "rate": 35.2}, "1,200 of 10,000 rows (12%), 35.2/s, 4 min 10 s left"),
        ({"done": 2, "total": 4, "rate": 0.05}, "2 of 4 rows (50%), 3.0/min, 40 s left"),
        ({"done": 12, "total": 10, "rate": 1.0}, "12 of 10 rows (100%), 1.0/s, 0 s left"),
        ({"done": 3, "rejects": {"a": 1, "b": 2}, "note": "loss 1"}, "3 rows, 3 rejected, loss 1"),
    ],
)
def test_a_snapshot_in_words(values, text):
    assert str(Snapshot(stage="x", unit="row", **values)) == text


def test_the_rate_begins_with_the_first_result_not_with_the_engines_start(clock, tmp_path):
    progress = Progress(tmp_path, "answers", "question", total=100, done=40)
    clock(300)
    progress.update()
    clock(10)
    progress.update(19, rejects=["empty"])
    shown = progress.snapshot()
    assert (shown.done, shown.rate, shown.seconds_left, shown.rejects) == (60, 2.0, 20.0, {"empty": 1})


def test_the_file_is_there_while_it_runs_and_after_a_failure(clock, tmp_path):
    with pytest.raises(RuntimeError), Progress(tmp_path, "answers", "question", total=10) as progress:
        assert not (tmp_path / NAME).exists(), "nothing shows before a result"
        progress.update(3)
        shown = read_progress(tmp_path)
        assert shown is not None and shown.done == 3 and shown.process == process_name() and shown.is_running
        progress.update(2)
        raise RuntimeError
    assert read_progress(tmp_path).done == 5
    with Progress(tmp_path, "answers", "question") as progress:
        progress.update()
    assert read_progress(tmp_path) is None
    (tmp_path / NAME).write_text("{}")
    assert read_progress(tmp_path) is None


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path):
    with Progress(tmp_path / "gone", "answers", "question") as progress:
        progress.update()


def test_without_a_terminal_a_line_a_minute_with_one_a_line_that_is_drawn_again(clock, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "sq")
    with Progress(tmp_path, "answers", "question", total=200) as progress:
        for _ in range(130):
            clock(1)
            progress.update()
    assert [r.getMessage() for r in caplog.records] == [
        "answers: 60 of 200 questions (30%), 1.0/s, 2 min 20 s left",
        "answers: 120 of 200 questions (60%), 1.0/s, 80 s left",
    ]
    caplog.clear()
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(tmp_path, "answers", "question", total=200) as progress:
        for _ in range(130):
            clock(1)
            progress.update()
    assert not caplog.records
    assert terminal.getvalue().count("\r") == 131 and terminal.getvalue().endswith("1.0/s, 70 s left\n")


def test_the_line_on_a_terminal_is_drawn_again_while_nothing_arrives(tmp_path, monkeypatch):
    monkeypatch.setattr("sq.core.progress.TICK_SECONDS", 0.01)
    monkeypatch.setattr("sq.core.progress.DRAW_SECONDS", 0.0)
    drawn = threading.Event()

    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def flush(self):
            if self.getvalue().count("\r") > 3:
                drawn.set()

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(tmp_path, "filter", "question", total=100) as progress:
        assert not drawn.wait(0.1), "nothing shows before a result"
        progress.update()
        assert drawn.wait(10)
    assert terminal.getvalue().endswith("\n") and terminal.getvalue().count("\n") == 1


def test_a_line_comes_also_while_nothing_arrives(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("sq.core.progress.LINE_SECONDS", 0.01)
    monkeypatch.setattr("sq.core.progress.TICK_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "sq")
    asked = threading.Event()

    def done():
        asked.set()
        return 40

    with Progress(tmp_path, "filter", "question", total=100, done=done) as progress:
        assert asked.wait(10)
        thread = next(t for t in threading.enumerate() if t.name == "progress of filter")
        progress.close()
        thread.join(10)
    assert not thread.is_alive()
    assert caplog.records[0].getMessage() == "filter: 40 of 100 questions (40%)"
