"""The code domain: programs found but never run here, tests in the sandbox, votes by what programs do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.core.prompts import Prompt
from sq.core.yes_no import YesNo
from sq.domains.base import Candidates
from sq.domains.code import CodeConfig
from sq.domains.code.extract import asserted, program_in, without_tests
from sq.domains.programs import problem
from sq.domains.programs.domain import ProgramsConfig
from sq.synth.filters.solvability import load_prompt

ADD = "def add(a, b):\n    return a + b"
SAME = "def add(x, y):\n    total = x\n    total += y\n    return total"
WRONG = "def add(a, b):\n    return a - b"
CALLS = json.dumps({"function": "add", "calls": [[[1, 2], 3], [[0, 0], 0], [[-4, 9], 5]]})


def block(source, mark="python"):
    return f"Some words.\n```{mark}\n{source}\n```\n"


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    path = tmp_path_factory.mktemp("code") / "seeds.jsonl"
    rows = [
        {"query": "Add two numbers.", "answer": block(ADD), "lang": "python"},
        {"query": "Say hello.", "answer": "Hi"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seeds = {"input": str(path), "columns": {"question": "query", "solution": "answer"}, "form": "plain"}
    return build({"seeds": seeds, "write_tests": True}, CodeConfig).create()


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (block(ADD), ADD),
        (block(ADD, ""), ADD),
        (block(ADD, "py"), ADD),
        (block(WRONG) + "No, better:\n" + block(ADD), ADD),
        (block(ADD) + "And tests:\n" + block("assert add(1, 2) == 3"), ADD),
        (block(ADD) + block("add(1, 2)"), ADD),
        (block(ADD) + block("def test_add():\n    assert add(1, 2) == 3"), ADD),
        (block(ADD) + block("def check(f):\n    assert f(1, 2) == 3"), ADD),
        (block("def add(a, b):\n    assert a\n    return a"), "def add(a, b):\n    assert a\n    return a"),
        (block("print(1 + 1)"), "print(1 + 1)"),
        (block(ADD).replace("```", "````"), ADD),
        ("1. Do:\n   ```python\n   def add(a, b):\n       return a + b\n   ```", ADD),
        (f"Here: ```python\n{ADD}\n```", ADD),
        (
            block("import math\nx = 1") + block("def add(a, b):\n    return math.trunc(a) + b"),
            "import math\n\ndef add(a, b):\n    return math.trunc(a) + b",
        ),
        (block(ADD, "javascript"), None),
        ("```python\n" + ADD, None),
        (block("def add(a, b:\n  return"), None),
        (block("assert add(1, 2) == 3"), None),
        (ADD, None),
        ("", None),
        ("~~~python\n" + ADD + "\n~~~", ADD),
        (block("(" * 5000), None),
        (block("x = " + "-" * 50_000 + "1"), None),
        (block("def f():\n    return '\x00'"), None),
    ],
)
def test_the_program_in_a_text(code, text, program):
    assert code.final_answer(text) == program


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read(before, inside):
    found = program_in(f"{before}\n```python\n{inside}\n```")
    assert found is None or isinstance(found, str)


def test_asserts_are_read_as_plain_values():
    text = block("assert f(1, [2]) == {'a': (3,)}\nassert g(x) == 2\nassert f(__import__('os')) == 1\nassert f(2) > 1")
    assert list(asserted(text)) == [("f", [1, [2]], {"a": (3,)})]
    assert list(asserted(block(f"{ADD}\ndef test_add():\n    assert add(1, 2) == 3"))) == [("add", [1, 2], 3)]


@pytest.mark.parametrize(
    ("beside", "left"),
    [
        ("assert add(1, 2) == 4", ""),
        ("print(add(1, 2))\nadd(3, 'x')", ""),
        ("import sys\nsys.setrecursionlimit(9999)", "import sys\nsys.setrecursionlimit(9999)"),
        ("LIMIT = 5", "LIMIT = 5"),
    ],
)
def test_what_a_program_says_of_itself_is_not_run(code, beside, left):
    assert without_tests(f"{ADD}\n{beside}").replace("\n\n", "\n").strip() == f"{ADD}\n{left}".strip()
    assert code.check(f"{ADD}\n{beside}", CALLS)
    assert without_tests("assert 1 == 2") == "assert 1 == 2" and without_tests("def (") == "def ("


@pytest.mark.parametrize(
    ("program", "reference", "right"),
    [
        (ADD, CALLS, True),
        (SAME, CALLS, True),
        (WRONG, CALLS, False),
        ("def other(a, b):\n    return a + b", CALLS, False),
        ("import sys\nsys.exit(0)", CALLS, False),
        (ADD, "assert add(1, 2) == 3\nassert add(5, 5) == 10", True),
        (WRONG, "assert add(1, 2) == 3", False),
        (ADD, "# a comment\n" + ADD, True),
        (ADD, WRONG, False),
    ],
)
def test_a_program_is_right_if_it_passes(code, program, reference, right):
    assert code.check(program, reference) is right


def test_many_programs_are_checked_as_each_alone(code):
    pairs = [(ADD, CALLS), (WRONG, CALLS), (ADD, ADD), (WRONG, ADD)]
    assert code.check_many(pairs) == [code.check(*pair) for pair in pairs] == [True, False, True, False]


def candidates(answers, responses, question=None):
    return Candidates(question=question or {"question": "?"}, answers=answers, responses=responses)


def test_the_vote_is_by_tests_that_most_agree_on(code):
    tests = ["assert add(1, 2) == 3\nassert add(2, 2) == 4", "assert add(2, 2) == 5", "assert add(0, 7) == 7"]
    programs = [ADD, SAME, WRONG]
    vote = code.vote(candidates(programs, [block(p) + block(t) for p, t in zip(programs, tests, strict=True)]))
    assert vote.keys[0] == vote.keys[1] != vote.keys[2]
    assert vote.agreement == pytest.approx(3 / 4)


def test_a_test_that_half_of_the_programs_pass_is_not_agreed_on(code):
    tests = ["assert add(2, 2) == 4", "assert add(2, 2) == 5"]
    vote = code.vote(candidates([ADD, WRONG], [block(ADD) + block(tests[0]), block(WRONG) + block(tests[1])]))
    assert vote.agreement == 0 and vote.keys[0] != vote.keys[1]


def test_a_vote_without_tests_is_by_text(code):
    vote = code.vote(candidates([ADD, f"# again\n{ADD}", SAME], ["", "", ""]))
    assert vote.keys[0] == vote.keys[1] != vote.keys[2] and vote.agreement is None


def test_programs_vote_by_what_they_give():
    domain = ProgramsConfig().create()
    row = next(domain.seeds(1, 0))
    right = domain.final_answer(row["solution"])
    other = right.replace(" return r", " r = r + 0\n return r")
    wrong = right.replace(" return r", " return r + 1")
    vote = domain.vote(candidates([right, wrong, other, "def f():\n    pass", "x = 1"], [""] * 5, question=row))
    assert vote.keys[0] == vote.keys[2] and len(set(vote.keys)) == 4
    assert domain.check(other, row["answer"]) and not domain.check(wrong, row["answer"])
    assert domain.oracle_label(row["question"]).answer == row["answer"]


def test_seeds_and_splits(code):
    assert [row["question"] for row in code.seeds(5, 0)] == ["Add two numbers.", "Say hello."]
    assert next(code.seeds(1, 0))["solution"] == block(ADD)
    with pytest.raises(ConfigError, match="humaneval"):
        next(code.seeds(1, 0, "test"))
    assert "assert" in code.instruction
    programs = ProgramsConfig(min_steps=2, max_steps=2).create()
    rows = list(programs.seeds(20, 1))
    assert rows[:5] == list(programs.seeds(5, 1)) and {row["steps"] for row in rows} == {2}
    questions = {row["question"] for row in rows}
    assert len(questions) == 20 and not questions & {row["question"] for row in programs.seeds(20, 1, "test")}
    with pytest.raises(ConfigError, match="max_steps"):
        build({"min_steps": 5, "max_steps": 2}, ProgramsConfig)


@pytest.mark.parametrize("name", ["code_improve_solvability", "code_raise_difficulty", "code_judge_solvability"])
def test_prompts_are_of_programming_and_read_their_replies(name):
    prompt: Prompt = load_prompt(name)
    question = problem(__import__("random").Random(1)).question
    assert question in prompt.render(question=question) and "program" in prompt.render(question=question).lower()
    reply = {
        "code_improve_solvability": "CREATED QUESTION: a\nVERIFICATION AND MODIFICATION: b\nFINAL QUESTION: write f",
        "code_raise_difficulty": "Step 3 #Draft#: x\n\n**Step 4 #Finally Rewritten Problem#:** write f",
        "code_judge_solvability": "It is fine.\nAnswer: Yes",
    }[name]
    assert prompt.parse(reply).value in ("write f", YesNo.YES)
