"""The whole chain under `kill -9`: each stage, killed again and again in a child process, ends as if it had not been.

The arithmetic oracle stands in the models' places, slowed down; a writer that answers out of order makes the questions.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import dataclass, replace

import pytest

from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.domains.arithmetic import poor, problem
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Result
from sq.engine.config import EngineConfig
from sq.models.load import load_tokenizer

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class WriterConfig(EngineConfig):
    """Writes questions of mixed quality from the seed alone."""

    def create(self, model):
        return Writer(load_tokenizer(model))


class Writer:
    fingerprint = "writer"

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def generate(self, requests):
        block = []
        for request in requests:
            time.sleep(0.001)
            block.append(request)
            if len(block) == 7:
                yield from map(self._write, reversed(block))
                block.clear()
        yield from map(self._write, reversed(block))

    def _write(self, request):
        rng = random.Random(request.seed)
        text = poor(rng) if rng.random() < 0.4 else problem(rng).question
        ids = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        finish = "length" if rng.random() < 0.05 else "stop"
        return Result(
            key=request.key, completions=(Completion(text=text, finish_reason=finish, token_ids=ids, tokens=9),)
        )

    def close(self):
        pass


def until_done(job, rng) -> int:
    """Run the job in a child that is killed after a while, longer each time, until one comes to its end; the kills."""
    kills, patience = 0, 0.02
    while True:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                job.run()
                os._exit(0)
            finally:
                os._exit(1)
        deadline = time.monotonic() + rng.uniform(0.5, 1.5) * patience
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
                return kills
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        patience *= 1.25


def content(directory):
    """What a stage holds, but for the ids of the runs that made it."""

    def plain(row):
        return {k: plain(v) if isinstance(v, dict) else v for k, v in row.items() if k != "run"}

    rejects = [{**r, "row": plain(json.loads(r["row"]))} for r in read_rejects(directory)]
    return [plain(r) for r in read_rows(directory)], rejects


def test_every_stage_survives_kills_with_the_result_of_an_uninterrupted_run(job, tmp_path, monkeypatch, random_tiny):
    answer, score = OracleEngine._answer, OracleEngine._score
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: time.sleep(0.002) or answer(self, r))
    monkeypatch.setattr(OracleEngine, "_score", lambda self, *a: time.sleep(0.0005) or score(self, *a))
    rng = random.Random(11)
    load_tokenizer(job("questions", f"model.path={random_tiny}").model)  # imported before there are children
    errs = "engine.error_rate=0.2"
    stages = {
        "questions": [f"model.path={random_tiny}", "stage.count=150"],
        "filter": ["input=questions", errs, "filters=[format,language,duplicates,solvability]"],
        "answers": ["input=filter", errs],
        "select": ["input=answers", errs],
        "fail_rate": ["limit=60", errs, "stage.width=0.5"],
        "rewrite": ["input=questions", errs, "stage.judge_prompt=judge_solvability"],
    }
    kills = {}
    for name, settings in stages.items():
        for kind in ("calm", "killed"):
            where = tmp_path / kind
            given = [s.replace("input=", f"input={where}/") for s in settings]
            if name == "filter":
                given.append(f"stage.scores={where}/scores")
            one = job(name, *given, f"output_dir={where / name}")
            one = replace(one, engine=WriterConfig()) if name == "questions" else one
            if kind == "calm":
                one.run()
            else:
                kills[name] = until_done(one, rng)
        assert content(tmp_path / "killed" / name) == content(tmp_path / "calm" / name), name
        counts = read_manifest(tmp_path / "killed" / name)
        assert counts.finished and counts.rows > 0 and counts.rejects + counts.rows >= counts.items
    assert sum(kills.values()) >= 20, kills
    assert min(kills.values()) >= 1, kills


def test_the_funnel_reconciles_from_questions_to_examples(job, tmp_path, random_tiny):
    """in = out + rejects at every stage, and each stage's in is the stage before's out."""
    settings = {
        "questions": [f"model.path={random_tiny}", "stage.count=80"],
        "filter": [f"input={tmp_path}/questions", f"stage.scores={tmp_path}/scores", "engine.error_rate=0.1"],
        "answers": [f"input={tmp_path}/filter", "engine.error_rate=0.3"],
        "select": [f"input={tmp_path}/answers", "engine.error_rate=0.1"],
    }
    metrics = {}
    for name, given in settings.items():
        one = job(name, *given, f"output_dir={tmp_path / name}")
        metrics[name] = (replace(one, engine=WriterConfig()) if name == "questions" else one).run()
        reasons = sum(v for k, v in metrics[name].items() if k.startswith("rejects/"))
        assert reasons == metrics[name]["rejects"]
    questions, filtered, answers, select = (metrics[name] for name in settings)
    assert questions["items"] == 80 == questions["rows"] + questions["rejects"]
    assert filtered["items"] == questions["rows"] == filtered["rows"] + filtered["rejects"]
    assert answers["items"] == filtered["rows"] and answers["rows"] == 5 * answers["items"]
    assert select["items"] == answers["items"] and select["rows"] + select["rejects"] == answers["rows"]
    assert select["correct/chosen"] > select["correct/random"]
