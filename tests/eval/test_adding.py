"""What docs/adding.md says of a benchmark: one YAML in conf/benchmark, and nothing of sq/."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from sq.core.config import conf_dir
from sq.core.ledger import read_rows

DOCS = Path(__file__).parents[2] / "docs" / "adding.md"


def load_engine():
    spec = importlib.util.spec_from_file_location("slow_engine", Path(__file__).with_name("slow_engine.py"))
    module = sys.modules["slow_engine"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_benchmark_is_one_yaml(random_tiny, tmp_path, monkeypatch):
    section = DOCS.read_text().partition("## A benchmark")[2].partition("\n## ")[0]
    yaml = section.partition("```yaml\n")[2].partition("```")[0]
    shutil.copytree(conf_dir(), tmp_path / "conf")
    (tmp_path / "conf/benchmark/my_bench.yaml").write_text(yaml)
    rows = [{"problem": f"How heavy is {i}?", "final": "4.1", "grade": f"Level {i % 2}"} for i in range(30)]
    (tmp_path / "my_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = load_engine()
    monkeypatch.setattr(engine, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    metrics = engine.job(random_tiny, tmp_path / "ev", "benchmark=[my_bench,arithmetic]", "limit=30").run()
    assert metrics["my_bench"]["problems"] == metrics["arithmetic"]["problems"] == 30
    assert {"accuracy_level_0", "accuracy_level_1", "dart/accuracy"} <= metrics["my_bench"].keys()
    graded = {
        (row["extracted"], row["correct"]) for row in read_rows("ev/my_bench/scores") if row["profile"] == "strict"
    }
    assert graded == {(str(n), n == 4) for n in range(5)}, "4 is within 5% of 4.1"
