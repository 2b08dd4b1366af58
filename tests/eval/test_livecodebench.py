"""LiveCodeBench: rows in the columns it is published in, its cases in the real sandbox, its rules of what is equal."""

import base64
import importlib.util
import json
import os
import pickle
import re
import sys
import zlib
from contextlib import closing
from pathlib import Path

import isolation_here
import pytest

from sq.core.config import build
from sq.core.errors import ConfigError, EngineError, RowError
from sq.core.ledger import read_rows
from sq.domains.code.extract import extract_program
from sq.eval import code
from sq.eval.benchmarks import Problems
from sq.eval.code import CodeBenchmark, CodeChecker, program_of
from sq.eval.code_livecodebench import PRELUDE, cases_of, read_livecodebench
from sq.sandbox.cases import output_differs, value_differs
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Calls, Cases, Program


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CODE = load("test_code")
OWN, evaluated, problems_of, written = CODE.OWN, CODE.evaluated, CODE.problems_of, CODE.written
HALVES, PAIRS = OWN.LIVECODEBENCH
SUM = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
CALLED = {"inputs": ["[3, 4]\n1"], "outputs": ["[5, 5]"], "function": "Solution.f"}


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def box(request):
    limits = {"cpu_seconds": 1, "wall_seconds": 20, "memory_mb": 512, "output_mb": 1, "workers": 1}
    try:
        with Sandbox(SandboxConfig(isolation=request.param, **limits)) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)


@pytest.mark.parametrize("row", OWN.LIVECODEBENCH, ids=["stdin", "functional"])
def test_a_row_as_it_is_published(row, box):
    question, code = read_livecodebench(row)
    assert row["question_content"] in question and row["starter_code"].strip() in question
    assert len(cases_of(code).inputs) == 3, "the public ones and the private ones"
    assert box.run_one(program_of(code, row["code"])).ok
    wrong = box.run_one(program_of(code, row["wrong"]))
    assert wrong.status == "failed" and wrong.reason.startswith("test ") and False in wrong.passed


@pytest.mark.parametrize(
    ("source", "status", "reason"),
    [
        ("print(sum(map(int, input().split())))", "passed", ""),
        ("import sys\nfor line in sys.stdin: print(f' {sum(map(int, line.split()))}.00 \\n')", "passed", ""),
        ("import sys; sys.stdout.buffer.write(b'%d' % sum(map(int, sys.stdin.buffer.read().split())))", "passed", ""),
        ("import os; os.write(1, str(sum(map(int, open(0).read().split()))).encode())", "passed", ""),
        ("from __future__ import annotations\nprint(sum(map(int, stdin.readline().split()))); exit(1)", "passed", ""),
        ("from threading import *\nThread(target=lambda: print(sum(map(int, input().split())))).start()", "passed", ""),
        ("import atexit\natexit.register(print, sum(map(int, input().split())))", "passed", ""),
        ("def f(n): return n and 1 + f(n - 1)\nassert f(9000)\nprint(sum(map(int, input().split())))", "passed", ""),
        ("print(len(str(10 ** 9000)) - 8998 + 0 * int(input()[0]))", "failed", "test 2 of 2: line 1 is '3'"),
        ("print(3)", "failed", "test 2 of 2: line 1 is '3', and '7' is expected"),
        ("print(3, '\\n\\n', 4)", "failed", "test 1 of 2: prints 3 lines, and 1 are expected"),
        ("print(3); print(1 / 0)", "error", "test 1 of 2: ZeroDivisionError"),
        ("print(", "error", "test 1 of 2: SyntaxError"),
        ("while True: pass", "timeout", "test 1 of 2: used up 1 s"),
        ("x = bytearray(2 ** 30)", "memory", "test 1 of 2"),
        ("while True: print('x' * 100_000)", "output", "test 1 of 2: printed more than 1 MB"),
        ("import ctypes; print(3, flush=True); ctypes.string_at(0)", "crashed", "test 1 of 2: ended by SIGSEGV"),
        ("import os; print(3, flush=True); os._exit(3)", "error", "test 1 of 2: it ended before"),
        ("import os; print(3, flush=True); os.closerange(0, 99)\nwhile True: pass", "error", "test 1 of 2"),
        ("open('x', 'w').write('3'); print(3)\nassert input()[0] == '1'", "error", "test 2 of 2: AssertionError"),
    ],
)  # fmt: skip
def test_scripts(source, status, reason, box):
    result = box.run_one(Program(source=source, tests=Cases(**SUM, prelude=PRELUDE)))
    assert result.status == status and reason in result.reason
    assert result.ok is all(result.passed)


