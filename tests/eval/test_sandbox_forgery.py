"""Programs that try to be called right without being right. None of them may pass, and all that is honest must."""

from pathlib import Path
from textwrap import dedent

import isolation_here
import pytest
import yaml

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
FORGERIES = yaml.safe_load(Path(__file__).with_name("forgeries.yaml").read_text())


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
