"""What the generator writes: read back from its text, told in true equations, distinct, the same for a seed."""

import collections
import random
import re
import subprocess
import sys
from fractions import Fraction

import pytest

from sq.domains.arithmetic import FAMILIES, ArithmeticDomain, analyse, check, final_answer, problem
from sq.domains.arithmetic.families import solve_story, write_story
from sq.domains.arithmetic.lexicon import ITEMS, NAMES
from sq.domains.arithmetic.oracle import KINDS
from sq.domains.arithmetic.pairs import PAIRS
from sq.domains.arithmetic.story import RetryError, Story
from sq.domains.arithmetic.world import needed

EQUATION = re.compile(r"(\d+(?:/\d+)?) ([-+*/]) (\d+(?:/\d+)?) = (\d+(?:/\d+)?)")


def try_problem(rng, family, steps):
    """One try at a question; None where the numbers drawn led nowhere."""
    story = write_story(rng, family, steps)
    return None if story is None else solve_story(story, family, steps)


def read_back(count: int, seed: int) -> collections.Counter[str]:
    """Tell `count` stories and compare what the teller meant with what the oracle reads in the text alone."""
    rng = random.Random(seed)
    names, outcomes = sorted(FAMILIES), collections.Counter[str]()
    while outcomes.total() < count:
        family = FAMILIES[rng.choice(names)]
        story = Story(rng, pronouns=family.name not in PAIRS)
        try:
            family.write(story, rng.randint(family.low, family.high))
        except RetryError:
            continue
        assert story.asked is not None
        found = analyse(story.text)
        same = found.answer == story.asked.value and found.steps == len(needed(story.asked))
        outcomes["same" if found.solvable and same else f"differs: {found.reason}"] += 1
    return outcomes


def test_questions_read_back_from_their_text() -> None:
    assert read_back(3_000, seed=1) == {"same": 3_000}


@pytest.mark.slow
def test_a_hundred_thousand_questions_read_back_from_their_text() -> None:
    outcomes = read_back(100_000, seed=2)
    assert outcomes["same"] >= 99_900, outcomes


def test_solutions_are_true_step_by_step_and_end_in_the_answer() -> None:
    rng = random.Random(3)
    for _ in range(1_000):
        one = problem(rng)
        equations = EQUATION.findall(one.solution)
        assert len(equations) == one.steps, one
        for left, op, right, result in equations:
            a, b = Fraction(left), Fraction(right)
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[op]
            assert value == Fraction(result), one
            assert max(a, b, value) <= 100
            if op == "*":
                assert max(a, b) <= 10 or min(a, b) <= 3, one
        assert one.solution.endswith(rf"The answer is \boxed{{{one.answer}}}.")
        assert check(final_answer(one.solution) or "", one.answer)
        assert one.solution.count(". ") == one.steps


@pytest.mark.parametrize("steps", range(1, 7))
def test_every_number_of_steps_can_be_had(steps: int) -> None:
    rng = random.Random(steps)
    drawn = [problem(rng, low=steps, high=steps) for _ in range(100)]
    assert {one.steps for one in drawn} == {steps}
    assert len({one.family for one in drawn}) >= 15


def test_all_steps_are_about_equally_common() -> None:
    rng = random.Random(4)
    shares = collections.Counter(problem(rng).steps for _ in range(1_500))
    assert sorted(shares) == [1, 2, 3, 4, 5, 6]
    assert min(shares.values()) > 150


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_tells_stories_of_all_its_steps(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(5)
    for steps in range(family.low, family.high + 1):
        written = [one for _ in range(60) if (one := try_problem(rng, family, steps)) is not None]
        assert written, (name, steps)


def test_there_are_families_enough() -> None:
    assert len(FAMILIES) >= 25


def test_questions_are_short_and_of_few_words() -> None:
    rng = random.Random(6)
    drawn = [problem(rng).question for _ in range(1_000)]
    assert max(len(q.split()) for q in drawn) <= 90
    vocabulary = {word for q in drawn for word in re.findall(r"[A-Za-z]+", q)}
    assert len(vocabulary) < 700


def test_questions_read_well() -> None:
    rng = random.Random(7)
    for _ in range(1_000):
        question = problem(rng).question
        assert re.fullmatch(r"[A-Z0-9][ -~]*\?", question), question
        assert not re.search(
            r"\b1 (?!of\b|more\b)[a-z]+s\b(?<!dress)|  | [.,?]|\ba [aeiou](?!ne)|\b[a-z]he gives he", question
        ), question
        assert all(part[0].isupper() or part[0].isdigit() for part in re.split(r"(?<=[.?]) ", question)), question


def test_a_thousand_million_distinct_questions() -> None:
    """Counted on the two-event stories of one family alone, without pronouns and openings.

    "Tom has 12 apples. Tom buys 7 more apples. Tom loses 3 apples. How many apples does Tom have?": every name, item,
    phrasing and admissible number gives another text.
    """
    phrasings = 1
    for name in ("have.set", "have.add", "have.sub", "have.ask"):
        phrasings *= len(KINDS[name].templates)
    numbers = sum(
        min(40, start + more - 1) - 1 for start in range(4, 61) for more in range(2, min(40, 100 - start) + 1)
    )
    assert len(NAMES) * len(ITEMS) * phrasings * numbers >= 10**9


def test_the_bound_counts_questions_the_generator_writes() -> None:
    pattern = re.compile(
        r"\w+ (has|starts with|owns) \d+ \w+\. \w+ \w+ \d+ more \w+\. \w+ (loses|sells) \d+ \w+\. How .*"
    )
    rng = random.Random(8)
    written = [try_problem(rng, FAMILIES["giving"], 2) for _ in range(1_000)]
    assert any(one and pattern.fullmatch(one.question) for one in written)


def test_few_questions_come_twice() -> None:
    rng = random.Random(9)
    drawn = [problem(rng, low=2).question for _ in range(2_000)]
    assert len(set(drawn)) >= 1_995


def test_two_processes_write_the_same_rows() -> None:
    code = (
        "import hashlib, json; from sq.domains.arithmetic import ArithmeticDomain as D\n"
        "rows = list(D().seeds(200, 11, 'train')); print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65, runs[0].stderr


def test_seeds_know_their_split_and_never_repeat() -> None:
    domain = ArithmeticDomain()
    splits = {name: [row["question"] for row in domain.seeds(100, 1, name)] for name in ("train", "validation", "test")}
    for name, questions in splits.items():
        assert len(set(questions)) == 100, name
    assert not set(splits["train"]) & set(splits["test"])
    other = {row["question"] for row in domain.seeds(300, 2, "train")}
    assert not other & set(splits["test"]) and not other & set(splits["validation"])
    assert [row["question"] for row in domain.seeds(30, 1, "train")] == splits["train"][:30]
