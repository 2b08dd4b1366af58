"""A coordinator whose workers are the ends of pipes, and their processes all gone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import Pipe

from sq.core.ledger import Ledger
from sq.engine.ray import WorkerEnd
from sq.synth.pool import WorkerPool
from sq.synth.stage_metrics import StageMetrics


class Gone:
    """A launcher of processes that have ended, all of which are one object."""

    patience = float("inf")
    end = WorkerEnd("its process was ended by SIGKILL")

    def __init__(self, directory):
        self.address = str(directory / "socket")

    def start(self, number, address, key):
        return self

    def ended(self):
        return self.end

    def kill(self):
        pass

    def close(self):
        pass


@contextmanager
def pool_of(job, directory, **given):
    """The coordinator of a job, with what is `given` of its spec."""
    spec = replace(job.stage.spec(job), **given)
    with Ledger.open(directory / "a", schema=spec.schema, config={}, inputs={}, part_size=8) as ledger:
        pool = WorkerPool(job, spec, ledger, "run", Gone(directory), StageMetrics(directory / "a", [], {}))
        yield pool
        pool._connections.close()


def connect_worker(pool, worker):
    """The other end of a worker's connection; its process is started if there is none."""
    if worker.process is None:
        pool._start(worker)
    worker.link, end = Pipe()
    pool._selector.register(worker.link, 1, worker)
    return end


def connected(pool):
    """Two workers that are connected, and the other ends."""
    return *pool._workers, *(connect_worker(pool, worker) for worker in pool._workers)
