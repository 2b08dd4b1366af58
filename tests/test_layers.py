"""Import directions: which package may import which, and the one place of each library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def found_by_ruff(path: str, code: str) -> str:
    command = [str(BIN / "ruff"), "check", "--select", "TID", "--no-cache", "--stdin-filename", path, "-"]
    return subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("code", "home"),
    [
        ("import mlflow\n", "sq/core/tracking_mlflow.py"),
        ("from vllm import LLM\n", "sq/engine/vllm.py"),
        ("import ray.data\n", "sq/engine/ray.py"),
        ("from transformers import AutoModelForCausalLM\n", "sq/models/load.py"),
        ("import transformers\ntransformers.AutoTokenizer.from_pretrained('x')\n", "sq/models/load.py"),
    ],
)
def test_a_library_with_one_home_is_refused_elsewhere(code: str, home: str) -> None:
    assert "TID251" not in found_by_ruff(home, code)
    for elsewhere in ("sq/synth/questions.py", "sq/train/qft.py", "train.py"):
        refused = found_by_ruff(elsewhere, code)
        assert "TID251" in refused and home.removesuffix(".py") in refused, f"{elsewhere}: {refused}"


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("sq/core/planted.py", "sq.engine.base"),
        ("sq/synth/planted.py", "sq.train"),
        ("sq/models/planted.py", "sq.data"),
    ],
)
def test_a_dependency_that_points_back_is_found(tmp_path: Path, module: str, imported: str) -> None:
    shutil.copytree(
        ROOT / "sq", tmp_path / "sq", ignore=lambda _, names: [n for n in names if "." in n and n[-3:] != ".py"]
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).write_text(f"import {imported}\n")
    done = subprocess.run([str(BIN / "lint-imports"), "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{module[:-3].replace('/', '.')} -> {imported}" in done.stdout
