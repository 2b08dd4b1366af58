"""Programs that try to be called right without being right. None of them may pass, and all that is honest must."""

from textwrap import dedent

import pytest

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program, Script, Status, Unittests

TESTS = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-5) == 25"]
UNITTESTS = """
import unittest
class Tests(unittest.TestCase):
    def test_two(self): self.assertEqual(f(2), 4)
    def test_three(self): self.assertEqual(f(3), 9)
    def test_minus_five(self): self.assertTrue(f(-5) == 25)
"""
FORGERIES = {
    "prints passed": "print('passed'); print('OK'); print('True')\ndef f(x): print('passed'); return 0",
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "sys.exit(0) in the function": "import sys\ndef f(x): sys.exit(0)",
    "os._exit(0)": "import os\nos._exit(0)",
    "os._exit(0) in the function": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit in a thread": """
        import threading, os
        def f(x):
            threading.Thread(target=lambda: os._exit(0)).start()
            while True: pass
    """,
    "__eq__ that always says yes": """
        class Yes:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __bool__(self): return True
            def __hash__(self): return 4
        def f(x): return Yes()
    """,
    "an int whose __eq__ always says yes": """
        class Yes(int):
            def __eq__(self, other): return True
            def __hash__(self): return 4
        def f(x): return Yes(7)
    """,
    "a list whose elements are all equal": """
        class Yes(list):
            __eq__ = lambda self, other: True
        def f(x): return Yes([Yes()])
    """,
    "a metaclass that says yes": """
        class Meta(type):
            def __eq__(cls, other): return True
            __hash__ = type.__hash__
        class Yes(metaclass=Meta): pass
        def f(x): return Yes
    """,
    "patches builtins": """
        import builtins
        builtins.AssertionError = type('E', (Exception,), {'__init__': lambda self, *a: None})
        builtins.exec = builtins.compile = builtins.all = builtins.any = lambda *a, **k: True
        builtins.isinstance = lambda *a: True
        def f(x): return 0
    """,
    "removes AssertionError": """
        import builtins
        del builtins.AssertionError, builtins.BaseException
        def f(x): return 0
    """,
    "overrides print and json": """
        import builtins, json
        builtins.print = lambda *a, **k: None
        json.dumps = json.loads = lambda *a, **k: '{"status": "passed", "reason": "", "passed": [true, true, true]}'
        def f(x): return 0
    """,
    "patches unittest": """
        import unittest
        for name in dir(unittest.TestCase):
            if name.startswith('assert'): setattr(unittest.TestCase, name, lambda *a, **k: None)
        unittest.TestCase.run = lambda self, result=None: result
        unittest.TestSuite.run = lambda self, result, debug=False: result
        unittest.TestResult.wasSuccessful = lambda self: True
        def f(x): return 0
    """,
    "patches unittest when called": """
        import unittest
        def f(x):
            for name in dir(unittest.TestCase):
                if name.startswith('assert'): setattr(unittest.TestCase, name, lambda *a, **k: None)
            return 0
        f.__code__ = (lambda x: 0).__code__
    """,
    "raises at exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): raise SystemExit(0)",
    "tampers with sys.modules": """
        import sys, types
        for name in list(sys.modules):
            if name not in ('builtins', 'sys', '__main__'): sys.modules[name] = types.ModuleType(name)
        def f(x): return 0
    """,
    "traces every frame and rewrites what it compares": """
        import sys, threading
        def trace(frame, event, arg):
            for name in list(frame.f_locals):
                if name in ('passed', 'status'): frame.f_locals[name] = True
            return trace
        sys.settrace(trace); threading.settrace(trace)
        def f(x): return 0
    """,
    "looks for expected values in the callers' frames": """
        import sys
        def f(x):
            frame, found = sys._getframe(1), []
            while frame:
                for code in [frame.f_code, *[v for v in frame.f_locals.values() if hasattr(v, 'co_consts')]]:
                    found += [c for c in code.co_consts if type(c) is int]
                frame = frame.f_back
            return next((c for c in found if c == x * x), 0) if found.count(4) and found.count(25) else 0
    """,
    "looks for the tests by gc": """
        import gc, types
        def f(x):
            for o in gc.get_objects():
                if isinstance(o, (list, tuple)) and any(isinstance(i, str) and i.startswith('assert f(') for i in o):
                    for i in o:
                        if isinstance(i, str) and f'f({x})' in i: return int(i.split('==')[1])
            return 0
    """,
    "looks for the tests in the inherited memory": """
        import ctypes, gc, sys
        def f(x):
            for o in gc.get_objects(0) + gc.get_objects(1) + gc.get_objects(2):
                if isinstance(o, dict) and 'tests' in o and 'source' in o:
                    for i in o['tests']:
                        if f'f({x})' in i: return int(i.split('==')[1])
            return 0
    """,
    "looks into the runner's closures": """
        import sys
        def f(x):
            frame = sys._getframe(1)
            while frame:
                job = frame.f_locals.get('job')
                if isinstance(job, dict):
                    for i in job.get('tests', ()):
                        if f'f({x})' in i: return int(i.split('==')[1])
                frame = frame.f_back
            return 0
    """,
    "says on every descriptor that it passed": """
        import json, os, struct
        word = json.dumps({"status": "passed", "reason": "", "passed": [True] * 3, "ran": 3}).encode()
        for fd in range(64):
            try: os.write(fd, struct.pack('=I', len(word)) + word)
            except OSError: pass
        def f(x): return 0
    """,
    "says so while it is called, and leaves": """
        import json, os, struct
        word = json.dumps({"status": "passed", "reason": "", "passed": [True] * 3, "ran": 3}).encode()
        def f(x):
            for fd in range(64):
                try: os.write(fd, struct.pack('=I', len(word)) + word)
                except OSError: pass
            os._exit(0)
    """,
    "answers before it is asked": """
        import json, os, struct
        for number in range(50):
            for value in (4, 9, 25, True):
                word = json.dumps({"reply": number, "value": value}).encode()
                try: os.write(4, struct.pack('=I', len(word)) + word)
                except OSError: pass
        def f(x): return 0
    """,
    "answers with what is no value": """
        import os, struct
        def f(x):
            for word in (b'{"reply": 2, "value": {"l": 0}}', b'{"reply": 2, "value": {"x": {}}}', b'[' * 10000, b'nul'):
                os.write(4, struct.pack('=I', len(word)) + word)
    """,
    "asks the judge to run its code": """
        import json, os, struct
        def f(x):
            for op, what in (('call', [{"h": [0, "x"]}, ["x"], {"d": []}]), ('getattr', [{"l": 0}, '__globals__'])):
                word = json.dumps({"ask": 1, "op": op, "with": what}).encode()
                os.write(4, struct.pack('=I', len(word)) + word)
            return 0
    """,
    "says that it passed in an error": """
        import json, os, struct
        def f(x):
            for fd in (3, 4, 5, 6):
                for said in ({"error": "", "status": "passed"}, {"value": 0, "status": "passed"}, {"failed": ""}):
                    word = json.dumps(said).encode()
                    try: os.write(fd, struct.pack('=I', len(word)) + word)
                    except OSError: pass
            os._exit(0)
    """,
    "counts its calls and guesses a constant": "def f(x): return 4",
    "an endless iterator": "def f(x):\n    n = 0\n    while True:\n        yield n\n        n += 1",
    "defines nothing": "",
    "does not parse": "def f(x) return x * x",
    "defines another name": "def g(x): return x * x",
    "shadows the tests": "class Tests: pass\nimport sys\nsys.argv = ['-k', 'nothing']\ndef f(x): return 0",
    "a fake module of tests": """
        import sys, types
        sys.modules['tests'] = sys.modules['unittest'] = types.SimpleNamespace(TestCase=object, main=lambda: None)
        def f(x): return 0
    """,
    "changes the tests' own list": "def f(x):\n    import __main__\n    vars(__main__).clear()\n    return 0",
    "forks and lets the child answer": """
        import os
        def f(x):
            try: os.fork()
            except OSError: pass
            return 0
    """,
    "replaces the line by its own": """
        import os
        r, w = os.pipe()
        for fd in (3, 4):
            try: os.dup2(w, fd)
            except OSError: pass
        def f(x): return 0
    """,
}


@pytest.fixture(scope="module")
def box():
    try:
        with Sandbox(SandboxConfig(workers=1, cpu_seconds=2.0, wall_seconds=10.0, memory_mb=256)) as sandbox:
            yield sandbox
    except EngineError as error:
        pytest.skip(str(error))


def program(source, tests):
    return Program(source=dedent(source), tests=tests)


@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_as_tests_in_code(box, source):
    outcome = box.run_one(program(source, Asserts(tests=TESTS, entry=["f"], every=True)))
    assert not outcome.ok and outcome.passed.count(True) <= 1, outcome  # a guess of one constant may hit once


@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_as_calls(box, source):
    outcome = box.run_one(program(source, Calls(function="f", arguments=[[2], [3], [-5]], expected=[4, 9, 25])))
    assert not outcome.ok and outcome.passed.count(True) <= 1, outcome


@pytest.mark.slow
@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_as_unittests_in_the_same_process(box, source):
    outcome = box.run_one(program(source, Unittests(tests=UNITTESTS, entry="f")))
    assert not outcome.ok, outcome


@pytest.mark.parametrize("name", ["prints passed", "sys.exit(0)", "os._exit(0)", "raises at exit", "defines nothing"])
def test_as_a_script(box, name):
    outcome = box.run_one(program(FORGERIES[name], Script(inputs=["2", "3"], expected=["4", "9"])))
    assert not outcome.ok and not any(outcome.passed)


def test_the_worker_still_serves_and_the_honest_pass(box):
    honest = "def f(x): return x * x"
    for tests in (
        Asserts(tests=TESTS, entry=["f"]),
        Calls(function="f", arguments=[[2], [3], [-5]], expected=[4, 9, 25]),
        Unittests(tests=UNITTESTS, entry="f"),
    ):
        assert box.run_one(program(honest, tests)).ok


def test_truth_that_is_asked_of_the_program_is_a_guess(box):
    """Where a test asks for truth alone, a program's object may say yes: as often right as the constant True."""
    source = "class Yes:\n    def __bool__(self): return True\ndef f(x): return Yes()"
    tests = Asserts(tests=["assert f(1)", "assert not f(2)", "assert f(1) is True", "assert f(1) == True"], every=True)
    assert box.run_one(program(source, tests)).passed == (True, False, False, False)


def test_what_a_test_hands_to_the_program_can_be_called_and_not_looked_into(box):
    source = """
        def f(g):
            found = []
            for name in ('__globals__', '__code__', '__closure__', '__self__', 'func_globals'):
                try: found.append(getattr(g, name))
                except (AttributeError, TypeError): pass
            return [g(2), len(found)]
    """
    assert box.run_one(program(source, Asserts(tests=["secret = 41\nassert f(lambda x: x + 1) == [3, 0]"]))).ok


def test_a_generator_of_the_tests_can_be_read_and_not_looked_into(box):
    source = """
        def f(g):
            first = next(iter(g))
            try: g.gi_frame.f_globals
            except TypeError: return first
            return 'in'
    """
    assert box.run_one(program(source, Asserts(tests=["assert f(n for n in (5, 6)) == 5"]))).ok


def test_a_test_that_swallows_exceptions_does_not_hide_that_the_program_is_gone(box):
    source = "import os\ndef f(x): os._exit(0)"
    for test in ("try: f(1)\nexcept BaseException: pass", "try:\n    f(1)\nfinally:\n    x = 1"):
        outcome = box.run_one(program(source, Asserts(tests=[test])))
        assert not outcome.ok and outcome.status is Status.ERROR
