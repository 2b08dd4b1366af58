"""What the generator writes: read back from its text, told in true equations, distinct, the same for a seed."""

import collections
import random
import re
import subprocess
import sys
from fractions import Fraction

import pytest

from sq.domains.arithmetic import FAMILIES, ArithmeticConfig, ArithmeticDomain, analyse, check, final_answer, problem
from sq.domains.arithmetic.families import KNOWN, LIMIT, MOST_STEPS, solve_story, table, write_story
from sq.domains.arithmetic.lexicon import ITEMS, NAMES
from sq.domains.arithmetic.review import review
from sq.domains.arithmetic.themes import KINDS

EQUATION = re.compile(r"(\d+(?:/\d+)?) ([-+*/]) (\d+(?:/\d+)?) = (\d+(?:/\d+)?)")


def try_problem(rng, family, steps):
    """One try at a question; None where the numbers drawn led nowhere."""
    story = write_story(rng, family, steps)
    return None if story is None else solve_story(story, family, steps)


def read_back(count: int, seed: int) -> collections.Counter[str]:
    """Write `count` stories and compare what the writer meant with what the oracle reads in the text alone."""
    rng = random.Random(seed)
    names, outcomes = sorted(FAMILIES), collections.Counter[str]()
    while outcomes.total() < count:
        family = FAMILIES[rng.choice(names)]
        steps = rng.randint(1, family.most_steps)
        story = write_story(rng, family, steps)
        if story is None:
            continue
        assert story.asked is not None
        found = analyse(story.text)
        same = found.answer == story.asked.value and found.steps == steps
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
            assert max(a, b, value) <= LIMIT
            if op == "*":
                assert table(int(a), int(b)), one
        assert one.solution.endswith(rf"The answer is \boxed{{{one.answer}}}.")
        assert check(final_answer(one.solution) or "", one.answer)
        assert one.solution.count(". ") == one.steps


@pytest.mark.parametrize("steps", range(1, MOST_STEPS + 1))
def test_every_number_of_steps_can_be_had(steps: int) -> None:
    rng = random.Random(steps)
    drawn = [problem(rng, low=steps, high=steps) for _ in range(100)]
    assert {one.steps for one in drawn} == {steps}
    assert len({one.family for one in drawn}) >= 12


def test_all_steps_are_about_equally_common() -> None:
    rng = random.Random(4)
    shares = collections.Counter(problem(rng).steps for _ in range(1_500))
    assert sorted(shares) == [1, 2, 3, 4, 5]
    assert min(shares.values()) > 150


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_tells_stories_of_all_its_steps(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(5)
    for steps in range(1, family.most_steps + 1):
        written = [one for _ in range(60) if (one := try_problem(rng, family, steps)) is not None]
        assert written, (name, steps)


def test_families_held_out_are_in_no_seeds_but_in_the_text_to_pretrain_on() -> None:
    held_out = set(FAMILIES) - set(KNOWN)
    domain = ArithmeticDomain()
    assert len(FAMILIES) == 18 and len(held_out) == 4
    assert {row["family"] for row in domain.seeds(300, 1, "train")} == set(KNOWN)
    asked = [domain.oracle_label(d.question) for d in domain.corpus(1_500, 1) if d.question and not d.solution]
    assert held_out <= {label.topic for label in asked if label.solvable}


@pytest.mark.parametrize(("worked", "least", "most"), [(0.0, 0, 0), (0.01, 1, 15), (0.6, 320, 400)])
def test_the_share_of_worked_problems_in_the_corpus_is_set(worked: float, least: int, most: int) -> None:
    documents = ArithmeticConfig(worked=worked).create().corpus(600, 1)
    assert least <= sum("boxed" in document.text + document.solution for document in documents) <= most


REVIEWS = {
    "Tom has 12 pens. Sam has 3 more pens than Tom. He buys 4 more pens. How many pens does Sam have?": """\
Tom has 12 pens. 12 have Tom pens
Sam has 3 more pens than Tom. Sam and Tom, 12 + 3 = 15 have Sam pens
He buys 4 more pens. 15 + 4 = 19 have Sam pens
How many pens does Sam have? 19
\\boxed{19}
Answer: Yes""",
    "Tom has 4 pens. Tom loses 9 pens. How many pens does Tom have?": """\
Tom has 4 pens. 4 have Tom pens
Tom loses 9 pens. 4 - 9 = -5
Fault: negative amount
Answer: No""",
    "Tom has 4 pens. Sam has 2 more pens than Sam. How many pens does Tom have?": """\
Tom has 4 pens. 4 have Tom pens
Sam has 2 more pens than Sam. Sam and Sam
Fault: contradiction
Answer: No""",
    "Tom loses half of the pens. Anybody has pens.": """\
Tom loses half of the pens. ? / 2 = ?, ? - ? = ? have Tom pens
Anybody has pens.
Fault: sentence not understood
Answer: No""",
    "Tom loses 2 pens. How many pens does Tom have?": """\
Tom loses 2 pens. ? - 2 = ? have Tom pens
How many pens does Tom have? ?
Fault: missing quantity
Answer: No""",
}


@pytest.mark.parametrize("question", REVIEWS)
def test_a_review_goes_through_a_question_up_to_its_first_fault(question: str) -> None:
    assert review(question) == REVIEWS[question]


def test_questions_are_short_and_of_few_words() -> None:
    rng = random.Random(6)
    drawn = [problem(rng).question for _ in range(1_000)]
    assert max(len(q.split()) for q in drawn) <= 90
    vocabulary = {word for q in drawn for word in re.findall(r"[A-Za-z]+", q)}
    assert len(vocabulary) < 300


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
    """Counted on the stories of three changes of one family alone, without pronouns.

    "Tom has 12 apples. Tom buys 7 more apples. Tom loses 3 apples. Tom finds 9 more apples. How many apples does Tom
    have?": every name, item, phrasing and admissible number gives another text.
    """
    of = {kind.role.name: len(kind.templates) for kind in KINDS["things"]}
    phrasings = of["state"] * of["add"] ** 2 * of["sub"] * of["ask"]
    numbers = sum(
        min(30, LIMIT - (start + more - less)) - 1
        for start in range(2, 31)
        for more in range(2, min(30, LIMIT - start) + 1)
        for less in range(2, min(20, start + more - 1) + 1)
    )
    assert len(NAMES) * len(ITEMS) * phrasings * numbers >= 10**9


def test_the_bound_counts_questions_the_generator_writes() -> None:
    sentences = (
        r"\w+ (has|starts with) \d+ \w+\. (\w+ (buys|finds|gets) \d+ more \w+\. |\w+ (loses|sells|uses) \d+ \w+\. )"
    )
    pattern = re.compile(sentences + r"{3}How many \w+ does .*")
    rng = random.Random(8)
    written = [try_problem(rng, FAMILIES["things"], 3) for _ in range(1_000)]
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
