"""What the oracle says where a question source (sq/synth/sources/) asks a model to write: harder, easier, rephrased,
composed and new questions, suggestions, solutions, concepts.

It reads the blocks of the prompt and replies in the form that the prompt asks for. Where it errs, the reply cannot be
read, or its question is spoiled.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from sq.domains.arithmetic.backward import analyse, statement
from sq.domains.arithmetic.families import FAMILIES, KNOWN, MOST_STEPS, problem
from sq.domains.arithmetic.oracle import read_sentence, split
from sq.domains.arithmetic.rewrite import add_steps, families_of, fix
from sq.domains.arithmetic.spoiled_questions import unsolvable
from sq.domains.oracle import Reply

RAMBLING = "Let me think about this question for a while. It looks like a word problem, and much can be said of it"
LONGEST = 9
AUGMENTATIONS = 8
"""Ways to augment a solution: so few that the one that was taken can be found again."""
OPERATIONS = {"+": "adding", "-": "taking away", "*": "multiplying", "/": "sharing equally"}
Write = Callable[[str, random.Random], str]
_OPERATION = re.compile(r"\d ([-+*/]) \d")


def block(prompt: str, name: str) -> str:
    """The last text between <name> and </name>, each on lines of its own; a prompt's prose speaks of the marks too."""
    return str(re.findall(rf"<{name}>\n((?:(?!<{name}>).)*?)\n</{name}>", prompt, re.DOTALL)[-1]).strip()


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


def _steps(question: str) -> int:
    return max(1, min(analyse(question).steps, MOST_STEPS))


def _easier(question: str, rng: random.Random) -> str:
    return problem(rng, high=max(1, _steps(question) - 1), families=families_of(question)).question


def _harder(question: str, rng: random.Random) -> str:
    """A question that needs one step more, up to those of some rounds."""
    return add_steps(fix(question, rng), rng, LONGEST)


def _augmented(question: str, number: int) -> str:
    """The question behind one of the ways to augment its solution."""
    return _harder(question, random.Random(f"augmented:{question}:{number}"))


def _translated(prompt: str, rng: random.Random) -> str:
    question, solution = block(prompt, "question"), block(prompt, "solution")
    ways = (_augmented(question, number) for number in range(AUGMENTATIONS))
    return next((way for way in ways if analyse(way).solution == solution), question)


def _stated(prompt: str, rng: random.Random) -> str:
    question, _, answer = block(prompt, "question").rpartition("\nThe answer is ")
    return statement(question, answer.rstrip("."))


def _concepts(question: str, rng: random.Random) -> str:
    """The family of a question and its operations, as lines of "topic: knowledge point"."""
    analysis = analyse(question)
    topic = f"{analysis.family} problems" if analysis.family else "word problems"
    signs = dict.fromkeys(_OPERATION.findall(analysis.solution or ""))
    return "\n".join([f"{topic}: {OPERATIONS[sign]}" for sign in signs] or [f"{topic}: reading a text"])


def _from_concepts(prompt: str, rng: random.Random) -> str:
    asked = block(prompt, "concepts").lower()
    return problem(rng, families=[name for name in FAMILIES if f"{name} problems" in asked] or KNOWN).question


def _reply(heading: str, write: Write, *, whole: bool = False, spoils: bool = True) -> Reply:
    """A reply to the question in a prompt, or to the whole; where it errs, one that cannot be read or solved."""

    def reply(prompt: str, rng: random.Random, err: bool) -> str:
        if err and (not spoils or rng.random() < 0.3):
            return RAMBLING
        text = write(prompt if whole else block(prompt, "question"), rng)
        return f"{heading}\n{unsolvable(text, rng)[0] if err else text}"

    return reply


WRITING_ROLES: dict[str, Reply] = {
    "another": _reply("ANOTHER QUESTION:", lambda q, rng: problem(rng, low=_steps(q), high=_steps(q)).question),
    "harder": _reply("HARDER QUESTION:", _harder),
    "easier": _reply("EASIER QUESTION:", _easier),
    "rephrase": _reply("REPHRASED QUESTION:", rephrased),
    "state": _reply("STATEMENT:", _stated, whole=True, spoils=False),
    "suggest": _reply("SUGGESTIONS:", lambda q, rng: "1. Let one more thing happen.\n2. Ask for it.", spoils=False),
    "edit": _reply("EDITED QUESTION:", _harder),
    "compose": _reply("COMPOSED QUESTION:", _harder),
    "augment": _reply(
        "AUGMENTED SOLUTION:",
        lambda q, rng: analyse(_augmented(q, rng.randrange(AUGMENTATIONS))).solution or RAMBLING,
        spoils=False,
    ),
    "translate": _reply("TRANSLATED QUESTION:", _translated, whole=True),
    "concepts": _reply("CONCEPTS:", _concepts, spoils=False),
    "from_concepts": _reply("NEW QUESTION:", _from_concepts, whole=True),
}
"""Role -> what it says to a whole prompt."""
