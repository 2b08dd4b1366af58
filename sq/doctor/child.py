"""Run a piece of Python in a process of its own and hear what it says, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent


class ChildResult(NamedTuple):
    """What a child printed, how it ended, and its last words where it did not end well."""

    lines: list[str]
    code: int
    words: str


def run(code: str, *arguments: str, timeout: float) -> ChildResult:
    """Run `code`; a child that takes too long is stopped, with all that it started."""
    quiet = {"GOMP_SPINCOUNT": "1000", "TOKENIZERS_PARALLELISM": "false", "TF_CPP_MIN_LOG_LEVEL": "3",
             "PYTHONWARNINGS": "ignore", "VLLM_LOGGING_LEVEL": "ERROR", "MLFLOW_DISABLE_TELEMETRY": "true",
             "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # fmt: skip
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(ROOT)]))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True, env={**quiet, **os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
        code_, words = process.returncode, _last(err)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        code_, words = -9, f"no answer within {timeout:.0f} s"
    if code_ < 0 and code_ != -9:
        words = f"the process died of signal {-code_}"
    return ChildResult(out.splitlines(), code_, words)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
