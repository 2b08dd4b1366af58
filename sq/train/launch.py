"""One process per device, and who starts them.

On one machine this process starts the others, each from the finished configuration and not from the command line, so
that Hydra's multirun is not run again by every rank (Hydra #2070). torchrun and srun start them themselves.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sq.core.errors import ConfigError, SqError
from sq.train.config import TrainerConfig

_OURS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started_outside() -> bool:
    """Whether torchrun, srun or another launcher has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def rank() -> int:
    """This process's rank, from the environment."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)


@contextmanager
def environment_kept() -> Iterator[None]:
    """After the block, the variables that tell of other processes are as before: the next job of a sweep reads them."""
    before = {name: os.environ.get(name) for name in _OURS}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def processes(trainer: TrainerConfig, job: Any) -> Iterator[None]:
    """While the block runs, so do the other processes of this machine, which do the same `job`."""
    count = trainer.devices
    if started_outside():
        yield
        return
    if count == 1 and trainer.nodes == 1:
        try:
            yield
        finally:
            os.environ.pop("LOCAL_RANK", None)  # Lightning's DDP leaves it, and the next job would seem one of several
        return
    if trainer.nodes > 1:
        raise ConfigError(
            f"trainer.nodes={trainer.nodes}: start the same command on every node, with "
            f"torchrun --nnodes={trainer.nodes} --nproc-per-node={count} --rdzv-endpoint=HOST:29500 train.py ..., "
            f"or with srun --nodes={trainer.nodes} --ntasks-per-node={count} python train.py ..."
        )
    with tempfile.TemporaryDirectory() as scratch:
        plan, environment = Path(scratch) / "job.pickle", _environment(count)
        plan.write_bytes(pickle.dumps(job))
        children = [_start(plan, environment, number) for number in range(1, count)]
        failed: list[int] = []
        done = threading.Event()
        for number, child in enumerate(children, 1):
            threading.Thread(target=_guard, args=(child, number, failed, done), daemon=True).start()
        os.environ.update(environment, LOCAL_RANK="0")
        try:
            yield
            done.set()
        except BaseException as error:
            done.set()
            for child in children:  # it waits for this process, and has nothing to save
                child.kill()
            if failed:
                output = (Path(scratch) / f"rank-{failed[0]}.log").read_text()[-3000:]
                raise SqError(f"process {failed[0]} of {count} has ended:\n{output.strip()}") from error
            raise
        finally:
            for child in children:
                _end(child)


def _environment(count: int) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "NODE_RANK": "0"}


def _start(plan: Path, environment: dict[str, str], number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sq.train.rank", str(plan)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    with (plan.parent / f"rank-{number}.log").open("wb") as file:
        env = {**os.environ, **environment, "LOCAL_RANK": str(number), "PYTHONPATH": path}
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=file, stderr=file)


def _guard(child: subprocess.Popen[bytes], number: int, failed: list[int], done: threading.Event) -> None:
    """The first process would wait for a dead one for half an hour: interrupt it."""
    import _thread

    if child.wait() and not done.is_set():
        failed.append(number)
        _thread.interrupt_main()


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
