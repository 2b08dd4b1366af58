"""Questions spoiled on purpose, and questions fixed and made harder: what the oracle says of each."""

import collections
import random

import pytest

from sq.domains.arithmetic import analyse, poor, problem, unsolvable
from sq.domains.arithmetic.oracle import split
from sq.domains.arithmetic.rewrite import add_steps, fix
from sq.domains.arithmetic.spoiled_questions import SPOILERS
from sq.domains.arithmetic.world import Reason

BY_CONSTRUCTION = {"_unasked", "_asked_twice", "_below_zero", "_fractional", "_contradicted", "_dropped", "_vague"}
"""Ways whose label follows from what they do, whatever the oracle says; the others depend on the question."""


def test_variants_are_unsolvable_for_the_reason_on_their_label() -> None:
    rng = random.Random(1)
    outcomes = collections.Counter[bool]()
    labels = collections.Counter[Reason]()
    for _ in range(1_000):
        text, reason = unsolvable(problem(rng).question, rng)
        found = analyse(text)
        outcomes[not found.solvable and found.reason is reason] += 1
        labels[reason] += 1
    assert outcomes[True] >= 999
    assert set(labels) == {reason for reason, _ in SPOILERS}
    assert min(labels.values()) > 20


@pytest.mark.parametrize(("reason", "spoil"), [pytest.param(r, s, id=s.__name__) for r, s in SPOILERS])
def test_each_way_of_spoiling_does_what_its_label_says(reason: Reason, spoil) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(2)
    outcomes = collections.Counter[Reason]()
    for _ in range(300):
        sentences = split(problem(rng).question)
        spoiled = spoil(sentences, rng)
        if spoiled is not None:
            assert spoiled != sentences
            outcomes[analyse(" ".join(spoiled)).reason] += 1
    assert outcomes.total() >= 60
    least = 0.999 if spoil.__name__ in BY_CONSTRUCTION else 0.85
    assert outcomes[reason] >= least * outcomes.total(), outcomes


def test_variants_are_the_same_for_the_same_seed() -> None:
    question = problem(random.Random(3)).question
    assert unsolvable(question, random.Random(4)) == unsolvable(question, random.Random(4))


def test_poor_texts_are_of_many_kinds() -> None:
    rng = random.Random(5)
    found = collections.Counter(analyse(poor(rng)).reason for _ in range(600))
    assert {Reason.OK, Reason.UNPARSED, Reason.NO_QUESTION, Reason.MISSING, Reason.SEVERAL} <= set(found)
    assert 0.05 < found[Reason.OK] / 600 < 0.5


def test_mending_makes_solvable_what_was_spoiled_and_keeps_what_it_can() -> None:
    rng = random.Random(6)
    kept = fixed = 0
    for i in range(300):
        broken = poor(rng) if i % 2 else unsolvable(problem(rng).question, rng)[0]
        whole = fix(broken, rng)
        found = analyse(whole)
        fixed += found.solvable and found.steps > 0 and found.peak <= 150
        kept += bool(set(split(broken)) & set(split(whole)))
    assert fixed >= 297
    assert kept >= 240


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        (
            "Tom has 4 apples. Tom has 9 apples. Tom buys 2 more apples. How many apples does Tom have?",
            "Tom has 4 apples. Tom buys 2 more apples. How many apples does Tom have?",
        ),
        (
            "Tom has 4 apples. Tom sings a song. Tom buys 2 more apples. How many apples does Tom have?",
            "Tom has 4 apples. Tom buys 2 more apples. How many apples does Tom have?",
        ),
        (
            "Tom has 4 apples. How many apples does Tom have? Tom buys 2 more apples.",
            "Tom has 4 apples. Tom buys 2 more apples. How many apples does Tom have?",
        ),
    ],
)
def test_mending_goes_for_the_sentence_at_fault(broken: str, whole: str) -> None:
    assert fix(broken, random.Random(7)) == whole


@pytest.mark.parametrize("text", ["", "\x00", "Write me a poem.", "数学", "?" * 50, "Tom " * 5000, "How many apples?"])
def test_the_hopeless_becomes_a_new_question(text: str) -> None:
    assert analyse(fix(text, random.Random(8))).solvable


def test_mending_leaves_a_sound_question_alone() -> None:
    rng = random.Random(9)
    for _ in range(50):
        question = problem(rng).question
        assert fix(question, rng) == question


def test_added_steps_are_needed_and_numbers_stay_in_range() -> None:
    rng = random.Random(10)
    harder = same_start = 0
    for _ in range(300):
        one = problem(rng, high=5)
        text = add_steps(one.question, rng)
        found = analyse(text or "")
        harder += found.solvable and found.steps > one.steps and found.peak <= 100
        same_start += bool(text) and split(text or "")[0] == split(one.question)[0]
    assert harder >= 297
    assert same_start >= 200


def test_several_steps_can_be_added_at_once() -> None:
    rng = random.Random(11)
    for _ in range(30):
        one = problem(rng, high=3)
        text = add_steps(one.question, rng, steps=3)
        assert text is not None and analyse(text).steps >= one.steps + 3


def test_no_steps_are_added_to_what_cannot_be_solved() -> None:
    assert add_steps("Tom has some apples. How many apples does Tom have?", random.Random(12)) is None
