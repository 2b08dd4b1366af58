"""The determinism report: an exact engine agrees with itself, one that depends on its batch is found out."""

import subprocess
import sys

import pytest

from sq.core.errors import ConfigError
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Result
from sq.models.load import Dtype
from sq.synth.determinism import _in_format, determinism


def shares(job, *dtypes, **more):
    return {(a.dtype, a.way): (a.same, a.count) for a in determinism(job, dtypes, **more)}


def test_an_engine_that_goes_by_the_seed_alone_is_the_same_in_every_way(job):
    agreements = shares(job("answers", "engine.error_rate=0.5"), "fp32", "bf16", count=20)
    assert len(agreements) == 10 and {d for d, _ in agreements} == {"fp32", "bf16"}
    assert all(same == count for same, count in agreements.values())


def test_an_engine_that_depends_on_its_batch_is_found_out(job, monkeypatch):
    def place(self, requests):
        for i, request in enumerate(requests):
            yield Result(key=request.key, completions=(Completion(text=str(i), finish_reason="stop"),))

    monkeypatch.setattr(OracleEngine, "generate", place)
    agreements = {way: same for (_, way), (same, _) in shares(job("answers"), "fp32", count=20).items()}
    assert agreements["again, the same way"] == 20 and agreements["in reversed order"] == 0
    assert agreements["in batches of 8"] == 8 and agreements["one at a time"] == 1


def test_a_format_asked_for_is_the_one_the_engine_computes_in(job):
    hf = job("answers", "engine=hf", "model=smollm2-135m")
    asked = _in_format(hf, Dtype.BF16)
    assert (asked.engine.dtype, asked.model.dtype) == ("bfloat16", Dtype.BF16)


def test_without_a_format_the_jobs_own_is_asked_about(job):
    agreements = shares(job("answers"), count=4)
    assert {d for d, _ in agreements} == {"own"} and all(same == count for same, count in agreements.values())


def test_a_format_that_is_none_is_told(job):
    with pytest.raises(ConfigError, match="dtype='fp31' is not one of .*did you mean 'fp32'"):
        shares(job("answers"), "fp31")


def test_the_command():
    command = [sys.executable, "-m", "sq.cli", "determinism", "engine=oracle", "--count", "6", "--dtype", "fp32"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 of 6 (100.0%)") == 5
