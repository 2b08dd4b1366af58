"""Programs that try to be called right without being right. None of them may pass, and all that is honest must."""

from textwrap import dedent

import isolation_here
import pytest

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program, ProgramStatus, Unittests

TESTS = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-5) == 25"]
UNITTESTS = """
import unittest
class Tests(unittest.TestCase):
    def test_two(self):
        result = f(2)
        self.assertEqual(result, 4)
    def test_three(self):
        result = f(3)
        self.assertEqual([result], [9])
    def test_minus_five(self):
        result = f(-5)
        self.assertTrue(result == 25)
"""
# Descriptor 5 is where answers go: of calls to whoever runs the sandbox, else to the judge, who asks on 4.
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
    """,
    "patches the tests when called": """
        def f(x):
            for kind in [k for k in globals().values() if isinstance(k, type)]:
                kind.assertEqual = kind.assertTrue = lambda *a, **k: None
            return 0
    """,
    "patches the test that calls": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                test = frame.f_locals.get('self')
                if hasattr(test, 'assertEqual'): test.assertEqual = test.assertTrue = lambda *a, **k: None
                frame = frame.f_back
            return 0
    """,
    "patches the tests from a thread": """
        import threading, time, unittest
        def patch():
            while True:
                unittest.TestCase.assertEqual = unittest.TestCase.assertTrue = lambda *a, **k: None
                time.sleep(0)
        threading.Thread(target=patch, daemon=True).start()
        def f(x):
            time.sleep(0.05)
            return 0
    """,
    "patches the result": """
        import unittest
        def f(x):
            unittest.TestResult.addFailure = unittest.TestResult.addError = lambda *a: None
            return 0
    """,
    "makes the result forget": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for held in list(frame.f_locals.values()):
                    if hasattr(held, 'failures'): held.failures.clear(); held.errors.clear()
                    if hasattr(held, 'addFailure') and hasattr(held, 'addSuccess'):
                        held.addFailure = held.addError = lambda *a: None
                frame = frame.f_back
            return 0
    """,
    "replaces the result": """
        import sys
        class Result:
            def __getattr__(self, name): return lambda *a, **k: None
        def f(x):
            frame = sys._getframe()
            while frame:
                outcome = frame.f_locals.get('outcome')
                if hasattr(outcome, 'result'): outcome.result = Result()
                frame = frame.f_back
            return 0
    """,
    "patches how unittest tells of errors": """
        import unittest.case
        unittest.case._addError = lambda *a: None
        def f(x):
            unittest.case._addError = lambda *a: None
            return 0
    """,
    "swallows exceptions in contextlib": """
        import contextlib
        contextlib._GeneratorContextManager.__exit__ = lambda *a: True
        def f(x): return 0
    """,
    "rewrites what is said": """
        import json
        encode, dumps = json.JSONEncoder.encode, json.dumps
        def passed(m): return {**m, 'status': 'passed', 'passed': 3} if isinstance(m, dict) and 'status' in m else m
        json.JSONEncoder.encode = lambda self, m: encode(self, passed(m))
        json.dumps = lambda m, **k: dumps(passed(m), **k)
        def f(x): return 0
    """,
    "skips the tests": "import unittest\ndef f(x): raise unittest.SkipTest('not today')",
    "stops the tests as unittest itself does": """
        from unittest.case import _ShouldStop
        def f(x): raise _ShouldStop
    """,
    "skips the tests when compared": """
        import unittest
        class Skips:
            def __eq__(self, other): raise unittest.SkipTest('not today')
            __hash__ = None
        def f(x): return Skips()
    """,
    "expects the tests to fail": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                if 'expecting_failure' in frame.f_locals: frame.f_locals['outcome'].expecting_failure = True
                frame = frame.f_back
            return 0
    """,
    "gives the tests other builtins": """
        import builtins, types, unittest
        class Case(unittest.TestCase): assertEqual = assertTrue = lambda *a, **k: None
        real, fake = builtins.__import__, types.SimpleNamespace(TestCase=Case)
        def fetch(name, *rest): return fake if name == 'unittest' else real(name, *rest)
        __builtins__ = {**vars(builtins), '__import__': fetch}
        def f(x): return 0
    """,
    "jumps over what it would fail": """
        import sys
        def f(x):
            test = sys._getframe().f_back
            while test.f_back and not test.f_code.co_name.startswith('test'): test = test.f_back
            def trace(frame, event, arg):
                if frame is test and event == 'line': frame.f_lineno = max(n for *_, n in test.f_code.co_lines() if n)
                return trace
            test.f_trace = trace
            sys.settrace(trace)
            return 0
    """,
    "__eq__ that is inherited": """
        class Base: __eq__ = lambda self, other: True
        class Yes(Base): __hash__ = None
        def f(x): return Yes()
    """,
    "__eq__ of a class that says it is from elsewhere": """
        class Yes:
            __module__ = 'builtins'
            __eq__ = lambda self, other: True
        def f(x): return Yes()
    """,
    "__eq__ by a function that is no function": """
        import functools
        class Yes: __eq__ = lambda self, other: True
        f = functools.partial(lambda kind, x: kind(), Yes)
    """,
    "__eq__ of what is called": """
        class Yes:
            __eq__ = lambda self, other: True
            def __call__(self, x): return self
        f = Yes()
    """,
    "numbers that agree with everything": """
        class Yes(float):
            __eq__ = __le__ = __ge__ = __lt__ = __gt__ = lambda self, other: True
            __sub__ = __rsub__ = __add__ = __abs__ = __round__ = lambda self, *other: self
            __hash__ = float.__hash__
        def f(x): return Yes(0)
    """,
    "a generator of every number": "def f(x): yield from range(100)",
    "answers when it is deleted": """
        import json, os, struct
        class Last:
            def __del__(self):
                word = json.dumps({"status": "passed", "reason": "", "passed": [True] * 3, "value": 4}).encode()
                for fd in range(3, 9):
                    try: os.write(fd, struct.pack('=I', len(word)) + word)
                    except OSError: pass
        def f(x):
            Last()
            return 0
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
        word = json.dumps({"status": "passed", "reason": "", "passed": [True] * 3}).encode()
        for fd in range(64):
            try: os.write(fd, struct.pack('=I', len(word)) + word)
            except OSError: pass
        def f(x): return 0
    """,
    "says so while it is called, and leaves": """
        import json, os, struct
        word = json.dumps({"status": "passed", "reason": "", "passed": 3}).encode()
        def f(x):
            for fd in range(64):
                try: os.write(fd, struct.pack('=I', len(word)) + word)
                except OSError: pass
            os._exit(0)
    """,
    "answers before it is asked": """
        import json, os, struct
        for number in range(50):
            for value in (25, 4, 9, True):
                word = json.dumps({"reply": number, "value": value}).encode()
                try: os.write(5, struct.pack('=I', len(word)) + word)
                except OSError: pass
        def f(x): return 0
    """,
    "answers with what is no value": """
        import os, struct
        def f(x):
            for word in (b'{"reply": 2, "value": {"l": 0}}', b'{"reply": 2, "value": {"x": {}}}', b'[' * 10000, b'nul'):
                os.write(5, struct.pack('=I', len(word)) + word)
    """,
    "asks the judge to run its code": """
        import json, os, struct
        def f(x):
            for op, what in (('call', [{"h": [0, "x"]}, ["x"], {"d": []}]), ('getattr', [{"l": 0}, '__globals__'])):
                word = json.dumps({"ask": 1, "op": op, "with": what}).encode()
                os.write(5, struct.pack('=I', len(word)) + word)
            return 0
    """,
    "has the judge make what equals everything": """
        import json, os, struct
        def say(message):
            word = json.dumps(message).encode()
            os.write(5, struct.pack('=I', len(word)) + word)
        def ask(*what):
            say({"ask": 1, "op": "call", "with": [*what, {"d": []}]})
            return json.loads(os.read(4, struct.unpack('=I', os.read(4, 4))[0]))["value"]["h"][0]
        def f(x):
            kind = ask({"n": "type"}, ["Yes", {"t": []}, {"d": [["__eq__", {"n": "Exception"}]]}])
            made = ask({"l": kind}, [])
            for number in range(2, 6): say({"reply": number, "value": {"l": made}})
            while True: os.read(4, 10**6)
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
        isolation_here.refused("auto", error)


def program(source, tests):
    return Program(source=dedent(source), tests=tests)


@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_as_tests_in_code(box, source):
    outcome = box.run_one(program(source, Asserts(tests=TESTS, entry=["f"])))
    assert not outcome.ok and outcome.passed.count(True) <= 1, outcome  # a guess of one constant may hit once


@pytest.mark.parametrize("source", FORGERIES.values(), ids=FORGERIES)
def test_as_calls(box, source):
    outcome = box.run_one(program(source, Calls(function="f", arguments=[[2], [3], [-5]], expected=[4, 9, 25])))
    assert not outcome.ok and outcome.passed.count(True) <= 1, outcome


SHARING_A_PROCESS_ALLOWS = {name for name in FORGERIES if name.startswith(("__eq__", "numbers that agree"))} | {
    "an int whose __eq__ always says yes", "a list whose elements are all equal", "a metaclass that says yes",
    "patches unittest when called", "patches the tests when called", "patches the test that calls",
    "patches the tests from a thread", "stops the tests as unittest itself does", "expects the tests to fail",
}  # fmt: skip
"""What `Unittests` cannot hold, as docs/sandbox.md says; a pass of these is not asserted either."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FORGERIES if name not in SHARING_A_PROCESS_ALLOWS])
def test_as_unittests_in_the_same_process(box, name):
    outcome = box.run_one(program(FORGERIES[name], Unittests(tests=UNITTESTS)))
    assert not outcome.ok, outcome


