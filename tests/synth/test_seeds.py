"""Two seeds give two sets of rows; one seed gives one, in any directory."""

import json
import random

import pytest

from sq.core.ledger import read_rows
from sq.domains.arithmetic import poor, problem


@pytest.fixture
def questions(tmp_path):
    rng = random.Random(5)
    problems = [problem(rng) for _ in range(40)]
    rows = [{"question": one.question, "answer": str(one.answer)} for one in problems]
    rows += [{"question": poor(rng), "answer": "1"} for _ in range(20)]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


STAGES = {
    "answers": (["stage.n=2"], "response"),
    "fail_rate": (["stage.n=4"], "solver_solutions"),
    "fail_rate in steps": (["stage.n=8", "stage.step=2", "stage.width=0.5"], "solver_solutions"),
    "rewrite": (["stage.solvability=1.0"], "chosen"),
    "rewrite by success": (["stage.source=success_rate", "stage.window=20", "stage.k=4"], None),
}


@pytest.mark.parametrize("name", STAGES)
def test_another_seed_makes_other_rows_and_the_same_seed_the_same(run, questions, tmp_path, name):
    more, column = STAGES[name]
    rows = {}
    for directory, seed in (("a", 1), ("again", 1), ("b", 2)):
        settings = [f"input={questions}", f"seed={seed}", "engine.error_rate=0.5", *more]
        run(name.split()[0], *settings, to=directory)
        rows[directory] = [{k: v for k, v in row.items() if k != "run"} for row in read_rows(tmp_path / directory)]
    assert rows["a"] == rows["again"] and len(rows["a"]) >= 10
    for column in ("id", "seed"):
        assert not {row[column] for row in rows["a"]} & {row[column] for row in rows["b"]}, column
    if column is not None:
        assert [row[column] for row in rows["a"]] != [row[column] for row in rows["b"]]
