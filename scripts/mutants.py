"""Faults planted one at a time in lines that matter, to see that the tests named beside each catch it.

    .venv/bin/python scripts/mutants.py [--only TEXT] [--jobs 2]

A fault is an entry of mutants/*.yaml: a fragment of a file (it must occur there exactly once), what it becomes, and the
tests that must then fail. Each is planted in a copy of the working tree, never in the tree itself. Before that the
same tests must pass there without a fault. An entry whose `survives` gives a reason is known not to be caught.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import os
import py_compile
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("mutants")
OPTIONS = "addopts=--import-mode=importlib --strict-markers"
SECONDS = 120
"""Tests that take longer with a fault in place are ended, their children with them: the fault "hung". It counts as
caught, but apart, since a machine that is slow or busy looks the same. One limit for all: look at what hung by hand."""
WANTED = 0.95


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault: `old`, in `file`, becomes `new`; one of `tests` must then fail."""

    file: str
    fault: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.fault}"

    def problem(self, root: Path = ROOT) -> str | None:
        """Why it cannot be planted or told, in words, if it cannot."""
        path = root / self.file
        if not path.is_file():
            return "there is no such file"
        count = path.read_text().count(self.old)
        if count != 1:
            return f"its fragment occurs {count} times: {self.old!r}"
        try:
            if path.suffix == ".py":
                ast.parse(self.planted(root))
        except SyntaxError as error:
            return f"what it makes is no Python: {error}"
        missing = [test for test in self.tests if not _is_there(root, test)]
        return f"there is no test {missing[0]}" if missing else None if self.tests else "it names no test"

    def planted(self, root: Path = ROOT) -> str:
        """The file's text with the fault in it."""
        return (root / self.file).read_text().replace(self.old, self.new)


def table() -> list[Mutant]:
    """Every fault, in the order of the files."""
    mutants = []
    for path in sorted(TABLE.glob("*.yaml")):
        for file, entries in yaml.safe_load(path.read_text()).items():
            for entry in entries:
                mutants.append(Mutant(file=file, **{**entry, "tests": tuple(entry["tests"].split())}))
    return mutants


def _is_there(root: Path, test: str) -> bool:
    file, _, name = test.partition("::")
    path = root / file
    if not path.is_file():
        return False
    return not name or re.search(rf"^def {re.escape(name.partition('[')[0])}\(", path.read_text(), re.M) is not None


def copy_tree(to: Path) -> None:
    """The files of the working tree that git knows or does not ignore, with compiled ones that go by their content."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    (to / ".venv").symlink_to(ROOT / ".venv")
    compileall.compile_dir(to / "sq", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def run_tests(tree: Path, tests: tuple[str, ...], seconds: float | None) -> tuple[str, str]:
    """Whether they "passed", "failed" or "hung", or "error" where they could not run. And what pytest said last."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-o", OPTIONS, "-p", "no:cacheprovider", *tests]
    with tempfile.TemporaryFile("w+") as log:
        running = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = running.wait(seconds)
        except subprocess.TimeoutExpired:
            return "hung", f"not done in {seconds} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        log.seek(0)
        output = log.read().strip()[-2000:]
    if code == 0 and not re.search(r"\b\d+ passed", output):
        return "error", f"no test ran: {output}"
    return {0: "passed", 1: "failed"}.get(code, "error"), output


def plant(tree: Path, mutant: Mutant, seconds: float = SECONDS) -> tuple[str, float]:
    """What becomes of a fault in this copy of the tree, and the seconds it took."""
    started, path = time.monotonic(), tree / mutant.file
    sound = path.read_text()
    path.write_text(mutant.planted(tree))
    try:
        ended, output = run_tests(tree, mutant.tests, seconds)
    finally:
        path.write_text(sound)
    words = {"passed": "SURVIVED", "failed": "caught", "hung": "hung", "error": f"ERROR: {output}"}
    return words[ended], time.monotonic() - started


def run(mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, str, float]]:
    """Plant each fault in one of so many copies; what became of each, in order."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as top, ThreadPoolExecutor(jobs) as pool:
        os.chmod(top, 0o755)  # a test of the sandbox reads it as an ordinary user
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            tree = Path(top) / str(number)
            tree.mkdir()
            copy_tree(tree)
            trees.put(tree)

        def with_tree(mutant: Mutant) -> tuple[str, float]:
            tree = trees.get()
            try:
                return plant(tree, mutant)
            finally:
                trees.put(tree)

        wanted = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
        ended, output = run_tests(Path(top) / "0", wanted, seconds=None)
        if ended != "passed":
            sys.exit(f"without any fault the tests do not pass:\n{output}")
        for mutant, (word, seconds) in zip(mutants, pool.map(with_tree, mutants), strict=True):
            yield mutant, word, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose file, words or tests have this in them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies of the tree that are worked in")
    args = parser.parse_args()
    mutants = [m for m in table() if args.only in f"{m} {' '.join(m.tests)}"]
    if bad := [f"{mutant}: {problem}" for mutant in mutants if (problem := mutant.problem())]:
        sys.exit("\n".join(bad))
    if not mutants:
        sys.exit(f"no fault has {args.only!r} in it")
    caught = hung = unexplained = 0
    for mutant, word, seconds in run(mutants, args.jobs):
        caught += word in ("caught", "hung")
        hung += word == "hung"
        unexplained += word not in ("caught", "hung") and not mutant.survives
        reason = f" ({mutant.survives})" if mutant.survives else ""
        print(f"{word:8} {seconds:5.0f} s  {mutant}{reason}", flush=True)
    print(f"{caught} of {len(mutants)} caught ({caught / len(mutants):.1%}), {hung} of them by a hang")
    return 1 if unexplained or caught < WANTED * len(mutants) else 0


if __name__ == "__main__":
    sys.exit(main())
