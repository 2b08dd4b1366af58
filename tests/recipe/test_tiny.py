"""The paper's recipe runs here to its end: every stage of it, at count 8, the tiny model in each 7B's place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sq.core.ledger import read_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_papers_recipe_runs_to_its_end_with_the_tiny_model(tmp_path):
    words = ["scalequest-math", "--tiny", "engine=hf", "tracking=none", "parallel=2", "output_dir=out"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("forked_run.py")), "run", *words],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
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
