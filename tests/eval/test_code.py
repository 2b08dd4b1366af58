"""Code benchmarks: references pass and faults do not, through the sandbox and through a whole evaluation."""

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import isolation_here
import pytest

from sq.core.config import build
from sq.core.errors import ConfigError, EngineError, RowError
from sq.core.ledger import read_rejects, read_rows
from sq.engine.base import Completion, Result
from sq.eval.code import CodeBenchmark, program_of
from sq.eval.paper import base_of, paper_figure
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OWN, SLOW = load("code_problems"), load("slow_engine")
SETS = {"HUMANEVAL": 3, "MBPP": 3, "SANITIZED": 1, "BIGCODEBENCH": 1}


@pytest.fixture(scope="module", autouse=True)
def sandboxed():
    try:
        Sandbox(SandboxConfig(workers=1)).close()
    except EngineError as error:
        isolation_here.refused("auto", error)


def written(tmp_path, name, rows=None):
    path = tmp_path / f"{name.lower()}.jsonl"
    kept = [{k: v for k, v in row.items() if k != "wrong"} for row in rows or vars(OWN)[name]]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return path


def problems_of(tmp_path, name, rows=None, **settings):
    benchmark = CodeBenchmark(name=name.lower(), path=str(written(tmp_path, name, rows)), **settings)
    return benchmark, benchmark.load(None, 0)


def wrong_of(row, problem):
    fault = row["wrong"]
    return fault if fault.startswith(("def", "class", "import")) else problem["code"]["prompt"] + fault


@pytest.mark.parametrize("name", SETS)
def test_every_reference_passes_and_every_fault_fails(tmp_path, name):
    _, problems = problems_of(tmp_path, name)
    assert len(problems.by_id) == SETS[name] and not problems.unusable
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        for row, problem in zip(vars(OWN)[name], problems.by_id.values(), strict=True):
            code = problem["code"]
            right = sandbox.run_one(program_of(code, code["solution"]))
            wrong = sandbox.run_one(program_of(code, wrong_of(row, problem)))
            assert right.ok, (row["task_id"], right)
            assert not wrong.ok, (row["task_id"], wrong)


def test_the_plus_versions_tests_which_use_numpy(tmp_path):
    _, problems = problems_of(tmp_path, "PLUS", packages=True)
    (problem,) = problems.by_id.values()
    with Sandbox(SandboxConfig(workers=1, packages=True, warm=["numpy"], memory_mb=4096)) as sandbox:
        assert sandbox.run_one(program_of(problem["code"], problem["code"]["solution"])).ok
        assert not sandbox.run_one(program_of(problem["code"], wrong_of(OWN.PLUS[0], problem))).ok


def test_challenge_tests_count_when_asked_for(tmp_path):
    fault = "def shared(a, b):\n  return tuple(sorted(x for x in a if x in b))"
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        for challenge, passes in ((False, True), (True, False)):
            _, problems = problems_of(tmp_path, "MBPP", OWN.MBPP[:1], challenge=challenge)
            (problem,) = problems.by_id.values()
            assert sandbox.run_one(program_of(problem["code"], fault)).ok is passes


def test_a_question_says_what_is_asked(tmp_path):
    _, problems = problems_of(tmp_path, "MBPP")
    first = next(iter(problems.by_id.values()))
    assert (
        "two tuples share" in first["question"] and "assert shared((3, 4, 5), (5, 7, 4)) == (4, 5)" in first["question"]
    )
    assert first["code"]["entry"] == ["shared"] and first["source_id"] == "1"
    _, problems = problems_of(tmp_path, "HUMANEVAL")
    assert "```python\nfrom typing import List" in next(iter(problems.by_id.values()))["question"]
    benchmark, problems = problems_of(tmp_path, "HUMANEVAL", ask="complete")
    assert next(iter(problems.by_id.values()))["question"] == OWN.HUMANEVAL[0]["prompt"]
    assert benchmark.instruction is None and not benchmark.form_of(None).chat


