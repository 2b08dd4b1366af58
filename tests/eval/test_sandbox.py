"""The sandbox at its ordinary work: every kind of test, every way to end, what crosses between the processes."""

import datetime
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from textwrap import dedent

import isolation_here
import pytest

from sq.core.errors import EngineError
from sq.sandbox import isolation
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside import confine, jobs, seccomp
from sq.sandbox.inside.processes import ProcessExit
from sq.sandbox.plain_values import decode_plain, encode
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import (
    Asserts,
    Calls,
    Program,
    ProgramResult,
    ProgramStatus,
    Raised,
    Unittests,
)

ROOT = Path(__file__).parents[2]
TABLES = seccomp.BOTH | seccomp.BY_ARGUMENT | seccomp.LANDLOCK_TOO


@pytest.fixture(scope="module")
def box():
    try:
        with Sandbox(SandboxConfig(workers=2, memory_mb=256)) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused("auto", error)


def test_the_systems_word_for_too_much_processor_time_counts():
    """It counts by samples; what it ended may have used much less by the finer count that we are given."""
    limits = confine.Limits(**{name: 1 for name in confine.Limits._fields})
    ended = [ProcessExit(status=signal.SIGXCPU, cpu=0.1), ProcessExit(status=0, cpu=0.0)]
    assert jobs._explain(limits, ended, False, {"status": "error", "reason": "the other end is closed"}) == {
        "status": "timeout",
        "reason": "used up 1 s of processor time",
    }


def run(box, source, *tests, **more):
    return box.run_one(Program(source=dedent(source), tests=Asserts(tests=tests, **more)))


def test_outcomes_come_in_order_and_are_computed_lazily(box):
    taken = []

    def programs():
        for n in range(300):
            taken.append(n)
            yield Program(source=f"def f(): return {n}", tests=Calls(function="f", arguments=[[]]))

    outcomes = box.run(programs())
    assert next(outcomes).values == (0,) and len(taken) < 120
    assert [o.values[0] for o in outcomes] == list(range(1, 300))


def test_several_threads_share_it(box):
    found: list[tuple[int, ProgramResult]] = []

    def work(n):
        programs = [Program(source=f"def f(): return {n}", tests=Calls(function="f", arguments=[[]]))] * 10
        found.extend((n, outcome) for outcome in box.run(programs))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(found) == 40 and all(outcome.values == (n,) for n, outcome in found)


def test_what_comes_after_a_test_that_fails_is_not_run(box):
    result = run(box, "def f(x): return abs(x)", "assert f(2) == 2", "assert f(-2) == -2", "assert f(0) == 0")
    assert result.passed == (True, False, False) and result.status is ProgramStatus.FAILED
    assert result.reason == "test 2: AssertionError"


@pytest.mark.parametrize(
    ("source", "status", "reason"),
    [
        ("def f(x) return x", ProgramStatus.ERROR, "SyntaxError"),
        ("import nothing_of_that_name", ProgramStatus.ERROR, "ModuleNotFoundError"),
        ("def g(x): return x", ProgramStatus.ERROR, "f is not defined"),
        ("1 / 0", ProgramStatus.ERROR, "ZeroDivisionError"),
        ("def f(x): raise KeyError('k')", ProgramStatus.FAILED, "test 1: KeyError"),
        ("def f(x): return f(x)", ProgramStatus.FAILED, "RecursionError"),
        ("f = 3", ProgramStatus.FAILED, "TypeError"),
        ("def f(x): return x", ProgramStatus.PASSED, ""),
    ],
)
def test_how_a_program_ends(box, source, status, reason):
    outcome = run(box, source, "assert f(1) == 1", entry=["f"])
    assert outcome.status is status and reason in outcome.reason


def test_tests_that_cannot_be_used(box):
    assert run(box, "x = 1", "assert (").status is ProgramStatus.INVALID
    outcome = run(box, "x = 1", "assert x", context="import nothing_of_that_name")
    assert outcome.status is ProgramStatus.INVALID and "nothing_of_that_name" in outcome.reason


def test_names_of_the_program_and_of_the_tests(box):
    source = "LIMIT = 7\ndef helper(x): return 0\ndef f(x): return x + LIMIT"
    assert run(box, source, "assert f(1) == LIMIT + 1").ok
    context = "def helper(x): return 5\ndef f(x): 'a stub'"
    assert run(box, source, "assert helper(1) == 5 and f(1) == 8", entry=["f"], context=context).ok
    assert run(box, source, "def helper(x): return 6\nassert helper(1) == 6").ok
    assert run(box, source, "assert f(n) == 10", setup="n = 3").ok