def test_the_worker_still_serves_and_the_honest_pass(box):
    honest = "def f(x): return x * x"
    for tests in (
        Asserts(tests=TESTS, entry=["f"]),
        Calls(function="f", arguments=[[2], [3], [-5]], expected=[4, 9, 25]),
        Unittests(tests=UNITTESTS),
    ):
        assert box.run_one(program(honest, tests)).ok


def test_what_honest_unittests_do(box):
    """Mocks of what the sandbox itself uses, skips and failures that are said beforehand, classes that keep things."""
    source = """
        import json, logging, os
        class Box:
            def __init__(self, v): self.v = v
        def f(x):
            logging.getLogger().setLevel(10)
            if isinstance(x, str):
                with open(x) as file: return json.load(file)
            if x < 0: raise ValueError('negative')
            return [Box(x)] + f(x - 1) if x else []
    """
    tests = """
import io, json, os, unittest
from unittest.mock import MagicMock, mock_open, patch
class Tests(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.made, cls.patcher = (lambda self: 3), patch('os.path.exists', return_value=True)
    def setUp(self):
        self.maxDiff = None
        self.patcher.start()
        self.addCleanup(self.patcher.stop)
    def test_value(self): self.assertEqual([b.v for b in f(3)], [3, 2, 1])
    def test_deep(self): self.assertEqual(len(f(700)), 700)
    @patch('builtins.open', new_callable=mock_open, read_data='{}')
    @patch('json.load', return_value={'a': 1})
    def test_mocks(self, load, opened):
        self.assertEqual(f('x'), {'a': 1})
        opened.assert_called_once_with('x')
    def test_raises(self):
        with self.assertRaisesRegex(ValueError, 'neg'): f(-1)
    def test_several(self):
        for i in range(3):
            with self.subTest(i=i): self.assertEqual(len(f(i)), i)
    @unittest.skip('elsewhere')
    def test_skipped(self): self.fail()
    def test_skips(self): self.skipTest('elsewhere')
    @unittest.expectedFailure
    def test_fails(self): self.assertEqual(len(f(1)), 2)
    def test_output(self):
        with patch('sys.stdout', new=io.StringIO()) as out:
            print(len(f(1)))
            self.assertEqual(out.getvalue(), '1\\n')
"""
    outcome = box.run_one(program(source, Unittests(tests=tests)))
    assert outcome.ok, outcome


def test_truth_that_is_asked_of_the_program_is_a_guess(box):
    """Where a test asks for truth alone, a program's object may say yes: as often right as the constant True."""
    source = "class Yes:\n    def __bool__(self): return True\ndef f(x): return Yes()"
    tests = {"assert f(1)": True, "assert not f(2)": False, "assert f(1) is True": False, "assert f(1) == True": False}
    assert {test: box.run_one(program(source, Asserts(tests=[test]))).ok for test in tests} == tests


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
        assert not outcome.ok and outcome.status is ProgramStatus.ERROR
