"""What is around the project: disk, environment variables, tokens (there or not, never which), the MLflow store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from sq.doctor.finding import MISSING, PROBLEM, Finding

SQLITE = "sqlite:///outputs/mlflow.db"
TOLD = (
    "GOMP_SPINCOUNT", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "OMP_NUM_THREADS",
    "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "RAY_ADDRESS",
)  # fmt: skip
"""Variables whose values are no secret and explain much."""


def findings() -> list[Finding]:
    """All of it."""
    return [*_disk(), *_environment(), _token(), _endpoint(), _tracking()]


def _disk() -> list[Finding]:
    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    found = []
    for name, path in (("disk here", Path.cwd()), ("disk of models", cache)):
        place = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(place).free / 2**30
        text = f"{free:,.0f} GiB free ({path})"
        if free < 1:
            found.append(Finding(level=PROBLEM, name=name, text=text, fix="make room: outputs/ and models go there"))
        else:
            found.append(Finding(name=name, text=text + ("; a 7B model takes 15" if free < 40 else "")))
    if not os.access(Path.cwd(), os.W_OK):
        found.append(
            Finding(level=PROBLEM, name="directory", text=f"{Path.cwd()} cannot be written", fix="cd elsewhere")
        )
    return found


def _environment() -> list[Finding]:
    there = [f"{name}={os.environ[name]}" for name in TOLD if os.environ.get(name)]
    return [Finding(name="environment", text=", ".join(there) or "nothing of note is set")]


def _token() -> Finding:
    """Whether a Hugging Face token is there; its value is not looked at."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    named = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)), None)
    stored = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    if named or stored.is_file():
        return Finding(name="hugging face token", text=f"there ({named or 'stored by hf auth login'})")
    return Finding(
        level=MISSING, name="hugging face token", text="none: no gated models, no sq push", fix="hf auth login"
    )


def _endpoint() -> Finding:
    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if key or base:
        where = "an address of its own" if base else "the public address"
        return Finding(name="engine=openai", text=f"{'key there' if key else 'no key'}, {where}")
    return Finding(level=MISSING, name="engine=openai", text="$OPENAI_API_KEY and $OPENAI_BASE_URL are not set")


def _tracking() -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    path = Path((uri or SQLITE).removeprefix("sqlite:///")).expanduser()
    if not path.exists():
        return Finding(name="mlflow store", text=f"{path}, made by the first run")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            (runs,) = database.execute("select count(*) from runs").fetchone()
    except sqlite3.Error as error:
        return Finding(
            level=PROBLEM, name="mlflow store", text=f"{path} cannot be read: {error}",
            fix=f"move it away (sq track outputs --uri sqlite:///{path} fills a new one), or mlflow db upgrade sqlite:///{path}",
        )  # fmt: skip
    if not os.access(path, os.W_OK):
        return Finding(level=PROBLEM, name="mlflow store", text=f"{path} cannot be written", fix=f"chmod u+w {path}")
    return Finding(name="mlflow store", text=f"{path}, {runs:,} runs; mlflow ui --backend-store-uri sqlite:///{path}")


def _server(uri: str) -> Finding:
    shown = uri.rpartition("@")[2]
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as reply:
            return Finding(name="mlflow store", text=f"{shown} answers ({reply.status})")
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding(
            level=PROBLEM, name="mlflow store", text=f"{shown} does not answer: {why}",
            fix="start it, or unset MLFLOW_TRACKING_URI; sq track outputs sends what runs have kept",
        )  # fmt: skip