def test_objects_of_the_programs_own(box):
    source = """
        class Node:
            count = 0
            def __init__(self, value, then=None):
                self.value, self.then = value, then
                Node.count += 1
            def __len__(self): return 1 + (len(self.then) if self.then else 0)
            def __getitem__(self, i): return self.value if i == 0 else self.then[i - 1]
            def __iter__(self):
                node = self
                while node:
                    yield node.value
                    node = node.then
            def __str__(self): return '->'.join(map(str, self))
            def push(self, value): return Node(value, self)
        def total(node): return sum(node)
    """
    tests = [
        "a = Node(3, Node(4))\nassert total(a) == 7 and a.value == 3 and a.then.value == 4 and Node.count == 2",
        "b = a.push(1)\nassert list(b) == [1, 3, 4] and len(b) == 3 and b[2] == 4 and str(b) == '1->3->4'",
        "a.then.value = 9\nassert total(b) == 13 and a == a and a != b and 9 in list(b)",
    ]
    assert run(box, source, *tests).ok


def test_arguments_that_are_changed_in_place(box):
    source = """
        def f(a, b, c):
            a.sort(); a.append([0]); b['k'].append(1); b.pop('gone', None); c.add(3)
    """
    test = "a, inner, c = [2, 1], [], set()\nb = {'k': inner, 'gone': 1}\nf(a, b, c=c)\n"
    assert run(box, source, test + "assert a == [1, 2, [0]] and b == {'k': [1]} and inner == [1] and c == {3}").ok
    assert run(box, "def f(a): a[0][0] = 5", "a = [[1], 2]\nb = a[0]\nf(a)\nassert a == [[5], 2] and b == [5]").ok


def test_functions_as_arguments_and_lazy_results(box):
    assert run(box, "def f(g, xs): return map(g, xs)", "assert list(f(lambda x: 2 * x, [1, 2])) == [2, 4]").ok
    assert run(
        box, "def f(xs):\n    for x in xs: yield x + 1", "g = f([1, 2])\nassert next(g) == 2 and list(g) == [3]"
    ).ok
    assert run(box, "def f(xs): return sum(xs)", "assert f(x for x in (1, 2)) == 3").ok
    assert run(box, "def f(kind, x): return isinstance(x, kind)", "assert f(int, 3) and not f(str, 3)").ok
    assert run(box, "def f(n): return lambda x: x + n", "assert f(1)(2) == 3").ok


def test_exceptions_cross_as_what_they_are(box):
    source = (
        "class Own(ValueError): pass\ndef f(x): raise {0: KeyError, 1: Own, 2: type('E', (Exception,), {})}[x]('why')"
    )
    test = """
        for x, kind in ((0, KeyError), (1, ValueError), (2, Exception)):
            try: f(x); assert False
            except kind as e: assert 'why' in str(e)
    """
    assert run(box, source, dedent(test)).ok


def test_calls_give_values_and_keys_for_voting(box):
    source = "def f(n): return {3, 1, n} if n < 9 else 1 / 0"
    calls = Calls(function="f", arguments=[[2], [5], [9]])
    outcome = box.run_one(Program(source=source, tests=calls))
    assert outcome.values[:2] == ({1, 2, 3}, {1, 3, 5}) and isinstance(outcome.values[2], Raised)
    assert outcome.status is ProgramStatus.FAILED and "ZeroDivisionError" in outcome.reason
    other = box.run_one(Program(source="def f(n): return {n, 3, 1}", tests=calls))
    assert other.status is ProgramStatus.CALLED and other.keys[:2] == outcome.keys[:2] and outcome.keys[2] is None
    assert box.run_one(Program(source="def f(n): return [iter([n])]", tests=calls)).keys == (None,) * 3
    expecting = Calls(function="f", arguments=[[2], [5]], expected=[{1, 2, 3}, {1}])
    assert box.run_one(Program(source=source, tests=expecting)).passed == (True, False)
    left = box.run_one(Program(source="import os\ndef f(n): return n if n < 5 else os._exit(0)", tests=calls))
    assert (
        left.status is ProgramStatus.ERROR
        and left.values[0] == 2
        and [k is None for k in left.keys] == [False, True, True]
    )


def test_unittests(box):
    tests = """
        import unittest
        class A(unittest.TestCase):
            def setUp(self): self.x = 1
            def test_one(self): self.assertEqual(f(self.x), 2)
            def test_raises(self):
                with self.assertRaises(TypeError): f(None)
    """
    program = Program(source="def f(x): return x + 1", tests=Unittests(tests=dedent(tests)))
    assert box.run_one(program).ok
    wrong = box.run_one(Program(source="def f(x): return 2", tests=program.tests))
    assert wrong.status is ProgramStatus.FAILED and "test_raises" in wrong.reason


def test_common_modules_work(box):
    modules = "asyncio, collections, csv, dataclasses, datetime, decimal, hashlib, heapq, json, multiprocessing, numpy"
    for name in (m for m in modules.split(", ") if m != "numpy"):
        assert run(box, f"import {name}\ndef f(): return 1", "assert f() == 1").ok, name
    assert "No module named 'numpy'" in run(box, "import numpy", "assert 1").reason
    source = """
        from dataclasses import dataclass
        from typing import List, NamedTuple
        @dataclass
        class P:
            x: 'List[int]'
        class Q(NamedTuple):
            a: int
            b: int
        def f(): return Q(1, sum(P([2, 3]).x))
    """
    assert run(box, source, "assert f() == (1, 5)").ok