def test_problems_that_cannot_be_used_are_logged_and_left_out(tmp_path, caplog):
    broken = [{**OWN.HUMANEVAL[0], "test": "def check(:"}, {**OWN.HUMANEVAL[1], "entry_point": ""}, OWN.HUMANEVAL[2]]
    _, problems = problems_of(tmp_path, "HUMANEVAL", broken)
    assert len(problems.by_id) == 1 and len(problems.unusable) == 2
    assert "its tests do not parse" in caplog.text and "entry_point" in caplog.text
    with pytest.raises(RowError, match="no usable problem.*are of no known style"):
        problems_of(tmp_path, "HUMANEVAL", [{"task_id": "1", "prompt": "Add."}])
    with pytest.raises(ConfigError, match="say where it is: benchmark.own.path=FILE"):
        CodeBenchmark(name="own").load(None, 0)


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("HUMANEVAL", {"test": "x = 1"}, "its test defines no function check"),
        ("HUMANEVAL", {"canonical_solution": 5}, "its canonical_solution is of type int, and text is wanted"),
        ("MBPP", {"test_list": []}, "there is no test"),
        ("MBPP", {"test_list": [None]}, "its test_list is no list of texts"),
        ("MBPP", {"test_list": 3}, "its test_list is no list of texts"),
        ("MBPP", {"test_list": ["# nothing"]}, "a test asserts nothing: '# nothing'"),
        ("MBPP", {"code": 5}, "its code is of type int"),
        ("MBPP", {"test_setup_code": 5}, "its test_setup_code is of type int"),
        ("BIGCODEBENCH", {"test": "x = 1"}, "there is no test in a class of unittest"),
    ],
)
def test_tests_that_anything_would_pass_are_no_tests(tmp_path, kind, change, why):
    row = {**getattr(OWN, kind)[0], **change}
    with pytest.raises(RowError, match=re.escape(why)):
        problems_of(tmp_path, kind, [row])


@pytest.mark.parametrize("listed", [json.dumps, repr])
def test_a_list_of_tests_may_be_a_text(tmp_path, listed):
    row = OWN.MBPP[0]
    texts = {"test_list": listed(row["test_list"]), "test_imports": "import math"}
    _, problems = problems_of(tmp_path, "MBPP", [{**row, **texts}])
    (problem,) = problems.by_id.values()
    assert problem["code"]["tests"] == row["test_list"] and problem["code"]["setup"] == "import math"


class Answers:
    """An engine that says what the test wrote down for each problem, in order of the file."""

    fingerprint = "said"

    def __init__(self, texts):
        self.texts = iter(texts)

    def generate(self, requests):
        for request in requests:
            said = next(self.texts)
            text, reason = said if isinstance(said, tuple) else (said, "stop")
            completions = tuple(
                Completion(text=text, finish_reason=reason, tokens=5) for _ in range(request.sampling.n)
            )
            yield Result(key=request.key, completions=completions, prompt_tokens=3)

    def close(self):
        pass


def evaluated(monkeypatch, model, tmp_path, path, texts, *overrides, name="humaneval"):
    job = SLOW.job(model, str(tmp_path / "ev"), f"benchmark=[{name}]", f"++benchmark.{name}.path={path}", *overrides)
    monkeypatch.setattr(type(job.engine), "create", lambda self, model: Answers(texts))
    return job, job.run()[name]


def test_a_whole_evaluation(monkeypatch, random_tiny, tmp_path, capsys):
    right = OWN.HUMANEVAL[0]["prompt"] + OWN.HUMANEVAL[0]["canonical_solution"]
    texts = [
        f"The idea is simple.\n```python\n{right}```\nIt is called so:\n```python\nprint(longest_run([1]))\n```",
        "```python\ndef root(cs):\n    return cs[0]\n```",
        ("```python\ndef twice(text, times=2):\n    return text * ti", "length"),
    ]
    path = written(tmp_path, "HUMANEVAL")
    job, figures = evaluated(monkeypatch, random_tiny, tmp_path, path, texts, "++base=Qwen2.5-Coder-7B")
    assert figures["accuracy"] == pytest.approx(1 / 3) and figures["unparsed"] == pytest.approx(1 / 3)
    scores = list(read_rows(tmp_path / "ev/humaneval/scores"))
    assert [s["verdict"] for s in scores] == ["correct", "wrong", "unparsed"] and {s["profile"] for s in scores} == {
        "tests"
    }
    assert scores[2]["reason"] == "cut off before a program's end" and "AssertionError" in scores[1]["reason"]
    assert scores[0]["extracted"].startswith("from typing import List")
    shown = capsys.readouterr().out
    assert re.search(r"humaneval\s+tests\s+3\s+33\.3%.*86\.6%", shown)
    monkeypatch.setattr(type(job.engine), "create", lambda *a: pytest.fail("a finished evaluation starts no engine"))
    assert job.run()["humaneval"] == figures
    job = replace(job, sandbox=SandboxConfig(cpu_seconds=9))
    assert job.run()["humaneval"] == figures, "other limits: graded again, not asked again"
    assert len([p for p in (tmp_path / "ev/humaneval").iterdir() if p.name.startswith("scores-")]) == 1


