"""The paper's recipe runs here to its end: every stage of it, at count 8, the tiny model in each 7B's place."""

import json
from pathlib import Path

import pytest
from forked_command import run

from sq.core.ledger import read_manifest


@pytest.mark.slow
def test_the_papers_recipe_runs_to_its_end_with_the_tiny_model(tmp_path):
    words = ["scalequest-math", "--tiny", "engine=hf", "tracking=none", "parallel=2", "output_dir=out"]
    done = run(Path(__file__).with_name("forked_run.py"), ["run", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/recipe.json").read_text())
    assert record["status"] == "done" and len(record["stages"]) == 25
    assert {s["stage"] for s in record["stages"] if s["stage"]} == {
        "qft", "questions", "rewrite", "qpo", "fail_rate", "difficulty", "reward", "filter", "answers", "select", "sft"
    }  # fmt: skip
    for name in ("deepseek", "qwen"):
        assert read_manifest(tmp_path / f"out/select-{name}").rows > 0
    assert "arithmetic" in next(s["last"] for s in record["stages"] if s["script"] == "evaluate")
    assert (tmp_path / "out/report/index.html").is_file() and (tmp_path / "out/bill.json").is_file()