def test_weak_isolation_must_be_asked_for(monkeypatch, caplog):
    with pytest.raises(EngineError, match="sandbox.allow_weak=true"):
        Sandbox(SandboxConfig(isolation="weak"))
    monkeypatch.setattr(isolation, "supported", lambda: False)
    with pytest.raises(EngineError, match=f"namespaces: {sys.platform} has none.*sandbox.allow_weak=true"):
        Sandbox(SandboxConfig())
    caplog.set_level("INFO")
    with Sandbox(SandboxConfig(allow_weak=True, workers=1)) as box:
        assert box.tier == "weak" and "limits only: programs can read your files" in caplog.text
        assert run(box, "def f(): return 1", "assert f() == 1").ok
        assert not run(box, "import os\nos._exit(0)", "assert f() == 1").ok


def test_a_probe_that_gets_out_refuses_the_isolation(monkeypatch):
    monkeypatch.setattr(isolation, "_PROBE", "def probe(path, secret): return ['reads your files']")
    with pytest.raises(EngineError, match="a probe got out of it.*reads your files"):
        Sandbox(SandboxConfig())


def test_what_is_in_force_is_said(caplog):
    caplog.set_level("INFO")
    with Sandbox(SandboxConfig(workers=1)) as box:
        assert isolation.DESCRIPTIONS[box.tier] in caplog.text and box.tier in ("namespaces", "landlock")


def test_a_dead_worker_is_started_again(box):
    os.kill(box._workers[0]._process.pid, 9)
    os.kill(box._workers[1]._process.pid, 9)
    assert all(
        o.ok for o in box.run([Program(source="def f(): return 1", tests=Asserts(tests=["assert f() == 1"]))] * 40)
    )


def test_the_numbers_of_system_calls_are_this_machines():
    headers = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")]
    generic = Path("/usr/include/asm-generic/unistd.h")
    found = [h for h in headers if h.exists()]
    if not found or not generic.exists():
        pytest.skip("the kernel's headers are not installed")
    x86 = dict(re.findall(r"#define __NR_(\w+) (\d+)", found[0].read_text()))
    arm = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", generic.read_text()))
    for name, number in {**seccomp.SAME, **{n: p[0] for n, p in TABLES.items()}}.items():
        assert int(x86.get(name, number)) == number, name
    for name, number in {**seccomp.X86_ONLY, **seccomp.LANDLOCK_TOO_X86}.items():
        assert int(x86[name]) == number, name
    for name, (_, number) in TABLES.items():
        assert int(arm[name]) == number, name


def test_its_own_processes_import_nothing_heavy():
    heavy = ("omegaconf", "numpy", "torch", "socket", "subprocess", "inspect", "hashlib")
    code = f"import sys, sq.sandbox.inside.start; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "tests",
    [
        Asserts(tests=[]),
        Calls(function="f", arguments=[], expected=[]),
        Unittests(tests="import unittest\nclass T(unittest.TestCase): pass"),
    ],
)
def test_no_tests_are_passed_by_nobody(box, tests):
    outcome = box.run_one(Program(source="def f(): return 1", tests=tests))
    assert outcome.status is ProgramStatus.INVALID and outcome.reason.startswith("there ")


def test_long_arguments_and_answers(box):
    outcome = run(
        box, "def f(xs): return [x + 1 for x in xs]", "assert f(list(range(10**5))) == list(range(1, 10**5 + 1))"
    )
    assert outcome.ok
    assert run(box, "def f(text): return len(text)", "assert f('x' * (20 * 2**20)) == 20 * 2**20").ok


def test_examples_under_main_do_not_run_beside_unittests(box):
    source = "def f(x): return os.path.basename(x)\nif __name__ == '__main__':\n    raise SystemExit(f('a'))"
    tests = "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f('a/b'), 'b')"
    assert box.run_one(Program(source=source, tests=Unittests(tests=tests))).ok


@pytest.mark.parametrize(
    "value",
    [
        Fraction(1, 3), Decimal("1.50"), Counter("aab"), OrderedDict(a=1), deque([1, 2]), range(3, 9, 2), 10**400,
        datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5, 6), datetime.timedelta(1, 2, 3), int,
        ValueError, float("inf"), "\ud800",
    ],
    ids=repr,
)  # fmt: skip
def test_values_of_the_standard_library_too(box, value):
    assert decode_plain(encode(value, lambda v: pytest.fail(f"{v!r} is plain"))) == value
    if not isinstance(value, type):
        assert box.run_one(
            Program(source="def f(x): return x", tests=Calls(function="f", arguments=[[value]]))
        ).values == (value,)
