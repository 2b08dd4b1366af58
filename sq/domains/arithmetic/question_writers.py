"""What the oracle says where a question source (sq/synth/sources/) asks a model to write: harder, easier, rephrased,
composed and new questions, suggestions, solutions, concepts.

It reads the blocks of the prompt and replies in the form that the prompt asks for. Where it errs, the reply cannot be
read, or its question is spoiled.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable

from sq.domains.arithmetic.backward import analyse, statement
from sq.domains.arithmetic.families import MOST_STEPS, problem
from sq.domains.arithmetic.oracle import read_sentence, split
from sq.domains.arithmetic.rewrite import add_steps, fix
from sq.domains.arithmetic.spoiled_questions import unsolvable
from sq.domains.oracle import Reply

RAMBLING = "There is much to be said about writing questions, and I would rather begin with what makes one good"
DRAFTS = 24
AUGMENTATIONS = 8
"""Ways to augment a solution: so few that the one that was taken can be found again."""
OPERATIONS = {"+": "adding", "-": "taking away", "*": "multiplying", "/": "sharing equally"}
_OPERATION = re.compile(r"\d ([-+*/]) \d")


def blocks(prompt: str, name: str) -> list[str]:
    """The texts between <name> and </name>, each on lines of its own; a prompt's prose speaks of the marks too."""
    return [text.strip() for text in re.findall(rf"<{name}>\n((?:(?!<{name}>).)*?)\n</{name}>", prompt, re.DOTALL)]


def concepts_of(question: str) -> list[str]:
    """The family of a question and its operations, as "topic: knowledge point"."""
    analysis = analyse(question)
    topic = f"{analysis.family} problems" if analysis.family else "word problems"
    signs = dict.fromkeys(_OPERATION.findall(analysis.solution or ""))
    return [f"{topic}: {OPERATIONS[sign]}" for sign in signs] or [f"{topic}: reading a text"]


def rephrased(question: str, rng: random.Random) -> str:
    """Each sentence in another phrasing of its kind, where the answer stays the same."""
    answer, sentences = analyse(question).answer, split(question)
    for i, sentence in enumerate(sentences):
        if (read := read_sentence(sentence)) is None:
            continue
        others = [t for t in read.kind.templates if t is not read.template and set(t.slots) == set(read.slots)]
        for template in rng.sample(others, len(others)):
            tried = [*sentences[:i], template.render(read.slots), *sentences[i + 1 :]]
            if analyse(" ".join(tried)).answer == answer:
                sentences = tried
                break
    return " ".join(sentences)


def easier(question: str, rng: random.Random) -> str:
    """A question of fewer steps with as many words in common as there are."""
    most = max(1, min(analyse(question).steps - 1, MOST_STEPS))
    return _nearest((problem(rng, low=1, high=most).question for _ in range(DRAFTS)), question.lower().split(), _words)


def harder(question: str, rng: random.Random, steps: int = 1) -> str:
    """A question that needs more steps; the same where there is none."""
    sound = fix(question, rng)
    return add_steps(sound, rng, steps) or add_steps(sound, rng) or sound


def augmented(question: str, number: int) -> str:
    """The question behind one of the ways to augment its solution."""
    return harder(question, random.Random(f"augmented:{question}:{number}"))


def _words(text: str) -> list[str]:
    return text.lower().split()


def _nearest(drafts: Iterable[str], wanted: Iterable[str], of: Callable[[str], list[str]]) -> str:
    """The draft that has most of what is wanted, and little else."""
    goal = set(wanted)
    return max(drafts, key=lambda d: len(goal & set(of(d))) / max(1, len(goal | set(of(d)))))


def _another(prompt: str, rng: random.Random) -> str:
    example = rng.choice(blocks(prompt, "question"))
    steps = max(1, min(analyse(example).steps, MOST_STEPS))
    return problem(rng, low=steps, high=steps).question


def _from_concepts(prompt: str, rng: random.Random) -> str:
    asked = blocks(prompt, "concepts")[-1].lower().splitlines()
    drafts = (problem(rng).question for _ in range(DRAFTS))
    return _nearest(drafts, asked, lambda q: [part for c in concepts_of(q) for part in c.split(": ")])


def _translated(prompt: str, rng: random.Random) -> str:
    question, solution = blocks(prompt, "question")[-1], blocks(prompt, "solution")[-1]
    ways = (augmented(question, number) for number in range(AUGMENTATIONS))
    return next((way for way in ways if analyse(way).solution == solution), question)


def _question(prompt: str) -> str:
    return blocks(prompt, "question")[-1]


def _stated(prompt: str, rng: random.Random) -> str:
    question, _, answer = _question(prompt).rpartition("\nThe answer is ")
    return statement(question, answer.rstrip("."))


def _reply(heading: str, write: Callable[[str, random.Random], str], *, spoils: bool = True) -> Reply:
    """A reply with its heading; where it errs, one without, or a question that cannot be solved."""

    def reply(prompt: str, rng: random.Random, err: bool) -> str:
        if err and (not spoils or rng.random() < 0.3):
            return RAMBLING
        text = write(prompt, rng)
        return f"{heading}\n{unsolvable(text, rng)[0] if err else text}"

    return reply


WRITING_ROLES: dict[str, Reply] = {
    "another": _reply("ANOTHER QUESTION:", _another),
    "harder": _reply("HARDER QUESTION:", lambda p, rng: harder(_question(p), rng)),
    "easier": _reply("EASIER QUESTION:", lambda p, rng: easier(_question(p), rng)),
    "rephrase": _reply("REPHRASED QUESTION:", lambda p, rng: rephrased(_question(p), rng)),
    "state": _reply("STATEMENT:", _stated, spoils=False),
    "suggest": _reply(
        "SUGGESTIONS:", lambda p, rng: "1. Let one more thing happen.\n2. Ask for what follows from it.", spoils=False
    ),
    "edit": _reply("EDITED QUESTION:", lambda p, rng: harder(_question(p), rng)),
    "compose": _reply("COMPOSED QUESTION:", lambda p, rng: harder(_question(p), rng, 2)),
    "augment": _reply(
        "AUGMENTED SOLUTION:",
        lambda p, rng: analyse(augmented(_question(p), rng.randrange(AUGMENTATIONS))).solution or RAMBLING,
        spoils=False,
    ),
    "translate": _reply("TRANSLATED QUESTION:", _translated),
    "concepts": _reply("CONCEPTS:", lambda p, rng: "\n".join(concepts_of(_question(p))), spoils=False),
    "from_concepts": _reply("NEW QUESTION:", _from_concepts),
}
"""Role -> what it says to a whole prompt."""
