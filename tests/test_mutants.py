"""Every planted fault of scripts/mutants/ can still be planted, and the tests that are to catch it are there."""

import importlib.util
import sys
from pathlib import Path

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
    assert not problems, "mend these entries of scripts/mutants/:\n" + "\n".join(problems)


def test_there_are_faults_enough_and_none_twice():
    assert len(TABLE) >= 60 and len({(m.file, m.old, m.new) for m in TABLE}) == len(TABLE)
    assert len({str(m) for m in TABLE}) == len(TABLE)
