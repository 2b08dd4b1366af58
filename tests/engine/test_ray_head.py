"""The head of a Ray cluster that stops to answer: said, and given up, where Ray itself would end the process."""

import socket
import time

import pytest

from sq.core.errors import EngineError
from sq.engine.ray import HeadWatch


def test_a_head_that_answers_is_there_and_one_that_does_not_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr("sq.engine.ray.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("sq.engine.ray.GONE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watch = HeadWatch(address)
        for _ in range(5):
            server.accept()[0].close()
        watch.check()
        assert not caplog.text
    deadline = time.monotonic() + 20
    while not watch.is_gone and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(EngineError, match=f"head of the Ray cluster, {address}, has not answered .*same command"):
        watch.check()
    watch.close()
    assert "does not answer" in caplog.text and "asked again in" in caplog.text
