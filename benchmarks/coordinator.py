"""What the coordinator of a stage costs: many workers that only sleep, at the plan's rates, on this machine.

    python benchmarks/coordinator.py [--workers 32] [--rate 209] [--seconds 60] [--part 1024]

The coordinator is the real one, with a real ledger; each worker is a process that speaks its protocol over the real
connection and sleeps for as long as an engine of `--rate` results a second takes for a part. It asks for the next part
when `--window` items of the last are left, as an engine's window of requests does. Printed: the coordinator's share of
one core, and the share of time in which an engine had nothing to do for want of a part. Defaults: questions, H200.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np

from sq.core.ledger import Ledger
from sq.core.manifest import Part
from sq.core.rows import QUESTION
from sq.core.shard import PartKeys
from sq.engine.ray import WorkerEnd
from sq.synth.pool import WorkerPool
from sq.synth.stage import StageSpec
from sq.synth.stage_metrics import StageMetrics
from sq.synth.worker import COUNTED_EVERY


@dataclass(frozen=True)
class Stage:
    """What the pool reads of a job's stage."""

    name: str = "questions"

    def engines(self, job: Job) -> list[Any]:
        """Of a stage that asks no model."""
        return []


@dataclass(frozen=True)
class Job:
    """What the pool reads of a job."""

    workers: int
    stage: Stage = Stage()
    filters: dict[str, Any] = field(default_factory=dict)


class SleepingLauncher:
    """Workers that speak the protocol and sleep for as long as a part takes."""

    patience = float("inf")

    def __init__(self, directory: Path, given: argparse.Namespace, parts: int) -> None:
        self.address = str(directory / "coordinator")
        self.waits = multiprocessing.get_context("fork").Array("d", 2 * given.workers, lock=False)
        self._arguments = (given, parts, self.waits)

    def start(self, number: int, address: Any, key: bytes) -> Sleeping:
        process = multiprocessing.get_context("fork").Process(
            target=_sleep, args=(address, key, number, *self._arguments), daemon=True
        )
        process.start()
        return Sleeping(process)

    def close(self) -> None:
        pass


class Sleeping:
    """One of them."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def ended(self) -> WorkerEnd | None:
        return None if self._process.is_alive() else WorkerEnd("its process has ended")

    def kill(self) -> None:
        self._process.kill()


def _sleep(address: str, key: bytes, number: int, given: argparse.Namespace, parts: int, waits: Any) -> None:
    """A worker with the next part in hand before its engine has done the last."""
    os.closerange(3, 1024)
    link = Client(address, authkey=key)
    link.send((number, os.getpid()))
    rng = np.random.default_rng(number)
    seconds = given.part / given.rate
    reported_at = time.monotonic()

    def ask(waiting: bool) -> Any:
        link.send(("next", waiting))
        answer = link.recv()
        return answer and answer[0]

    def begin(part: Any) -> int:
        count = given.part if part.index < parts else 0
        hashes = rng.integers(-(2**62), 2**62, count, np.int64).tobytes()
        link.send(("begin", PartKeys(index=part.index, count=count, digest=f"{part.index:032x}", hashes=hashes)))
        return count

    def sleep_until(moment: float) -> None:
        nonlocal reported_at
        while (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, COUNTED_EVERY))
            if time.monotonic() - reported_at >= COUNTED_EVERY:
                link.send(("count", int(given.rate * COUNTED_EVERY), [], []))
                reported_at = time.monotonic()

    part = ask(True)
    count = begin(part)
    done_at = time.monotonic() + seconds * rng.random()  # workers are not in step
    while part is not None and count:
        sleep_until(done_at - given.window / given.rate)
        asked = time.monotonic()
        following = ask(False)
        came = time.monotonic()
        more = begin(following) if following is not None else 0
        sleep_until(done_at)
        link.send(("commit", _part(part.index, count), count, {}))
        link.recv()
        if following is not None:
            waits[2 * number] += max(0.0, came - done_at)
            waits[2 * number + 1] = max(waits[2 * number + 1], came - asked)
        part, count, done_at = following, more, max(done_at, came) + seconds
    link.send(("count", 0, [], []))
    link.send(("next", True))
    link.recv()


def _part(index: int, count: int) -> Part:
    return Part(
        index=index, items=count, rows=count - 13, rejects=13, reasons={"cut-off": 11, "empty": 2},
        keys=f"{index:032x}", content="0" * 32, rejected="0" * 32, checksum="0" * 32, rejects_checksum="0" * 32,
    )  # fmt: skip


def _nothing(*given: Any) -> Iterator[Any]:
    return iter(())


def main() -> None:
    """Run the simulation and print the two shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--rate", type=float, default=209.0, help="results a second of one worker's engine")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--part", type=int, default=1024)
    parser.add_argument("--window", type=int, default=512, help="items in an engine when its worker asks for more")
    given = parser.parse_args()
    logging.getLogger("sq").setLevel(logging.ERROR)
    parts = int(given.workers * given.rate * given.seconds / given.part)
    spec = StageSpec(schema=QUESTION, fingerprint_fields={}, items=_nothing, process=_nothing, close=lambda: None)
    with tempfile.TemporaryDirectory() as made:
        launcher = SleepingLauncher(Path(made), given, parts)
        with Ledger.open(Path(made) / "out", schema=QUESTION, config={}, part_size=given.part) as ledger:
            file = StageMetrics(Path(made) / "out", (), {})
            pool = WorkerPool(Job(given.workers), spec, ledger, "run", launcher, file)  # type: ignore[arg-type]
            begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
            pool.run()
            took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            finishing = time.monotonic()
            ledger.finish()
            finishing = time.monotonic() - finishing
    idle = sum(launcher.waits[::2]) / (given.workers * took)
    print(f"{given.workers} workers, {parts} parts of {given.part} in {took:.0f} s ({parts / took:.1f} a second)")
    print(
        f"coordinator: {used:.2f} s of processor time, {used / took:.2%} of a core, {used / parts * 1e3:.2f} ms a part"
    )
    print(
        f"engines idle for want of a part: {idle:.2%} of the time (the longest wait for one, "
        f"{max(launcher.waits[1::2]) * 1e3:.0f} ms, is hidden by its window); the ledger finished in {finishing:.2f} s"
    )


if __name__ == "__main__":
    main()
