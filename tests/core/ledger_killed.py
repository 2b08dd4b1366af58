"""Work on a ledger in processes that are killed with SIGKILL; run by test_ledger_kill.py as a script of its own.

This process imports the ledger once and forks a child per run, so hundreds of real kills take seconds. A child writes
to a log beside the directory which items it computes and which are recorded (`record` has returned).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.retry import Retry

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("parents", pa.list_(pa.string())),
    ]
)
CALLS = ("open", "write", "replace", "unlink", "ftruncate", "mkdir")  # all that change what is on disk


def items(count: int) -> Iterator[WorkItem]:
    return (WorkItem(f"item-{number}", number) for number in range(count))


def result(number: int) -> tuple[list[dict[str, Any]], list[Reject]]:
    rows = [
        {"id": f"{number}.{i}", "text": "ein Rätsel\n" * number, "score": number / 3, "parents": [f"item-{number}"]}
        for i in range(number % 3)
    ]
    rejects = [Reject({"id": f"{number}"}, "odd" if number % 2 else "ten", f"{number}")] if number % 5 < 2 else []
    return rows, rejects


def even(number: int) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Two rows, or a reject."""
    if number % 7 == 3:
        return [], [Reject({"id": f"{number}"}, "seven", f"{number}")]
    return [{"id": f"{number}.{i}", "text": "x" * number, "score": None, "parents": None} for i in range(2)], []


def failing(number: int) -> tuple[list[dict[str, Any]], list[Reject]]:
    """The same by an engine that fails now and then."""
    return ([], [Reject({"id": f"{number}"}, "engine", "HTTP 500")]) if number % 3 == 1 else even(number)


def stale(number: int) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Of items that depend on each other: one failed, so that no other's rows are to stand."""
    rows, rejects = even(number)
    return failing(1) if number == 5 else ([{**row, "text": "stale"} for row in rows], rejects)


def of_the_engine(reject: Mapping[str, Any]) -> bool:
    return bool(reject["reason"] == "engine")


