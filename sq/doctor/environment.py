"""What is around the project: disk, environment variables, tokens (there or not, never which), the MLflow store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from sq.doctor.finding import Finding, missing, ok, problem

SQLITE = "sqlite:///outputs/mlflow.db"
PRINTED = (
    "GOMP_SPINCOUNT", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "OMP_NUM_THREADS",
    "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "RAY_ADDRESS",
)  # fmt: skip
"""Variables whose values are no secret and explain much."""


def findings() -> list[Finding]:
    """All of it."""
    printed = [f"{name}={os.environ[name]}" for name in PRINTED if os.environ.get(name)]
    variables = ok("environment", ", ".join(printed) or "nothing of note is set")
    return [*_disk(), variables, _token(), _endpoint(), _tracking()]


def _home() -> Path:
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()


def _disk() -> list[Finding]:
    findings = []
    for name, path in (("disk here", Path.cwd()), ("disk of models", _home())):
        place = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(place).free / 2**30
        text = f"{free:,.0f} GiB free ({path})"
        if free < 1:
            findings.append(problem(name, text, "make room: outputs/ and models go there"))
        else:
            findings.append(ok(name, text + ("; a 7B model takes 15" if free < 40 else "")))
    if not os.access(Path.cwd(), os.W_OK):
        findings.append(problem("directory", f"{Path.cwd()} cannot be written", "cd elsewhere"))
    return findings


def _token() -> Finding:
    """Whether a Hugging Face token is there; its value is not read."""
    variable = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)), None)
    if variable or Path(os.environ.get("HF_TOKEN_PATH", _home() / "token")).is_file():
        return ok("hugging face token", f"there ({variable or 'stored by hf auth login'})")
    return missing("hugging face token", "none: no gated models, no sq push", "hf auth login")


def _endpoint() -> Finding:
    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if not key and not base:
        return missing("engine=openai", "$OPENAI_API_KEY and $OPENAI_BASE_URL are not set")
    where = "an address of its own" if base else "the public address"
    return ok("engine=openai", f"{'key there' if key else 'no key'}, {where}")


def _tracking() -> Finding:
    name, uri = "mlflow store", os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return _server(name, uri)
    path = Path((uri or SQLITE).removeprefix("sqlite:///")).expanduser()
    if not path.exists():
        return ok(name, f"{path}, made by the first run")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            (runs,) = database.execute("select count(*) from runs").fetchone()
    except sqlite3.Error as error:
        refill = f"sq track outputs --uri sqlite:///{path}"
        fix = f"move it away ({refill} fills a new one), or mlflow db upgrade sqlite:///{path}"
        return problem(name, f"{path} cannot be read: {error}", fix)
    if not os.access(path, os.W_OK):
        return problem(name, f"{path} cannot be written", f"chmod u+w {path}")
    return ok(name, f"{path}, {runs:,} runs; mlflow ui --backend-store-uri sqlite:///{path}")


def _server(name: str, uri: str) -> Finding:
    address = uri.rpartition("@")[2]
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as reply:
            return ok(name, f"{address} answers ({reply.status})")
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        fix = "start it, or unset MLFLOW_TRACKING_URI; sq track outputs sends what runs have kept"
        return problem(name, f"{address} does not answer: {why}", fix)
