"""Questions from the chat prefix: what is kept, what is rejected and why, and that a second run has nothing to do."""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import forked_command
import pytest

from sq.core.count import count_noun
from sq.core.errors import ConfigError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.rows import row_id
from sq.engine.base import Completion, Result
from sq.engine.config import EngineConfig
from sq.models.load import load_tokenizer
from sq.synth.questions import question_problem, repeats, seed_of


@pytest.mark.parametrize(
    ("text", "finish", "problem"),
    [
        ("How many apples does Tom have?", "stop", None),
        ("How many apples does Tom", "length", "cut-off"),
        ("", "stop", "empty"),
        (" \n\t", "stop", "empty"),
        ("How many\x00 apples?", "stop", "unreadable"),
        ("He has 4 apples. " * 8, "stop", "repeating"),
        ("one two three four five six seven", "stop", None),
    ],
)
def test_what_is_no_complete_question_is_told(text, finish, problem):
    assert question_problem(Completion(text=text, finish_reason=finish), text) == problem


def test_a_question_that_names_its_items_often_does_not_repeat():
    text = (
        "Tom has 4 red apples. Ann has 5 red apples. Ben has 6 red apples. They put the red apples in 3 bags. "
        "How many red apples are in each bag?"
    )
    assert not repeats(text)
    assert repeats("the cat sat on the mat and " * 5)


@pytest.mark.slow
def test_the_command_makes_rows_once_and_refuses_another_config_there(random_tiny, tmp_path):
    def run(*more):
        settings = ["stage.count=40", "stage.max_tokens=24", "engine=hf", "engine.device=cpu", "tracking=none"]
        command = ["stage=questions", f"model.path={random_tiny}", *settings, "output_dir=made", *more]
        return forked_command.run("synthesize.py", command, tmp_path)

    first = run()
    assert first.returncode == 0, first.stderr
    directory = tmp_path / "made"
    rows, rejects = list(read_rows(directory)), list(read_rejects(directory))
    assert len(rows) + len(rejects) == 40 == read_manifest(directory).items
    assert {r["reason"] for r in rejects} <= {"cut-off", "empty", "repeating", "unreadable"}
    assert all(r["generator"] == "tiny" and r["seed"] >= 0 and r["prefix"] for r in rows)
    assert (
        f"questions: 40 samples in -> {count_noun(len(rows), 'row')}, {count_noun(len(rejects), 'reject')}"
        in first.stderr
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]

    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    again = run()
    assert again.returncode == 0 and {p.name: p.read_bytes() for p in directory.iterdir()} == before

    other = run("stage.temperature=0.5")
    assert other.returncode == 2
    assert "stage.temperature" in other.stderr and "Traceback" not in other.stderr


@dataclass(frozen=True, kw_only=True)
class EchoConfig(EngineConfig):
    """Writes a number made of the seed."""

    def create(self, model):
        return Echo(load_tokenizer(model))


class Echo:
    started: list[str] = []

    def __init__(self, tokenizer):
        Echo.started.append(tokenizer.name_or_path)
        self._tokenizer = tokenizer

    def generate(self, requests):
        for request in requests:
            text = f"How many apples does Tom have if he has {request.seed} apples?"
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=False))
            yield Result(key=request.key, completions=(Completion(text=text, finish_reason="stop", token_ids=ids),))

    def close(self):
        pass


def test_several_generators_have_their_shares_and_no_id_twice(job, random_tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(random_tiny, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")  # other weights, as it were
    shares = f"stage.generators={{{random_tiny}: 0.3, {other}: 0.7}}"
    synth_job = job("questions", shares, "stage.count=41", f"model.path={random_tiny}", f"output_dir={tmp_path / 'q'}")
    Echo.started.clear()
    metrics = replace(synth_job, engine=EchoConfig()).run()
    rows = list(read_rows(tmp_path / "q"))
    assert Counter(r["generator"] for r in rows) == {random_tiny.name: 12, "other": 29}
    assert len({r["id"] for r in rows}) == len({r["seed"] for r in rows}) == 41
    assert len(Echo.started) == 2 and metrics["rows/other"] == 29

    same = f"stage.generators={{{random_tiny}: 1, {random_tiny}/: 1}}"
    with pytest.raises(ConfigError, match="names the same weights twice"):
        replace(job("questions", same, f"model.path={random_tiny}"), engine=EchoConfig()).run()


@dataclass(frozen=True, kw_only=True)
class ForgetfulConfig(EchoConfig):
    """Takes four bits of a seed."""

    seed_bits: ClassVar[int] = 4

    def create(self, model):
        echo = Echo(load_tokenizer(model))
        answer = echo.generate
        echo.generate = lambda requests: answer(replace(r, seed=r.seed % 16) for r in requests)
        return echo


def test_questions_that_equal_seeds_give_twice_are_expected_and_counted(job, random_tiny, tmp_path, caplog):
    synth_job = job("questions", "stage.count=40", f"model.path={random_tiny}", f"output_dir={tmp_path / 'q'}")
    with caplog.at_level("INFO"):
        metrics = replace(synth_job, engine=ForgetfulConfig()).run()
    different = len({row["question"] for row in read_rows(tmp_path / "q")})
    assert different <= 16 and metrics["repeated"] == 40 - different
    assert metrics["repeated_by_seed"] == 40 * 39 / 2 / 16
    repeated = f"{40 - different} the same as an earlier one, 48.8 expected because the engine takes seeds for equal"
    assert repeated in caplog.text
    whole = replace(synth_job, engine=EchoConfig(), output_dir=str(tmp_path / "w")).run()
    assert whole["repeated"] == 0 and whole["repeated_by_seed"] < 1e-15


def test_seeds_of_a_million_rows_differ_and_are_what_engines_take():
    seeds = {seed_of(row_id("question", index=index)) for index in range(200_000)}
    assert len(seeds) == 200_000, "of 31 bits nine would be there twice"
    assert 0 <= min(seeds) and 2**62 < max(seeds) < 2**63


def test_another_seed_asks_other_questions_and_the_same_seed_the_same(job, random_tiny, tmp_path):
    rows = {}
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        settings = [f"model.path={random_tiny}", "stage.count=50", f"seed={seed}", f"output_dir={tmp_path / name}"]
        replace(job("questions", *settings), engine=EchoConfig()).run()
        rows[name] = list(read_rows(tmp_path / name))
    for column in ("id", "seed", "question"):
        a, again, b = ([row[column] for row in rows[name]] for name in ("a", "again", "b"))
        assert a == again and len(set(a)) == 50 and not set(a) & set(b), column


@pytest.mark.parametrize(
    ("domain", "judge"), [("arithmetic", "engine=oracle "), ("programs", "engine=oracle "), ("math", "")]
)
def test_the_next_command_takes_the_oracle_for_a_judge_where_the_domain_has_one(job, domain, judge):
    synth_job = job("questions", "engine=hf", f"domain={domain}")
    assert synth_job.stage.spec(synth_job).then == f"synthesize stage=filter {judge}input"