def test_several_answers_give_pass_at_k(monkeypatch, random_tiny, tmp_path):
    right = f"```python\n{OWN.HUMANEVAL[0]['prompt']}{OWN.HUMANEVAL[0]['canonical_solution']}```"
    path = written(tmp_path, "HUMANEVAL", OWN.HUMANEVAL[:1])
    _, figures = evaluated(monkeypatch, random_tiny, tmp_path, path, [right], "n=4", "temperature=0.8", "++k=[2]")
    assert figures["accuracy"] == figures["pass_at_2"] == 1.0


def test_a_continuation_is_asked_for_without_a_template(monkeypatch, random_tiny, tmp_path):
    texts = [row["canonical_solution"] + "\n\ndef more(): pass\n" for row in OWN.HUMANEVAL]
    more = ("++benchmark.humaneval.ask=complete", "format=chat")
    _, figures = evaluated(monkeypatch, random_tiny, tmp_path, written(tmp_path, "HUMANEVAL"), texts, *more)
    assert figures["accuracy"] == 1.0


def test_an_endless_program_is_a_timeout_and_the_others_are_graded(monkeypatch, random_tiny, tmp_path):
    texts = ["```python\ndef longest_run(values):\n    while True: pass\n```", *["```python\nx = 1\n```"] * 2]
    path, limit = written(tmp_path, "HUMANEVAL"), "++sandbox.cpu_seconds=1"
    _, figures = evaluated(monkeypatch, random_tiny, tmp_path, path, texts, limit)
    assert figures["timeout"] == pytest.approx(1 / 3)


def test_where_no_reference_passes_it_is_not_the_model_that_is_wrong(monkeypatch, random_tiny, tmp_path):
    rows = [{**row, "test": "import a_package_that_is_not_there\n" + row["test"]} for row in OWN.HUMANEVAL]
    with pytest.raises(RowError, match="not one of 3 reference solutions passes.*a_package_that_is_not_there"):
        evaluated(monkeypatch, random_tiny, tmp_path, written(tmp_path, "HUMANEVAL", rows), ["x"] * 3)


def test_rejected_problems_are_in_the_ledger(monkeypatch, random_tiny, tmp_path):
    rows = [{**OWN.HUMANEVAL[0], "test": "def check(:"}, *OWN.HUMANEVAL[1:]]
    _, figures = evaluated(
        monkeypatch, random_tiny, tmp_path, written(tmp_path, "HUMANEVAL", rows), ["I cannot say."] * 2
    )
    assert figures["left_out"] == 1 and figures["unparsed"] == 1.0
    assert [r["reason"] for r in read_rejects(tmp_path / "ev/humaneval/answers")] == ["reference"]


def test_the_papers_scores():
    base = base_of("Qwen/Qwen2.5-Coder-7B")
    assert [paper_figure(base, b) for b in ("humaneval", "mbpp", "bigcodebench")] == [86.6, 83.1, 40.0]
    assert paper_figure(base, "gsm8k") is None and paper_figure("Mistral-7B", "humaneval") is None


def test_a_mistake_in_the_settings():
    with pytest.raises(ConfigError, match="ask='ask' is not one of instruct, complete"):
        build({"_target_": "sq.eval.code.CodeBenchmark", "name": "x", "ask": "ask"})


def test_a_prompt_without_a_body_is_a_context_all_the_same(tmp_path):
    row = {**OWN.HUMANEVAL[2], "prompt": "SCALE = 2\ndef twice(text, times=SCALE):\n"}
    row["test"] += "    assert SCALE == 2\n"
    _, problems = problems_of(tmp_path, "HUMANEVAL", [row])
    (problem,) = problems.by_id.values()
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        assert sandbox.run_one(program_of(problem["code"], problem["code"]["solution"])).ok


def test_a_function_that_has_the_name_of_a_builtin(tmp_path):
    row = {**OWN.MBPP[0], "code": "def sum(a, b):\n  return a * b", "test_list": ["assert sum(2, 3) == 6"]}
    _, problems = problems_of(tmp_path, "MBPP", [row])
    (problem,) = problems.by_id.values()
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        assert sandbox.run_one(program_of(problem["code"], row["code"])).ok
        assert not sandbox.run_one(program_of(problem["code"], "def sum(a, b): return 5")).ok
