"""On the arithmetic domain each stage improves what it is to improve, by `train.py` alone (minutes: small sizes)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sq.core.errors import ConfigError
from sq.models.load import ModelConfig, locate

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_stage_improves_what_it_is_to_improve(tmp_path):
    base = os.environ.get("SQ_TEST_BASE", "package:tiny-base")
    try:
        locate(ModelConfig(name="base", path=base))
    except ConfigError:
        pytest.skip(f"{base} is not here; SQ_TEST_BASE names another base")
    sizes = ["--seeds", "1500", "--pairs", "600", "--questions", "300", "--problems", "100"]
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "effects.py"),
        "--model",
        base,
        "--work",
        str(tmp_path),
        *sizes,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "effects.json").read_text())
    assert told["+QFT"]["solvable"] > told["raw"]["solvable"] + 0.1
    # Solvable and harder at once: the steps of a sampled question, an unsolvable one counted as none.
    assert told["+QPO"]["steps_each"] > told["+QFT"]["steps_each"] > told["raw"]["steps_each"]
    assert told["difficulty"]["val/spearman"] >= 0.8
    assert told["+SFT, solved"] > told["base, solved"] + 0.05
