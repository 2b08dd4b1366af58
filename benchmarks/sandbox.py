"""Programs per second: the sandbox beside two usual ways of running model-written code, and what each keeps out.

    python benchmarks/sandbox.py [--count 600] [--rounds 3]

`seconds of processor` counts every process a program costs, so it holds while other work runs on the machine; a core
does one over it programs a second. The peers run the same trivial program and its three asserts: a fresh `python -c`,
and a forked process that execs program and tests in itself, as HumanEval's own harness does. Neither isolates.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program

SOURCE = "def f(x):\n    return x * x + {n}\n"
TESTS = ["assert f(2) == {m}", "assert f(0) == {n}", "assert f(-2) == {m}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    print(f"{'way':44} {'programs/s of a core':>21} {'ms of processor':>16} {'programs/s here':>16}")
    for tier in ("namespaces", "landlock", "weak"):
        config = SandboxConfig(workers=1, isolation=tier, allow_weak=tier == "weak")
        with Sandbox(config) as sandbox:
            for kind, make in (("asserts", asserts), ("calls", calls)):
                if tier == "namespaces" or kind == "asserts":
                    measure(f"sandbox, {tier}, {kind}", lambda n, make=make: run(sandbox, make(n)), options)
    measure("fresh python -c, no isolation", fresh, options, share=10)
    measure("forked process, exec within, no isolation", forked, options, share=2)


def measure(name: str, work: Callable[[int], float], options: argparse.Namespace, share: int = 1) -> None:
    """A line: medians over rounds."""
    count = max(20, options.count // share)
    work(20)
    walls, costs = [], []
    for _ in range(options.rounds):
        start = time.monotonic()
        costs.append(work(count) / count)
        walls.append((time.monotonic() - start) / count)
    cost = statistics.median(costs)
    print(f"{name:44} {1 / cost:21.0f} {1000 * cost:16.2f} {1 / statistics.median(walls):16.0f}", flush=True)


def run(sandbox: Sandbox, programs: Iterator[Program]) -> float:
    """Run programs; processor seconds of the worker, of all it forked, and of this process."""
    pids = list(family(sandbox._workers[0]._process.pid))
    before = sum(map(spent, pids)) + own()
    assert all(outcome.ok for outcome in sandbox.run(programs))
    return sum(map(spent, pids)) + own() - before


def asserts(count: int) -> Iterator[Program]:
    """Programs with tests in code: two processes each."""
    for n in range(count):
        tests = [t.format(n=n, m=n + 4) for t in TESTS]
        yield Program(source=SOURCE.format(n=n), tests=Asserts(tests=tests, entry=["f"]))


def calls(count: int) -> Iterator[Program]:
    """Programs with arguments and expected values."""
    for n in range(count):
        tests = Calls(function="f", arguments=[[2], [0], [-2]], expected=[n + 4, n, n + 4])
        yield Program(source=SOURCE.format(n=n), tests=tests)


def fresh(count: int) -> float:
    """A new interpreter for each program."""
    before = own() + children()
    for n in range(count):
        code = SOURCE.format(n=n) + "\n".join(t.format(n=n, m=n + 4) for t in TESTS)
        assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
    return own() + children() - before


def forked(count: int) -> float:
    """A fork of this process for each program, which it execs with its tests."""
    before = own() + children()
    context = multiprocessing.get_context("fork")
    for n in range(count):
        code = SOURCE.format(n=n) + "\n".join(t.format(n=n, m=n + 4) for t in TESTS)
        process = context.Process(target=exec, args=(code, {}))
        process.start()
        process.join(20)
        assert process.exitcode == 0
    return own() + children() - before


def own() -> float:
    """Processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def children() -> float:
    """Processor seconds of the processes it waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(pid: int) -> float:
    """Processor seconds of a process and of those that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


if __name__ == "__main__":
    main()
