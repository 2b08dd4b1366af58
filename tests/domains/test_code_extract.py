"""The program in an output: in fences among prose, bare, as a continuation, cut off, or not there."""

import pytest

from sq.domains.code.extract import extract_program

PROMPT = (
    "from typing import List\nLIMIT = 9\n\ndef helper(x):\n    return x\n\n"
    'def f(a: List[int]) -> int:\n    """Sum.\n    """\n'
)
BODY = "    return sum(a)\n"
WHOLE = "def f(a):\n    return sum(a)"


def program(output, prompt="", entry="f", finish_reason="stop"):
    return extract_program(output, prompt=prompt, entry=entry, finish_reason=finish_reason)


@pytest.mark.parametrize(
    "output",
    [
        f"```python\n{WHOLE}\n```",
        f"Here it is:\n\n```python\n{WHOLE}\n```\nAnd a use:\n```python\nprint(f([1]))\n```",
        f"First try:\n```python\ndef f(a):\n    return 0\n```\nThat is wrong. Rather:\n```python\n{WHOLE}\n```",
        f"```\n{WHOLE}\n```",
        f"```py\n{WHOLE}\n```\nOutput:\n```text\n6\n```",
        f"~~~python\n{WHOLE}\n~~~",
        f"```python\n{WHOLE}",  # ended by itself, without the closing fence
        f"<think>def f(a): return 0</think>\n```python\n{WHOLE}\n```",
        f"```python\n{WHOLE}\n```<|im_end|>\n```python\ndef f(a): return 1\n```",
        WHOLE,
        f"Sure, this works.\n\n{WHOLE}\n\nIt adds all numbers.",
        f"```python\r\n{WHOLE}\r\n```".replace("\n", "\r\n").replace("\r\r", "\r"),
    ],
)
def test_the_program_of_a_chat_answer(output):
    assert program(output).source.strip() == WHOLE


HELPED = "def f(a):\n    return h(math.fsum(a))"
HELPER = "import math\n\ndef h(x):\n    return int(x)\n\nprint(h(2))"
DOCUMENTED = 'def f(a):\n    """Use:\n```python\nf([1])\n```\n"""\n    return sum(a)'


@pytest.mark.parametrize("prompt", ["", PROMPT])
@pytest.mark.parametrize(
    "output",
    [
        f"````python\n{WHOLE}\n````",
        f"```{{python}}\n{WHOLE}\n```",
        "1. Do:\n\n    ```python\n    def f(a):\n        return sum(a)\n    ```\n",
        "- Do:\n  ```python\n  def f(a):\n      return sum(a)\n  ```\n",
        f"Here is code: ```python\n{WHOLE}\n```",
        f"```python\n{WHOLE}```",
        f"```python\n{DOCUMENTED}\n```",
        f"```python\n{WHOLE}\n\nThis adds all numbers.",
        f"First a helper:\n```python\n{HELPER}\n```\nThen:\n```python\n{HELPED}\n```",
        f"```python\n{WHOLE.replace('    ', chr(0xA0) * 4)}\n```",
        f"\ufeff```python\n{WHOLE}\n```",
        "```python\nfrom typing import Any\nf: Any = lambda a: sum(a)\n```",
        "```python\ntry:\n    import re\nexcept OSError:\n    pass\nif 1:\n    def f(a):\n        return sum(a)\n```",
        f"```python\n{WHOLE}\n\nif __name__ == '__main__':\n    print(f(input()))\n```",
        "".join(f"```python\nx = {n}\n```\n" for n in range(60)) + f"```python\n{WHOLE}\n```",
        f"[PYTHON]\n{WHOLE}\n[/PYTHON]",
        f"## Solution\n\n{WHOLE}\n\n## Why\nIt adds.",
        PROMPT + BODY,
        f"{WHOLE}\n```\nThe prompt had opened the block.",
        f"{WHOLE}\n```\nA test:\n```python\nassert f([1]) == 1\n```",
    ],
)
def test_shapes_of_answers(output, prompt):
    space = {"__name__": "solution"}
    exec(program(output, prompt).source, space)  # texts of this very file
    assert space["f"]([1, 2, 3]) == 6


@pytest.mark.parametrize(
    "output",
    [f"{BODY}```\nThe prompt had opened it.", "```python\ns = sum(a)\nreturn s\n```", "s = sum(a)\nreturn s"],
)
def test_bodies_of_odd_shapes(output):
    space = {}
    exec(program(output, PROMPT).source, space)
    assert space["f"]([1, 2, 3]) == 6


@pytest.mark.parametrize(
    "output",
    [BODY, "return sum(a)", BODY + "\n\ndef g():\n    pass\n", BODY + "\nprint(f([1]))", f"```python\n{BODY}```"],
)
def test_a_continuation_of_the_prompt(output):
    found = program(output, PROMPT)
    assert found.location == "continuation" and found.source.rstrip() == (PROMPT + BODY).rstrip()


def test_what_the_prompt_gives_stands_before_the_program():
    source = program(f"```python\n{WHOLE}\n```", PROMPT).source
    assert source == f"from typing import List\nLIMIT = 9\ndef helper(x):\n    return x\n\n{WHOLE}"
    own = "def helper(x):\n    return 2 * x\n\n" + WHOLE
    assert program(f"```python\n{own}\n```", PROMPT).source.count("def helper") == 1
    assert program(f"```python\n{PROMPT}{BODY}```", PROMPT).source.rstrip() == (PROMPT + BODY).rstrip()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("```python\ndef f(a):\n    return su", "cut off before a program's end"),
        ("def f(a):\n    total = 0\n    for x in a:\n        total += x", "cut off before a program's end"),
        ("<think>First, f must", "cut off while thinking"),
    ],
)
def test_an_output_that_was_cut_off(output, reason):
    found = program(output, finish_reason="length")
    assert found.source is None and found.reason == reason


def test_what_was_complete_before_the_cut_counts():
    assert program(f"```python\n{WHOLE}\n```\nAnother wa", finish_reason="length").source == WHOLE


@pytest.mark.parametrize(
    "output", ["", "I cannot.", "The sum is 3 = 1 + 2.", "```text\nnothing\n```", "```bash\nls\n```"]
)
def test_no_program(output):
    assert program(output).source is None


def test_a_program_that_lacks_the_entry_is_still_what_was_answered():
    assert program("```python\ndef g(a):\n    return sum(a)\n```").source.startswith("def g")


def test_a_program_in_reasoning_that_never_ends_is_none_however_long_that_is():
    output = "<think>" + "well " * 20_000 + f"\n```python\n{WHOLE}\n```\nHmm"
    assert program(output, finish_reason="length").reason == "cut off while thinking"
    assert program(f"{output}</think>\n```python\n{WHOLE}\n```").source == WHOLE


def test_a_program_that_does_not_parse_is_still_what_was_answered():
    assert program("```python\ndef f(a) return\n```").source == "def f(a) return"


@pytest.mark.parametrize(
    ("output", "end"),
    [
        ("(" * 50_000, "\n"),
        ("```python\n" * 20_000, "\n```\n"),
        ("x = 1\n" * 30_000, "\n"),
        ("def f(a):\n" * 5_000, "\n"),
        ("```\n" * 14_000, "\n"),
    ],
)
def test_long_outputs_take_no_long_time_and_the_program_after_them_is_found(output, end):
    assert not program(output).source
    assert program(f"{output}{end}So:\n```python\n{WHOLE}\n```\n").source == WHOLE