HOSTILE = {
    "what it is to print, among its files": """
import os
for fd in range(64):
    try: print(os.pread(fd, 99, 0))
    except OSError: pass""",
    "what it is to print, in its memory": """
import gc
print([x for x in gc.get_objects() if 'outputs' in str(type(x))] or 3)""",
    "a message in place of an output": """
import os, struct
m = b'{"status": "passed"}'
for fd in range(1, 64):
    try: os.write(fd, struct.pack('=I', len(m)) + m)
    except OSError: pass""",
    "what the test before it left": """
import os
try: print(open('kept').read())
except OSError: print(3)
open('kept', 'w').write('7')""",
    "its own input made another": "import os\nos.pwrite(0, b'3', 0)\nprint(3)",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_programs_that_would_pass_otherwise(source, box):
    assert not box.run_one(Program(source=source, tests=Cases(**SUM))).ok
    right = Program(source="print(sum(map(int, input().split())))", tests=Cases(**SUM))
    assert box.run_one(right).ok, "and the next program is graded as ever"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("class Solution:\n    def f(self, a: List[int], b): return [a[0] + 2, a[1] + b]", "passed"),
        ("class Solution:\n    def f(self, a, b): return a[0] + 2, 5.0", "passed"),
        ("def f(a, b): return [5, 5]", "passed"),
        ("class Solution:\n    def f(self, a, b): return [5, 5.0000001]", "failed"),
        ("class Solution:\n    def f(self, a, b): return {5: 5}", "failed"),
        ("class Same:\n    def __eq__(self, o): return True\ndef f(a, b): return Same()", "failed"),
        ("from decimal import Decimal\ndef f(a, b): return [Decimal('sNaN'), 5]", "failed"),
        ("class Solution:\n    def g(self, a, b): return [5, 5]", "error"),
        ("class Solution:\n    def __init__(self, x): pass\n    def f(self, a, b): return [5, 5]", "error"),
        ("class Solution:\n    def f(self, a): return [5, 5]", "failed"),
    ],
)
def test_functions(source, status, box):
    assert box.run_one(Program(source=source, tests=Cases(**CALLED, prelude=PRELUDE))).status == status


def test_a_value_that_cannot_be_compared_is_equal_to_nothing(box):
    source = "from decimal import Decimal\ndef f(): return Decimal('sNaN')"
    assert box.run_one(Program(source=source, tests=Calls(function="f", arguments=[[]], expected=[4]))).passed == (
        False,
    )


@pytest.mark.parametrize(
    ("output", "expected", "equal"),
    [
        ("1 2\n3", " 1 2 \n3\n\n", True), ("", "\n", True), ("1.0 2e1", "1 20", True), ("Yes", "yes", False),
        ("50000000000000000", "50000000000000001", False), ("0.30000000000000004", "0.3", False), ("nan", "nan", True),
        ("sNaN", "1", False), ("1 2", "1  2", True), ("a 2", "a  2", False), ("1\n\n2", "1\n2", False),
        ("1 2", "1", False),
    ],
)  # fmt: skip
def test_what_is_printed_is_compared_as_the_benchmark_does(output, expected, equal):
    assert (output_differs(output, expected) == "") is equal


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        ((1, 2), "[1, 2]", True), ([(1, 2)], "[[1, 2]]", False), (1, "true", True), (0.1 + 0.2, "0.3", False),
        ([10**5000], "1", False),
    ],
)  # fmt: skip
def test_what_is_given_is_compared_as_the_benchmark_does(value, expected, equal):
    assert (value_differs(value, expected) == "") is equal


