"""The whole chain on real vLLM with the tiny model, each stage ended by `kill -9` time and again (`kills.py`)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
ROOT = Path(__file__).parents[2]


def test_the_chain_on_vllm_survives_kills_with_the_results_of_a_calm_run(tmp_path):
    # A start of vLLM takes longer than all else; that labels and rewrites survive is seen with the oracle.
    stages = ("questions", "pairs", "judged", "clean", "answers", "majority", "best")
    few = ["--count", "16", "--growth", "1.25", "--stages", ",".join(stages)]
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *few, "--where", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    logs = "".join(f"{log.name}: {log.read_text()[-2000:]}\n" for log in tmp_path.glob("*/*.log"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{logs}"
    match = re.search(r"(\d+) kills over (\d+) stages: every result is that of a calm run", done.stdout)
    assert match and int(match[1]) >= 8 and int(match[2]) == len(stages), done.stdout
    kills = dict(re.findall(r"^(\w+) +(\d+) ", done.stdout, re.MULTILINE))
    assert all(int(kills[stage]) >= 1 for stage in ("questions", "pairs", "judged", "answers")), done.stdout
