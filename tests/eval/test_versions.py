"""What decides a grade and a seed, and what a run loads before its first answer."""

import shutil
import subprocess
import sys
from pathlib import Path

from sq.eval import checkers
from sq.eval.prompting import seed_of

ROOT = Path(__file__).parents[2]


def test_any_change_of_the_graders_code_is_another_grader(tmp_path, monkeypatch):
    shutil.copytree(Path(checkers.__file__).parent, tmp_path / "eval")
    monkeypatch.setattr(checkers, "__file__", str(tmp_path / "eval" / "checkers.py"))
    (tmp_path / "core").mkdir()
    thinking = shutil.copy(checkers.thinking.__file__, tmp_path / "core")
    monkeypatch.setattr(checkers.thinking, "__file__", thinking)
    version = checkers.grader_version.__wrapped__
    assert version() == checkers.grader_version()
    code = "import sys, sq.eval.grade; print(*[m for m in sys.modules if m.startswith('sq.eval.')])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(modules) > 20
    for module in set(modules) - {"sq.eval.equal", "sq.eval.grader_config"}:
        before = version()
        with (tmp_path / module.removeprefix("sq.").replace(".", "/")).with_suffix(".py").open("a") as file:
            file.write("#")
        assert version() != before, module


def test_the_seed_of_an_answer_is_of_its_problem_and_of_the_run():
    assert len({seed_of(f"{i:032x}", seed) for i in range(50) for seed in range(2)}) == 100


def test_the_first_answer_does_not_wait_for_what_only_metrics_need():
    code = "import sys, sq.eval.run; print([m for m in ('torchmetrics', 'sympy', 'vllm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
