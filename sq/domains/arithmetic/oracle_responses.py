"""What the oracle says in each role, in the reply formats that the prompts ask of a language model.

With a chance of `error_rate` it errs as a model would: a wrong answer, a rewrite that changes nothing or
spoils the question, or a reply that cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import random
from fractions import Fraction

from sq.domains.arithmetic import answers
from sq.domains.arithmetic.backward import analyse
from sq.domains.arithmetic.oracle import SKELETONS
from sq.domains.arithmetic.question_writers import RAMBLING, WRITING_ROLES
from sq.domains.arithmetic.review import review
from sq.domains.arithmetic.rewrite import add_steps, fix
from sq.domains.arithmetic.spoiled_questions import unsolvable
from sq.domains.oracle import OracleResponder, Reply

LEVELS = ("very easy", "easy", "medium", "hard", "very hard")
"""By number of steps, from one."""


def improve_solvability(question: str, rng: random.Random, err: bool) -> str:
    """The three parts of a solvability rewrite."""
    analysis = analyse(question)
    if err:
        if rng.random() < 0.3:
            return RAMBLING
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    elif analysis.solvable and 0 < analysis.steps <= 1:
        final = add_steps(question, rng)
    else:
        final = fix(question, rng)
    fault = "It can be solved." if analysis.solvable else f"It cannot be solved: {analysis.reason}."
    after = analyse(final)
    return (
        f"CREATED QUESTION: {question}\n\n"
        f"VERIFICATION AND MODIFICATION: {fault} {after.solution or ''}\n\n"
        f"FINAL QUESTION: {final}"
    )


def raise_difficulty(question: str, rng: random.Random, err: bool) -> str:
    """The four steps of a difficulty rewrite, of a question that can be solved or not."""
    if err:
        if rng.random() < 0.3:
            return RAMBLING
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    else:
        final = add_steps(question, rng)
    return (
        "Step 1 #Ways to Make It Harder#: One more event; a quantity that has to be found first.\n\n"
        "Step 2 #Plan#: Add one sentence, so that one more step is needed.\n\n"
        f"Step 3 #Draft#: {final}\n\n"
        f"Step 4 #Finally Rewritten Problem#: {final}"
    )


def judge_solvability(question: str, rng: random.Random, err: bool) -> str:
    """Reasoning, then Yes or No."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    if analysis.solvable:
        reason = f"Let me try to solve it. {analysis.solution}".replace(r"\boxed{", "").replace("}", "")
    else:
        reason = f"Let me look at the conditions. There is a fault: {analysis.reason}."
    return f"{reason}\n\nAnswer: {'Yes' if analysis.solvable is not err else 'No'}"


def solve(question: str, rng: random.Random, err: bool) -> str:
    """A worked solution; of a question that has none, a guess."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    if analysis.answer is None or analysis.solution is None:
        return rf"The question does not say enough, so I guess. The answer is \boxed{{{rng.randint(1, 50)}}}."
    if not err:
        return analysis.solution
    right = rf"\boxed{{{analysis.answer}}}"
    wrong = analysis.answer + rng.choice([-10, -2, -1, 1, 2, 10])
    if analysis.answer.denominator > 1:
        wrong = Fraction(analysis.answer.numerator, analysis.answer.denominator + rng.choice([1, 2]))
    return analysis.solution.replace(right, rf"\boxed{{{wrong}}}")


def rate_difficulty(question: str, rng: random.Random, err: bool) -> str:
    """The JSON object of a difficulty rating."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    level = LEVELS[min(max(analysis.steps, 1), 5) - 1]
    if err:
        level = rng.choice([name for name in LEVELS if name != level])
    words = {
        "intent": f"find a quantity in {analysis.steps} steps" if analysis.solvable else "unclear",
        "knowledge": "arithmetic with whole numbers",
        "difficulty": level,
    }
    return json.dumps(words, indent=2)


def classify_topic(question: str, rng: random.Random, err: bool) -> str:
    """The topic between its marks."""
    if err and rng.random() < 0.25:
        return RAMBLING
    topic = "Geometry" if analyse(question).family == "shape" else "Arithmetic"
    if err:
        topic = rng.choice(["Algebra", "Logic and Sets", "Other"])
    return f"<TOPIC>{topic}</TOPIC>"


ROLES: dict[str, Reply] = {
    "improve_solvability": improve_solvability,
    "raise_difficulty": raise_difficulty,
    "judge": judge_solvability,
    "solve": solve,
    "rate_difficulty": rate_difficulty,
    "classify_topic": classify_topic,
    "review": lambda question, _rng, err: RAMBLING if err else review(question),
    **WRITING_ROLES,
}


def is_right(question: str, reply: str) -> bool | None:
    """Whether a reply's boxed number is the answer."""
    analysis, answer = analyse(question), answers.final_answer(reply)
    if answer is None:
        return None
    return analysis.answer is not None and answers.check(answer, str(analysis.answer))


RESPONDER = OracleResponder(
    version=hashlib.blake2b("\n".join(sorted(SKELETONS)).encode(), digest_size=4).hexdigest(),
    replies=ROLES,
    is_right=is_right,
)
