"""Stages as forks of a process that has imported what they need and touched no device: imports cost once a recipe.

The server (`preload_server`) is started beside the first stage (Linux only). Where a fork might differ from its
command, there is none, and the command is started.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

from sq.engine.vllm import VLLMConfig
from sq.recipe.devices import Devices, engines_here
from sq.recipe.load import Recipe
from sq.recipe.stages import Stage
from sq.train.config import TrainJob

COMMON = ("sq.core.entry", "torch", "transformers.models.llama.modeling_llama")
BY_SCRIPT = {
    "train": ("sq.train.fit", "sq.train.checkpoints", "lightning.pytorch"),
    "synthesize": ("sq.synth.stage", "sq.engine.hf", "sq.engine.hf_decode"),
    "evaluate": ("sq.eval.run", "sq.engine.hf", "sq.engine.hf_decode"),
}
OF_TRACKING = ("sq.core.tracking_mlflow:quiet", "mlflow")
"""MODULE:FUNCTION is called: it sets what the next modules read in the environment when they are imported."""
OF_VLLM = ("sq.engine.vllm_environment:preload", "sq.engine.vllm", "vllm.entrypoints.llm")
DEVICES = "CUDA_VISIBLE_DEVICES"
"""The one variable that may differ between stages: torch and CUDA read it when a device is first asked for."""
LEAST = 3
"""Fewer forks save less than the server's imports cost."""
_ARROW = "JE_ARROW_MALLOC_CONF"
_SUBREAPER = 36  # of prctl: orphans of our children become our children


def modules_of(scripts: Iterable[str], *, tracked: bool) -> list[str]:
    """What stages of these scripts import, but for vLLM."""
    own = (name for script in sorted(set(scripts)) for name in BY_SCRIPT[script])
    return list(dict.fromkeys([*COMMON, *own, *(OF_TRACKING if tracked else ())]))


def open_preload(
    recipe: Recipe, stages: Sequence[Stage], jobs: Mapping[str, Any], devices: Devices, environment: Mapping[str, str]
) -> Preload | None:
    """Begin to import what these stages need; none where none of them may be a fork, or none is to be."""
    scripts = {stage.name: stage.script for stage in stages}
    forks = forks_of(stages, jobs, gpus=bool(devices.gpus)) if recipe.config.preload else {}
    if len(forks) < LEAST or sys.platform != "linux":
        return None
    tracked = recipe.config.tracking.enabled and any(jobs[name].tracking.enabled for name in forks)
    modules = modules_of((scripts[name] for name in forks), tracked=tracked)
    with suppress(OSError):  # no memory, say: the stages are their commands
        return Preload(modules, {**os.environ, **environment}, forks)
    return None


def forks_of(stages: Iterable[Stage], jobs: Mapping[str, Any], *, gpus: bool) -> dict[str, bool]:
    """The stages that may be forks, and whether vLLM is in their own process.

    Without weights in it a stage is cheaper as its command. On a GPU vLLM's import may leave what is no use in a fork.
    """
    forks = {}
    for stage in stages:
        job = jobs[stage.name]
        engines = engines_here(job)
        vllm = any(isinstance(engine, VLLMConfig) for engine in engines)
        if not stage.launch and not (vllm and gpus):
            if isinstance(job, TrainJob) or any(engine.loads_weights for engine in engines):
                forks[stage.name] = vllm
    return forks


class Preload:
    """The server, as `sq run` has it; where stages have vLLM in them, beside it a fork that has imported that, too."""

    def __init__(
        self,
        modules: Sequence[str],
        environment: Mapping[str, str],
        forks: Mapping[str, bool],
        vllm: Sequence[str] = OF_VLLM,
    ) -> None:
        """Start it.

        Args:
            modules: what it imports.
            environment: of the stages.
            forks: the stages that may be forks, and whether vLLM is in them.
            vllm: what is imported for those beside `modules`.
        """
        self._environment, self._forks = dict(environment), forks
        pairs = [socket.socketpair() for _ in range(1 + any(forks.values()))]
        self._connections = [own for own, _ in pairs]
        self._ready = [False] * len(pairs)
        files = [theirs.fileno() for _, theirs in pairs]
        order = json.dumps([os.getpid(), files, list(modules), list(vllm)])
        arrow = {_ARROW: "background_thread:false", **environment}  # the one thread that an import would leave
        self._server = subprocess.Popen(
            [sys.executable, "-m", "sq.recipe.preload_server", order], env=arrow, pass_fds=files, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _, theirs in pairs:
            theirs.close()

    def start(self, stage: str, words: Sequence[str], environment: Mapping[str, str], log: Path) -> int | None:
        """Fork a stage; its process id, or none where its command is to be started."""
        differ = {name for name, _ in set(environment.items()) ^ set(self._environment.items())}
        if differ - {DEVICES} or not self.is_ready(stage):
            return None
        with suppress(OSError), _adopting():
            order = [list(words), dict(environment), os.getcwd(), str(log.absolute())]
            connection = self._connections[self._forks[stage]]
            connection.sendall(json.dumps(order).encode() + b"\n")
            return int(connection.recv(16) or 0) or None  # nothing: the server is dead
        return None

    def is_ready(self, stage: str) -> bool:
        """Whether this stage may be a fork, and all that it needs is imported."""
        if stage not in self._forks:
            return False
        number = self._forks[stage]
        if not self._ready[number]:
            with suppress(OSError):
                self._ready[number] = self._connections[number].recv(1, socket.MSG_DONTWAIT) == b"+"
        return self._ready[number]

    def close(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, SIGKILL)
        self._server.wait()
        for connection in self._connections:
            connection.close()


@contextmanager
def _adopting() -> Iterator[None]:
    """Meanwhile an orphan below us becomes our child: the fork does, and none that a stage leaves later."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)
