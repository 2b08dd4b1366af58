"""Every planted fault of scripts/mutants/ can still be planted, and the tests that are to catch it are there."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutants.py"


def load():
    spec = importlib.util.spec_from_file_location("mutants", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


mutants = load()
TABLE = mutants.table()


def test_every_fault_can_be_planted_and_its_tests_are_there():
    problems = [f"{mutant}: {problem}" for mutant in TABLE if (problem := mutant.problem())]
    assert not problems, "fix these entries of scripts/mutants/:\n" + "\n".join(problems)


def test_there_are_faults_enough_and_none_twice():
    assert len(TABLE) >= 60 and len({(m.file, m.old, m.new) for m in TABLE}) == len(TABLE)
    assert len({str(m) for m in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("new", "seconds", "word"), [("2", 60, "caught"), ("3", 2, "hung")])
def test_a_fault_whose_tests_do_not_end_is_told_from_one_that_they_see(new, seconds, word, tmp_path):
    (tmp_path / "planted.py").write_text("x = 1\n")
    body = "def test_x():\n    while planted.x == 3:\n        time.sleep(1)\n    assert planted.x != 2\n"
    (tmp_path / "test_it.py").write_text("import time\nimport planted\n" + body)
    mutant = mutants.Mutant(file="planted.py", fault="x", old="1", new=new, tests=("test_it.py",))
    assert mutants.plant(tmp_path, mutant, seconds)[0] == word
    assert (tmp_path / "planted.py").read_text() == "x = 1\n"
