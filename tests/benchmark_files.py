"""Benchmarks as an evaluation would compose them, and files of problems for them."""

import json

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.eval.benchmarks import BenchmarkConfig


def benchmark(name, *overrides) -> BenchmarkConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("evaluate", overrides=[f"benchmark=[{name}]", *(f"++benchmark.{name}.{o}" for o in overrides)])
    return build(node.benchmark[name], BenchmarkConfig)


def written(tmp_path, rows, name="problems.jsonl"):
    path = tmp_path / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path
