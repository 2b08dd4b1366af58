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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

COMMON = ("sq.core.entry", "torch", "transformers.models.llama.modeling_llama")
BY_SCRIPT = {
    "train": ("sq.train.fit", "sq.train.checkpoints", "lightning.pytorch", "mlflow"),
    "synthesize": ("sq.synth.stage", "sq.engine.hf", "sq.engine.hf_decode"),
    "evaluate": ("sq.eval.run", "sq.engine.hf", "sq.engine.hf_decode"),
}
OF_VLLM = ("sq.engine.vllm", "vllm.entrypoints.llm")
DEVICES = "CUDA_VISIBLE_DEVICES"
"""The one variable that may differ between stages: torch and CUDA read it when a device is first asked for. vLLM reads
the GPU's capability when it is imported."""
_ARROW = "JE_ARROW_MALLOC_CONF"
_SUBREAPER = 36  # of prctl: orphans of our children become our children


def modules_of(scripts: Iterable[str]) -> list[str]:
    """What stages of these scripts import, but for vLLM."""
    return list(dict.fromkeys([*COMMON, *(name for script in sorted(set(scripts)) for name in BY_SCRIPT[script])]))


class Preload:
    """The server, as `sq run` has it; without vLLM, and beside it a fork with vLLM for the stages that use it."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], *, vllm: bool = False) -> None:
        self._environment = dict(environment)
        pairs = [socket.socketpair() for _ in range(1 + vllm)]
        self._connections = [own for own, _ in pairs]
        self._ready = [False] * len(pairs)
        files = [theirs.fileno() for _, theirs in pairs]
        order = json.dumps([os.getpid(), files, modules])
        arrow = {_ARROW: "background_thread:false", **environment}  # the one thread that an import would leave
        _prctl(_SUBREAPER, 1)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "sq.recipe.preload_server", order], env=arrow, pass_fds=files, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _, theirs in pairs:
            theirs.close()

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> int | None:
        """Fork a stage; its process id, or none where its command is to be started."""
        number = int(any("vllm" in word for word in words))
        names = {name for name, _ in set(environment.items()) ^ set(self._environment.items())}
        may_differ = set() if number else {DEVICES}
        if number >= len(self._connections) or names - may_differ or not self.is_ready(number):
            return None
        order = [list(words), dict(environment), os.getcwd(), str(log.absolute())]
        with suppress(OSError):
            self._connections[number].sendall(json.dumps(order).encode() + b"\n")
            return int(self._connections[number].recv(16) or 0) or None  # nothing: the server and the fork are dead
        return None

    def is_ready(self, number: int = 0) -> bool:
        """Whether it has imported all, and may be forked."""
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
        _prctl(_SUBREAPER, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
