"""Workers on a Ray cluster: Ray finds each its place, with the cores and GPUs that it asks for."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sq.core.errors import EngineError
from sq.engine import engine_log

log = logging.getLogger(__name__)
LOCAL_STORE = 200 << 20
LOOK_SECONDS = 5.0
"""Seconds between two looks at whether the cluster's head answers."""
GONE_SECONDS = 40.0
"""Seconds without an answer of it after which a stage ends: Ray itself would end this process after sixty."""


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker's process has ended."""

    why: str
    from_outside: bool = False
    """Whether somebody ended it, or its machine is gone: no failure of the worker or of what it was at."""


class Cluster(Protocol):
    """What is needed of a cluster's config (`sq.synth.launchers.ClusterConfig`)."""

    @property
    def address(self) -> str | None: ...
    @property
    def cpus(self) -> float: ...
    @property
    def gpus(self) -> float | None: ...
    @property
    def patience(self) -> float: ...


class RayLauncher:
    """Starts workers on a cluster, for `work(address, key, number)`; see `sq.synth.launchers.Launcher`."""

    def __init__(self, cluster: Cluster, gpus_each: int, work: Callable[[Any, bytes, int], None]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise EngineError(f"Ray is not installed ({error}): pip install 'sq[ray]'") from error
        engine_log.take_over("ray")
        self._ray: Any = ray
        self.patience = cluster.patience
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect(str(cluster.address))
        has_gpus = self._ray.cluster_resources().get("GPU", 0) > 0
        gpus = cluster.gpus if cluster.gpus is not None else gpus_each * has_gpus
        if gpus_each and not has_gpus and cluster.gpus is None and cluster.address != "local":
            log.warning(
                "the Ray cluster has no GPU now, so workers ask for none and run on its CPUs. If it adds GPU nodes "
                f"when workers ask for them, give cluster.gpus={gpus_each}"
            )
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if os.environ.get("PYTHONPATH") else {}
        recorded = {"VLLM_BATCH_INVARIANT": os.environ.get("VLLM_BATCH_INVARIANT", "0")}  # with the stage's metrics
        # a worker's process serves one call: its GPU is free when it ends
        self._work = ray.remote(
            num_cpus=cluster.cpus,
            num_gpus=gpus,
            max_retries=0,
            max_calls=1,
            runtime_env={"env_vars": path | recorded},
        )(work)
        self.address: Any = (self._ray.util.get_node_ip_address(), 0)
        self._head: HeadWatch | None = None

    def start(self, number: int, address: Any, key: bytes) -> RayWorker:
        """Ask the cluster for a place."""
        self._head = self._head or HeadWatch(self._ray.get_runtime_context().gcs_address)
        return RayWorker(self._ray, self._work.remote(address, key, number), self._head)

    def close(self) -> None:
        """Leave the cluster, or end it where it was made here."""
        if self._head is not None:
            self._head.close()
        if self._ours and not (self._head and self._head.is_gone):  # it would wait for an answer
            self._ray.shutdown()
            self._ours = False

    def _connect(self, address: str) -> None:
        here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": LOCAL_STORE}
        try:
            host, colon, port = address.partition(":")
            if colon and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            new = here if address == "local" else {}  # None in place of "local" would join the cluster of RAY_ADDRESS
            self._ray.init(address=address, log_to_driver=False, configure_logging=False, **new)
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"no Ray cluster at cluster.address={address!r}: {str(error).splitlines()[0]}. Start one with "
                "`ray start --head`, or give cluster.address=local for one on this machine. One that asks for a token "
                "(RPC error: InvalidAuthToken) needs RAY_AUTH_MODE=token in the environment"
            ) from error


class HeadWatch:
    """Whether the cluster's head answers; looked at by a thread, as nothing arrives where it does not."""

    def __init__(self, address: str) -> None:
        self.address, self.is_gone = address, False
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="the Ray cluster's head", daemon=True).start()

    def check(self) -> None:
        """Raise an `EngineError` where it is gone."""
        if self.is_gone:
            raise EngineError(
                f"the head of the Ray cluster, {self.address}, has not answered for {GONE_SECONDS:.0f} s. Start the "
                "cluster and run the same command again: nothing that is recorded is lost"
            )

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look(self) -> None:
        host, _, port = self.address.rpartition(":")
        silent = 0.0
        while not self._closed.wait(LOOK_SECONDS):
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
                silent = 0.0
            except OSError as error:
                silent += LOOK_SECONDS
                self.is_gone = silent >= GONE_SECONDS
                log.warning(
                    "the head of the Ray cluster, %s, does not answer (%s): asked again in %.0f s, given up in %.0f s",
                    self.address, error, LOOK_SECONDS, GONE_SECONDS - silent,
                )  # fmt: skip


class RayWorker:
    """A worker somewhere on the cluster."""

    def __init__(self, ray: Any, call: Any, head: HeadWatch) -> None:
        self._ray, self._call, self._head = ray, call, head

    def ended(self) -> WorkerEnd | None:
        """How it has ended; None while it runs, or waits for its place."""
        self._head.check()
        gone = self._ray.exceptions
        try:
            if not self._ray.wait([self._call], timeout=0)[0]:
                return None
            self._ray.get(self._call)
        except gone.RayTaskError as error:  # its text is a traceback: the cause is its end
            return WorkerEnd(str(error).strip().splitlines()[-1])
        except gone.RayError as error:
            lost = isinstance(error, gone.NodeDiedError | gone.LocalRayletDiedError | gone.TaskCancelledError)
            return WorkerEnd(str(error).strip().splitlines()[0], from_outside=lost)
        return WorkerEnd("its process has ended")

    def kill(self) -> None:
        """End it now. Safe to call twice."""
        if not self._head.is_gone:
            self._ray.cancel(self._call, force=True)
