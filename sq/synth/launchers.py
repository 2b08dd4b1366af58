"""Where a stage's workers run: processes of this machine, each with GPUs of its own, or a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sq.core.config import setting
from sq.core.errors import ConfigError
from sq.core.provenance import hardware, visible_gpus
from sq.engine.config import EngineConfig
from sq.engine.ray import RayLauncher, WorkerEnd
from sq.synth.worker import work_on_ray

if TYPE_CHECKING:
    from sq.synth.config import SynthJob


FROM_OUTSIDE = ("SIGTERM", "SIGHUP", "SIGINT")
"""Signals by which a person or a scheduler ends a process; SIGKILL may be for want of memory."""

KILL_SECONDS = 10.0
"""Seconds to wait for the end of a process that was killed."""


class WorkerProcess(Protocol):
    """A worker's process, wherever it is."""

    def ended(self) -> WorkerEnd | None:
        """How it has ended; None while it runs, or waits for its place."""
        ...

    def kill(self) -> None:
        """End it now. Safe to call twice."""
        ...


class Launcher(Protocol):
    """Where workers run."""

    address: Any
    """Where the coordinator listens, as `multiprocessing.connection` has it."""
    patience: float
    """Seconds to wait for the first worker."""

    def start(self, number: int, address: Any, key: bytes) -> WorkerProcess:
        """Start worker `number`, which connects to `address`."""
        ...

    def close(self) -> None:
        """Let go of what was taken for all of them."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """A Ray cluster for the workers, where there is one."""

    address: str | None = setting(
        None,
        help="auto: the Ray cluster of this node; HOST:PORT; local: one made here; none: processes of this machine",
    )
    cpus: float = setting(1.0, ge=0, help="cores of each worker there")
    gpus: float | None = setting(None, ge=0, help="GPUs of each worker there; default: what its engine takes")
    patience: float = setting(1800.0, gt=0, help="seconds to wait for the first worker, as a cluster grows")


def launcher_of(job: SynthJob) -> Launcher:
    """Where the job's workers are to run.

    Raises:
        ConfigError: where this machine has too few GPUs.
    """
    if job.cluster.address is None:
        return LocalLauncher(job.workers, job.gpus_each)
    return RayLauncher(job.cluster, job.gpus_each, work_on_ray)


def job_of_each(job: SynthJob) -> SynthJob:
    """The job as each of its workers does it: what an engine may ask at most is divided among them."""

    def shared(config: Any) -> Any:
        given = {field.name: getattr(config, field.name) for field in fields(config)}
        engines = {name: one for name, one in given.items() if isinstance(one, EngineConfig)}
        return replace(config, **{name: one.one_of(job.workers) for name, one in engines.items()})

    filters = {name: shared(config) for name, config in job.filters.items()}
    own: SynthJob = shared(job)
    return replace(own, stage=shared(job.stage), filters=filters)


def refuse_too_few(gpus: int, count: int, gpus_each: int, where: str = "this machine shows") -> None:
    """Raise a `ConfigError` where so many engines need more GPUs than there are."""
    cluster = "or cluster.address=auto for those of a Ray cluster"
    if gpus_each > gpus:
        raise ConfigError(
            f"an engine takes {gpus_each} GPUs, and {where} {gpus}: engine.tensor_parallel={gpus} or less, {cluster}"
        )
    if gpus_each * count > gpus:
        raise ConfigError(
            f"workers={count} need {gpus_each * count} GPUs, {gpus_each} each, and {where} {gpus}: "
            f"workers={gpus // gpus_each}, {cluster}"
        )


class LocalLauncher:
    """Processes of this machine, started afresh, which connect by a socket in a directory of this user's alone."""

    patience = float("inf")  # a process that cannot start ends, which is seen

    def __init__(self, count: int, gpus_each: int) -> None:
        gpus = visible_gpus()
        if gpus:
            refuse_too_few(len(gpus), count, gpus_each)
        threads = str(max(1, int(hardware()["cores"]) // count))
        self._threads = {n: threads for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if n not in os.environ}
        self._gpus = [gpus[i * gpus_each : (i + 1) * gpus_each] for i in range(count)] if gpus else []
        self._directory = tempfile.TemporaryDirectory(prefix="sq-")
        self.address: Any = str(Path(self._directory.name) / "coordinator")

    def start(self, number: int, address: Any, key: bytes) -> WorkerProcess:
        """Start a worker."""
        environment = {**os.environ, **self._threads, "SQ_WORKER_KEY": key.hex()}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus[number])
        command = [sys.executable, "-m", "sq.synth.worker", str(address), str(number)]
        return _LocalProcess(subprocess.Popen(command, env=environment, start_new_session=True))

    def close(self) -> None:
        """Delete the directory of the socket."""
        self._directory.cleanup()


class _LocalProcess:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ended(self) -> WorkerEnd | None:
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return WorkerEnd(f"its process left with {code}")
        name = signal.Signals(-code).name
        return WorkerEnd(f"its process was ended by {name}", from_outside=name in FROM_OUTSIDE)

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # with all that it has started
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver or a disk ends when that lets it go
            self._process.wait(KILL_SECONDS)
