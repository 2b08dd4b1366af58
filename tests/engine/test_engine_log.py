"""Engines log to a file, which errors name with its last error, and in which no secret is."""

import logging
import os
import subprocess
import sys
from logging.config import BaseConfigurator

import pytest

from sq.engine.engine_log import FILE, STREAM, begin, log_to, take_over, where_to_look
from sq.engine.vllm_environment import environment

CHILD = "from sq.engine.engine_log import STREAM; STREAM.write('(Worker_TP1 pid=7) ERROR 11-30 [x.py:3] {}\\n')"


def child_says(text):
    """As the processes of vLLM's tensor parallelism do."""
    subprocess.run([sys.executable, "-c", CHILD.format(text)], check=True)


def test_an_error_names_the_file_and_what_another_process_said_in_it(tmp_path):
    file = tmp_path / "engine.log"
    failed = RuntimeError("Engine core initialization failed. See root cause above")
    with log_to(file):
        begin("vLLM with model old")
        STREAM.write("ERROR 11-30 [x.py:3] ValueError: of an earlier engine\n")
        begin("vLLM with model new")
        assert where_to_look(failed) == f". Its log is {file}"
        child_says("torch.OutOfMemoryError: CUDA out of memory")
        child_says("shutting down")
        expected = f". Its log is {file}. The last error there: torch.OutOfMemoryError: CUDA out of memory"
        assert where_to_look(failed) == expected
    assert FILE not in os.environ and where_to_look(failed) == ""


def test_the_log_has_no_secrets_and_the_terminal_no_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop0123")
    library = logging.getLogger("some_library")
    take_over("some_library")
    with log_to(tmp_path / "engine.log"):
        library.warning("args: {'hf_token': 'hf_abcdefghijklmnop0123', 'max_tokens': 5}")
    assert capsys.readouterr().err == ""
    library.warning("after it")
    assert "after it" in capsys.readouterr().err
    (line,) = (tmp_path / "engine.log").read_text().splitlines()
    assert "hf_abc" not in line and "'max_tokens': 5" in line and line.startswith("WARNING")


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path):
    with log_to(tmp_path / "gone" / "engine.log"):
        STREAM.write("a line\n")
        assert where_to_look(ValueError("x")) == ""


@pytest.mark.parametrize("given", [True, False])
def test_vllm_is_told_before_it_is_imported_where_to_log_and_how_much(tmp_path, monkeypatch, capsys, given):
    monkeypatch.setattr(os, "environ", {FILE: str(tmp_path / "engine.log")} if given else {})
    environment(1)
    assert os.environ["VLLM_LOGGING_LEVEL"] == ("INFO" if given else "ERROR")
    logging.getLogger("vllm.importing").warning("a warning")
    assert (tmp_path / "engine.log").exists() == given and not capsys.readouterr().err
    assert BaseConfigurator({}).convert(os.environ["VLLM_LOGGING_STREAM"]) is STREAM
