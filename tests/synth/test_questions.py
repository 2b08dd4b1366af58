"""Questions from the chat prefix: what is kept, what is rejected and why, and that a second run has nothing to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from sq.engine.base import Completion
from sq.synth.questions import question_problem, repeats, seed_of

ROOT = Path(__file__).parent.parent.parent


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


def test_seeds_are_of_the_key_and_fit_every_engine():
    seeds = {seed_of(f"{i:032x}"[::-1]) for i in range(1000)}
    assert len(seeds) > 990 and all(0 <= s < 2**31 for s in seeds)


@pytest.mark.vllm
@pytest.mark.slow
def test_the_command_makes_rows_once_and_refuses_another_config_there(random_tiny, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
    from sq.core.ledger import read_manifest, read_rejects, read_rows

    def run(*more):
        settings = ["stage.count=40", "stage.max_tokens=24", "engine.max_model_len=64", "tracking=none"]
        command = [sys.executable, str(ROOT / "synthesize.py"), "stage=questions", f"model.path={random_tiny}"]
        command += [*settings, "output_dir=made", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    first = run()
    assert first.returncode == 0, first.stderr
    made = tmp_path / "made"
    rows, rejects = list(read_rows(made)), list(read_rejects(made))
    assert len(rows) + len(rejects) == 40 == read_manifest(made).items
    assert {r["reason"] for r in rejects} <= {"cut-off", "empty", "repeating", "unreadable"}
    assert all(r["generator"] == "tiny" and r["seed"] >= 0 and r["prefix"] for r in rows)
    assert f"questions: 40 samples in -> {len(rows)} rows, {len(rejects)} rejects" in first.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]

    before = {p.name: p.read_bytes() for p in made.iterdir()}
    again = run()
    assert again.returncode == 0 and {p.name: p.read_bytes() for p in made.iterdir()} == before

    other = run("stage.temperature=0.5")
    assert other.returncode == 1
    assert "stage.temperature" in other.stderr and "Traceback" not in other.stderr