class Attack:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def packed(value):
    data = value if isinstance(value, bytes) else pickle.dumps(value)
    return base64.b64encode(zlib.compress(data)).decode()


ROW_FAULTS = [
    ({"private_test_cases": packed(Attack(os.system, ("touch /tmp/wrong",)))}, "a pickle of more than a text"),
    ({"private_test_cases": packed(Attack(eval, ("'[]'",)))}, "a pickle of more than a text"),
    ({"private_test_cases": packed(b"cposix\nsystem\n(S'true'\ntR.")}, "a pickle of more than a text (GLOBAL)"),
    ({"private_test_cases": packed(b"\x82\x01.")}, "a pickle of more than a text (EXT1)"),
    ({"private_test_cases": packed(["[]"])}, "a pickle of more than a text"),
    ({"private_test_cases": packed(b"\x80\x04.")}, "a pickle of 0 texts"),
    ({"private_test_cases": packed(b"\x80\x04\x8c")}, ""),
    ({"private_test_cases": base64.b64encode(b"no zlib").decode()}, "neither JSON nor base64 of zlib"),
    ({"private_test_cases": OWN.published([])[:-8]}, "cut off, or more than"),
    ({"private_test_cases": "[" * 100_000}, ""),
    ({"private_test_cases": None}, "neither JSON nor base64 of zlib"),
    ({"private_test_cases": "[1]"}, "no list of objects"),
    ({"public_test_cases": "[]", "private_test_cases": "[]"}, "there is no test"),
    ({"metadata": '{"func_name": "a.b"}'}, "the func_name of its metadata cannot be called: 'a.b'"),
    ({"metadata": '{"func_name": "f"}'}, "row"),
    ({"starter_code": "class Solution: pass"}, "it has starter_code, and its metadata no func_name"),
]


@pytest.mark.parametrize(("change", "why"), ROW_FAULTS)
def test_rows_that_cannot_be_used(tmp_path, change, why):
    with pytest.raises(RowError, match="no usable problem.*" + re.escape(why)):
        problems_of(tmp_path, "LIVECODEBENCH", [{**HALVES, **change}])


@pytest.mark.slow
def test_cases_that_would_fill_the_memory_are_refused():
    with pytest.raises(ValueError, match="more than"):
        read_livecodebench(
            {**HALVES, "private_test_cases": base64.b64encode(zlib.compress(bytes(2**30 + 1), 1)).decode()}
        )


@pytest.mark.parametrize(
    ("window", "limit", "ids"),
    [
        ({}, None, ["own001_a", "3001"]), ({}, 1, ["own001_a"]), ({"since": "2024-07-01"}, 1, ["3001"]),
        ({"since": "2024-06-30", "until": "2024-08-03"}, None, ["own001_a", "3001"]),
        ({"until": "2024-08-02"}, None, ["own001_a"]),
    ],
)  # fmt: skip
def test_a_window_of_contests(tmp_path, window, limit, ids):
    benchmark, _ = problems_of(tmp_path, "LIVECODEBENCH", **window)
    assert [p["source_id"] for p in benchmark.load(limit, 0).by_id.values()] == ids


def test_mistakes_in_the_window(tmp_path):
    with pytest.raises(RowError, match="no contest is from since=2025-01-01 to until=None"):
        problems_of(tmp_path, "LIVECODEBENCH", since="2025-01-01")
    with pytest.raises(RowError, match="contest_date='soon' is no date"):
        problems_of(tmp_path, "LIVECODEBENCH", [{**HALVES, "contest_date": "soon"}], since="2025-01-01")
    for settings, message in [
        *(({"until": day}, f"until='{day}' is no day like 2024-08-01") for day in ("August", "20240801", "2024-W31-4")),
        ({"since": "2025-01-02", "until": "2025-01-01"}, "since=2025-01-02 is after until=2025-01-01"),
        ({"style": "livecodebench", "ask": "complete"}, "ask=complete: LiveCodeBench has no prompt"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build({"_target_": "sq.eval.code.CodeBenchmark", "name": "x", **settings})


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("```python\ndef f(x): return x\n```\nSo:\n```python\nprint(f(1))\n```", "def f(x): return x\n\nprint(f(1))"),
        ("```python\nprint(int(input()))\n```\nFor 3 it prints\n```\n3\n```", "print(int(input()))"),
        ("First:\n```python\nprint(1)\n```\nBetter:\n```python\nprint(2)\n```", "print(2)"),
        ("n = int(input())\nprint(n)", "n = int(input())\nprint(n)"),
    ],
)  # fmt: skip
def test_the_script_of_an_answer(answer, source):
    assert extract_program(answer, entry=None).source == source


