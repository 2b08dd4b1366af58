"""Run a piece of Python in a process of its own and keep what it prints, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
QUIET = {
    "GOMP_SPINCOUNT": "1000", "TOKENIZERS_PARALLELISM": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore", "VLLM_LOGGING_LEVEL": "ERROR", "MLFLOW_DISABLE_TELEMETRY": "true",
    "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip


class ChildResult(NamedTuple):
    """What a child printed, and why it did not end well."""

    lines: list[str]
    error: str


def run(code: str, *arguments: str, timeout: float) -> ChildResult:
    """Run `code`; a child that takes too long is stopped, with all that it started."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(ROOT)]))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True, env={**QUIET, **os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, _ = process.communicate()
        return ChildResult(out.splitlines(), f"no answer within {timeout:.0f} s")
    if process.returncode < 0:
        return ChildResult(out.splitlines(), f"the process died of signal {-process.returncode}")
    last = [line.strip() for line in err.splitlines() if line.strip()][-1:]
    return ChildResult(out.splitlines(), last[0][:300] if last else f"exit code {process.returncode}")