def work(
    directory: Path,
    count: int,
    seed: int = 0,
    pause: float = 0.0,
    result: Callable[[int], tuple[list[dict[str, Any]], list[Reject]]] = result,
    retry: Retry | None = None,
    stop_at: int | None = None,
) -> None:
    """A stage whose engine holds several items at a time and answers in any order; it may stop before the end."""
    log = os.open(directory.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    choose = random.Random(seed)
    with Ledger.open(directory, schema=SCHEMA, config={"count": count}, part_size=4, retry=retry) as ledger:
        running: list[WorkItem] = []
        answered = 0

        def answer_one() -> None:
            item = running.pop(choose.randrange(len(running)))
            time.sleep(pause)
            say(log, f"computing {item.key}\n")
            rows, rejects = result(item.payload)
            ledger.record(item.key, rows, rejects)
            say(log, f"recorded {item.key}\n")

        for item in ledger.todo(items(count)):
            running.append(item)
            if answered == stop_at:
                return
            if len(running) == 6:
                answer_one()
                answered += 1
        while running:
            answer_one()
        ledger.finish()
    say(log, "finished\n")


real = {name: getattr(os, name) for name in CALLS}


def say(log: int, line: str) -> None:
    real["write"](log, line.encode())


def forked(run: Callable[[], None]) -> int:
    """Fork, run, and return the child's process id."""
    child = os.fork()
    if child == 0:
        os.fsync = lambda fd: None  # a kill cannot tell whether the data has reached the disk, and waiting takes long
        try:
            run()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(3)
    return child


def killed(child: int) -> bool:
    """Wait for the child: True if it was killed, False if it ended well."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run failed with exit code {status}")
    return status != 0


def kill_at(number: int, half: bool) -> None:
    """Kill this process before its `number`-th call of `CALLS`, or (`half`) amid its `number`-th write."""
    made = 0

    def wrap(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                if half:
                    real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in ("write",) if half else CALLS:
        setattr(os, name, wrap(name))


def work_until(work: Callable[..., None], number: int, half: bool, directory: Path, count: int) -> None:
    kill_at(number, half)
    work(directory, count)


def check(directory: Path, reference: Path) -> None:
    """The directory is byte for byte that of an uninterrupted run, and nothing recorded was computed again."""
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    wanted = {path.name: path.read_bytes() for path in reference.iterdir()}
    if found != wanted:
        names = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        raise SystemExit(f"{directory}: not as uninterrupted: {names}")
    recorded: set[str] = set()
    for line in directory.with_suffix(".log").read_text().splitlines():
        word, _, key = line.partition(" ")
        if word == "computing" and key in recorded:
            raise SystemExit(f"{directory}: {key} was computed again after it was recorded")
        if word == "recorded":
            recorded.add(key)


def every_point(
    root: Path, count: int, prepare: Callable[[Path], None], check_log: bool, work: Callable[..., None] = work
) -> dict[str, int]:
    """Kill at each system call in turn, before it and (a write) in its middle; continue; compare."""
    reference = root / "reference"
    kills = 0
    for half in (False, True):
        number = 0
        while True:
            number += 1
            directory = root / f"{'half' if half else 'before'}-{number}"
            prepare(directory)

            if not killed(forked(partial(work_until, work, number, half, directory, count))):
                break
            kills += 1
            if killed(forked(partial(work, directory, count, seed=number))):
                raise SystemExit("killed by someone else")
            if not check_log:
                directory.with_suffix(".log").write_text("")
            check(directory, reference)
            shutil.rmtree(directory)
    return {"kills": kills}


def random_times(root: Path, count: int, kills: int, seed: int) -> dict[str, int]:
    """Kill from outside at random times, again and again, until the work is done; as often as it takes for `kills`."""
    choose = random.Random(seed)
    done = finished = 0
    patience = 0.02
    while done < kills or finished == 0:
        directory = root / f"random-{finished}"
        child = forked(partial(work, directory, count, seed=choose.randrange(1000), pause=0.0005))
        time.sleep(choose.uniform(0.0, patience))
        os.kill(child, signal.SIGKILL)
        if killed(child):
            done += 1
            patience *= 1.1  # on a busy machine it may take longer than this to open the directory
            continue
        patience = 0.02
        check(directory, root / "reference")
        finished += 1
    while killed(forked(partial(work, directory, count))):
        pass
    check(directory, root / "reference")
    return {"kills": done, "finished": finished}


def main() -> None:
    mode, root, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if mode == "work":
        work(root, count, pause=float(sys.argv[4]))
        return
    made = even if mode.startswith("retry") else result
    work(root / "reference", count, result=made)  # also brings in, once, what pyarrow imports at first use
    if mode == "points":
        answer = every_point(root, count, lambda directory: None, check_log=True)
    elif mode == "repair":

        def damaged(directory: Path) -> None:
            shutil.copytree(root / "reference", directory)
            os.truncate(directory / "part-00001.parquet", 100)
            os.unlink(directory / "rejects-00000.parquet")

        answer = every_point(root, count, damaged, check_log=False)
    elif mode == "rebuild":

        def lost(directory: Path) -> None:
            shutil.copytree(root / "reference", directory)
            os.unlink(directory / "manifest.json")
            os.unlink(directory / "part-00000.parquet")

        answer = every_point(root, count, lost, check_log=False)
    elif mode.startswith("retry"):
        whole, stop_at = "whole" in mode, count - 7 if "journals" in mode else None
        work(root / "failed", count, seed=7, result=stale if whole else failing, stop_at=stop_at)
        assert any(root.glob("failed/journal-*")) == ("journal" in mode) and any(root.glob("failed/part-*"))

        def failed(directory: Path) -> None:
            shutil.copytree(root / "failed", directory)
            lines = [] if whole else (root / "failed.log").read_text().splitlines(keepends=True)
            standing = [line for line in lines if "recorded" in line and int(line.rpartition("-")[2]) % 3 != 1]
            directory.with_suffix(".log").write_text("".join(standing))

        retry = Retry(reject=of_the_engine, whole=whole)
        answer = every_point(root, count, failed, check_log=True, work=partial(work, result=even, retry=retry))
    else:
        answer = random_times(root, count, kills=int(sys.argv[4]), seed=int(sys.argv[5]))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
