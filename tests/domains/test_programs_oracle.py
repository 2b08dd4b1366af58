"""The programming tasks: the oracle by hand, the reference program against it, and what spoils or fixes a task."""

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sq.domains.base import Document
from sq.domains.programs import Reason, add_steps, analyse, fix, poor, problem, unsolvable
from sq.domains.programs.corpus import documents
from sq.domains.programs.grammar import STARTS, Header, read_header, split

HEAD = "Write a function total that takes two integers a and b."
SEEDS = st.integers(0, 10**9).map(random.Random)


def ran(program, name, args):
    """What a reference program of our own grammar returns."""
    space: dict = {}
    exec(program, space)
    return space[name](*args)


@pytest.mark.parametrize(
    ("steps", "args", "value"),
    [
        ("Add a and b. Then multiply by 3.", [2, 5], 21),
        ("Subtract b from a.", [2, 5], -3),
        ("Take the larger of a and b. Square the result. Then subtract b.", [-7, 4], 12),
        ("Take a. Divide the result by 4 and round down.", [-7, 0], -2),
        ("Take a. Take the remainder of the result after division by 4.", [-7, 0], 1),
        ("Take a. If the result is above 9, make it 9. Change the sign of the result.", [40, 0], -9),
        ("Take a. If the result is even, halve it. If the result is odd, add b to it.", [6, 10], 13),
    ],
)
def test_what_must_come_out(steps, args, value):
    found = analyse(f"{HEAD} {steps} Return the result.")
    assert found.solvable and found.run(dict(zip("ab", args, strict=True))) == value
    assert ran(found.program, "total", args) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY),
        ("How many apples are there?", Reason.UNPARSED),
        (f"{HEAD} Add a and b.", Reason.NO_RETURN),
        (f"{HEAD} Add a and c. Return the result.", Reason.UNKNOWN),
        (f"{HEAD} Add a and b. Then add some number. Return the result.", Reason.MISSING),
        (f"{HEAD} Then add 4. Return the result.", Reason.NO_START),
        (f"{HEAD} Take a. Divide the result by 0 and round down. Return the result.", Reason.ZERO),
        (f"{HEAD} Take a. Divide the result by b and round down. Return the result.", Reason.ZERO),
        (f"{HEAD} Take a. Take b. Square the result. Return the result.", Reason.CONTRADICTION),
        (f"{HEAD} {HEAD} Add a and b. Return the result.", Reason.CONTRADICTION),
        (f"{HEAD} Take a. Return the result.", Reason.NOTHING),
        (f"{HEAD} Add a and b. Return the result. Square the result.", Reason.TRAILING),
        ("Add a and b. Return the result.", Reason.NO_FUNCTION),
        (f"{HEAD} Add up the numbers in a. Return the result.", Reason.UNKNOWN),
        (f"{HEAD} Return the result.", Reason.NO_START),
        ("x" * 5000, Reason.TOO_LONG),
    ],
)
def test_why_not(text, reason):
    found = analyse(text)
    assert found.reason is reason and not found.solvable
    assert found.program is None and found.answer is None and found.solution is None


@given(SEEDS, st.integers(1, 6))
def test_a_task_has_its_steps_and_its_program_gives_the_tests(rng, steps):
    one = problem(rng, low=steps, high=steps)
    found = analyse(one.question)
    assert found.solvable and found.steps == one.steps == steps
    tests = json.loads(one.answer)
    assert len(tests["calls"]) >= 5
    for args, value in tests["calls"]:
        assert ran(found.program, tests["function"], args) == value
    assert analyse(one.question).answer == one.answer


def test_a_program_is_tried_on_zero_and_on_negative_numbers_and_on_short_lists():
    rng, negative = random.Random(3), []
    for _ in range(20):
        calls = [arguments for arguments, _ in json.loads(problem(rng).answer)["calls"]]
        for values in zip(*calls, strict=True):
            if isinstance(values[0], list):
                assert min(map(len, values)) == 1 < max(map(len, values)) and min(map(min, values)) < 0
            else:
                assert 0 in values and max(values) > 0
                negative.append(min(values) < 0)
    assert sum(negative) > 0.7 * len(negative) > 7


@pytest.mark.parametrize("word", ["Add", "if", "max", "r", "4", "_"])
def test_a_name_that_the_program_cannot_have_is_no_parameter_and_is_mended(word):
    text = f"Write a function solve that takes two integers {word} and b. Take {word} minus b. Return the result."
    assert read_header(split(text)[0]) is None and not analyse(text).solvable
    assert analyse(fix(text, random.Random(0))).solvable
    assert read_header(f"Write a function {word} that takes an integer a.") is None


@given(SEEDS)
@example(random.Random(11807))
def test_spoiling_mending_and_hardening(rng):
    one = problem(rng)
    spoiled, reason = unsolvable(one.question, rng)
    assert analyse(spoiled).reason is reason is not Reason.OK
    assert analyse(fix(spoiled, rng)).solvable and analyse(fix(poor(rng), rng)).solvable
    assert analyse(fix(one.question, rng)).steps == one.steps
    harder = add_steps(one.question, rng)
    assert harder is not None and analyse(harder).steps == one.steps + 1
    assert add_steps(spoiled, rng) is None


@given(st.text(max_size=300))
def test_any_text_is_judged_and_mended(text):
    assert not analyse(text).solvable
    assert analyse(fix(text, random.Random(0))).solvable


def test_two_numbers_in_one_sentence_must_agree():
    assert analyse(f"{HEAD} Take a. If the result is above 9, make it 8. Return the result.").reason is Reason.UNPARSED


def test_headers_are_read_as_written():
    for kinds in ([int], [int, int], [int, int, int], [list], [list, int]):
        header = Header(name="step", params=dict(zip("abc", kinds, strict=False)))
        assert read_header(str(header)) == header
    assert read_header("Write a function f that takes two integers a and a.") is None


def test_every_start_is_used_and_solvable():
    rng, seen = random.Random(3), set()
    for _ in range(600):
        seen.add(analyse(problem(rng).question).sentences[0].kind.name)
    assert seen == {kind.name for kind in STARTS}


def test_the_corpus_is_mixed_and_repeatable():
    found = list(documents(400, 7))
    assert found[:50] == list(documents(50, 7)) and all(isinstance(d, Document) for d in found)
    bare = [d.question for d in found if d.question and not d.solution]
    share = sum(analyse(text).solvable for text in bare) / len(bare)
    assert 0.15 < share < 0.5
    assert all(len(split(text)) for text in bare)