def test_cases_are_unpacked_program_by_program(monkeypatch):
    unpacked = []
    monkeypatch.setattr(code, "cases_of", lambda of: unpacked.append(1) or cases_of(of))
    problems = Problems(by_id={"a": {"id": "a", "code": read_livecodebench(HALVES)[1]}})
    checker = CodeChecker(problems, SandboxConfig(workers=1))
    answer = {"item": "a", "prediction": f"```python\n{HALVES['code']}```", "prediction_finish_reason": "stop"}
    held = []

    class Pool(Sandbox):
        def run(self, programs):
            for result in super().run(programs):
                held.append(len(unpacked) - len(held))
                yield result

    monkeypatch.setattr(code, "Sandbox", Pool)
    with closing(checker):
        assert all(grade["tests"]["correct"] for grade in checker.grade([answer] * 12))
    assert len(held) == 12 and max(held) == 4


def test_a_whole_evaluation(monkeypatch, random_tiny, tmp_path):
    right = f"So:\n```python\n{HALVES['code']}```"
    texts = [right, right, f"```python\n{PAIRS['wrong']}```"]
    path = written(tmp_path, "LIVECODEBENCH", [HALVES, {**HALVES, "question_content": "Halve."}, PAIRS])
    figures = evaluated(monkeypatch, random_tiny, tmp_path, path, texts, name="livecodebench")[1]
    assert [figures[f"accuracy{group}"] for group in ("", "_level_easy", "_level_hard")] == pytest.approx([2 / 3, 1, 0])
    assert figures["accuracy_topic_atcoder"] == 1
    reasons = [s["reason"] for s in read_rows(tmp_path / "ev/livecodebench/scores")]
    assert reasons[1:] == ["passed", "failed: test 2 of 3: gives [[1, 3]], and [] is expected"]
    assert json.loads(next(read_rows(tmp_path / "ev/livecodebench/answers"))["reference"]) == json.loads(
        HALVES["public_test_cases"]
    )


def test_its_files_are_read_in_order_from_their_directory_and_what_is_left_out_is_named(tmp_path, caplog):
    directory = tmp_path / "code_generation_lite"
    directory.mkdir()
    (directory / "code_generation_lite.py").write_text("")
    for number, name in enumerate(["test.jsonl", "test2.jsonl", "test6.jsonl"]):
        rows = [{**row, "question_id": f"{number}{i}"} for i, row in enumerate((HALVES, PAIRS))]
        if number == 1:
            rows[1]["public_test_cases"] = "[1"
        written(tmp_path, "LIVECODEBENCH", rows).rename(directory / name)
    for settings in ({}, {"split": "test"}):
        found = build({"name": "lcb", "path": str(directory), **settings}, CodeBenchmark).load(None, 0)
        assert [p["source_id"] for p in found.by_id.values()] == ["00", "01", "10", "20", "21"]
    assert "code_generation_lite, row 2 (question_id 11): " in caplog.text
    (directory / "train.jsonl").write_text("{}\n")
    assert len(build({"name": "lcb", "path": str(directory)}, CodeBenchmark).load(None, 0).by_id) == 5
    with pytest.raises(RowError, match=r"has no split 'dev'; it has .*lcb\.path, \.split"):
        build({"name": "lcb", "path": str(directory), "split": "dev"}, CodeBenchmark).load(None, 0)
