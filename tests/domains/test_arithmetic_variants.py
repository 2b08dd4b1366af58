"""Questions spoiled on purpose, and questions fixed and made harder: what the oracle says of each."""

import collections
import random

import pytest

from sq.domains.arithmetic import analyse, poor, problem, unsolvable
from sq.domains.arithmetic.families import FAMILIES
from sq.domains.arithmetic.oracle import read_sentence, split
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


def test_what_was_spoiled_becomes_another_question_of_its_sort_and_about_its_length() -> None:
    rng, same = random.Random(6), 0
    for i in range(300):
        one = problem(rng)
        broken = poor(rng) if i % 2 else unsolvable(one.question, rng)[0]
        for whole, more in ((fix(broken, rng), 0), (add_steps(broken, rng), 1)):
            found = analyse(whole)
            assert found.solvable and found.steps and found.peak <= 50
            if i % 2 == 0:
                same += found.family == one.family
                assert abs(len(split(whole)) - len(split(broken)) - more) <= 3
    assert same >= 270  # of 300: a second question may be of another family


def test_a_rewrite_asks_for_the_same() -> None:
    """Or QPO makes what is hard to ask well disappear, and with it what students can solve."""
    rng, asked = random.Random(12), collections.Counter[str]()
    for _ in range(300):
        one = problem(rng)
        for rewritten in (fix(unsolvable(one.question, rng)[0], rng), add_steps(one.question, rng)):
            before, after = (last_role(q) for q in (one.question, rewritten))
            asked["same" if before == after else before] += 1
    assert asked.pop("same") >= 540, asked  # of 600: some unsolvable ones ask nothing, or for something else


def last_role(question: str) -> str:
    read = read_sentence(split(question)[-1])
    assert read is not None
    return read.kind.role.name


@pytest.mark.parametrize("text", ["", "\x00", "Write me a poem.", "数学", "?" * 50, "Tom " * 5000, "How many apples?"])
def test_the_hopeless_becomes_a_new_question(text: str) -> None:
    assert analyse(fix(text, random.Random(8))).solvable


def test_fixing_leaves_a_sound_question_alone() -> None:
    rng = random.Random(9)
    for _ in range(50):
        question = problem(rng).question
        assert fix(question, rng) == question


@pytest.mark.parametrize("most", [5, 9])
def test_a_harder_question_has_one_step_more_and_no_family_that_is_held_out(most: int) -> None:
    rng = random.Random(10)
    for _ in range(200):
        one = problem(rng)
        found = analyse(add_steps(one.question, rng, most))
        assert found.solvable and found.peak <= 50
        assert found.family is not None and not FAMILIES[found.family].held_out
        last = one.steps == most or one.steps == FAMILIES[one.family].most_steps == 4
        assert found.steps == one.steps + (not last)
