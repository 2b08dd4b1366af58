"""What the oracle says in each role, in the reply formats that the prompts ask of a language model.

With a chance of `error_rate` it errs as a model would: a wrong verdict or answer, a rewrite that changes nothing or
spoils the question, or a reply that cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import random
from fractions import Fraction

from sq.domains.arithmetic import answers
from sq.domains.arithmetic.grammar import show
from sq.domains.arithmetic.oracle import SKELETONS, QuestionAnalysis, judge
from sq.domains.arithmetic.rewrite import add_steps, fix
from sq.domains.arithmetic.variants import unsolvable
from sq.domains.oracle import OracleResponder, Reply

LEVELS = ("very easy", "easy", "medium", "hard", "hard", "very hard")
"""By number of steps, from one."""
RAMBLING = "Let me think about this question for a while. It looks like a word problem, and much can be said of it"


def improve(question: str, rng: random.Random, err: bool) -> str:
    """The three parts of a solvability rewrite."""
    found = judge(question)
    if err:
        if rng.random() < 0.3:
            return RAMBLING
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    elif found.solvable and 0 < found.steps <= 1:
        final = add_steps(question, rng) or question
    else:
        final = fix(question, rng)
    fault = "It can be solved." if found.solvable else f"It cannot be solved: {found.reason}."
    after = judge(final)
    return (
        f"CREATED QUESTION: {question}\n\n"
        f"VERIFICATION AND MODIFICATION: {fault} {after.solution or ''}\n\n"
        f"FINAL QUESTION: {final}"
    )


def harden(question: str, rng: random.Random, err: bool) -> str:
    """The four steps of a difficulty rewrite; what is broken is fixed first."""
    if err:
        if rng.random() < 0.3:
            return RAMBLING
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    else:
        sound = fix(question, rng)
        final = add_steps(sound, rng) or sound
    return (
        "Step 1 #Ways to Make It Harder#: One more event; a quantity that has to be found first.\n\n"
        "Step 2 #Plan#: Add one sentence, so that one more step is needed.\n\n"
        f"Step 3 #Draft#: {final}\n\n"
        f"Step 4 #Finally Rewritten Problem#: {final}"
    )


def verdict(question: str, rng: random.Random, err: bool) -> str:
    """Reasoning, then Yes or No."""
    found = judge(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    if found.solvable:
        reason = f"Let me try to solve it. {_unboxed(found)}"
    else:
        reason = f"Let me look at the conditions. There is a fault: {found.reason}."
    return f"{reason}\n\nAnswer: {'Yes' if found.solvable is not err else 'No'}"


def solve(question: str, rng: random.Random, err: bool) -> str:
    """A worked solution; of a question that has none, a guess."""
    found = judge(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    if found.answer is None or found.solution is None:
        return rf"The question does not say enough, so I guess. The answer is \boxed{{{rng.randint(1, 50)}}}."
    if not err:
        return found.solution
    right = rf"\boxed{{{show(found.answer)}}}"
    wrong = found.answer + rng.choice([-10, -2, -1, 1, 2, 10])
    if found.answer.denominator > 1:
        wrong = Fraction(found.answer.numerator, found.answer.denominator + rng.choice([1, 2]))
    return found.solution.replace(right, rf"\boxed{{{show(wrong)}}}")


def rate(question: str, rng: random.Random, err: bool) -> str:
    """The JSON object of a difficulty rating."""
    found = judge(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    level = LEVELS[min(max(found.steps, 1), 6) - 1]
    if err:
        level = rng.choice([name for name in ("very easy", "easy", "medium", "hard", "very hard") if name != level])
    words = {
        "intent": f"find a quantity in {found.steps} steps" if found.solvable else "unclear",
        "knowledge": "arithmetic with whole numbers",
        "difficulty": level,
    }
    return json.dumps(words, indent=2)


def classify(question: str, rng: random.Random, err: bool) -> str:
    """The topic between its marks."""
    if err and rng.random() < 0.25:
        return RAMBLING
    topic = "Geometry" if judge(question).family == "shape" else "Arithmetic"
    if err:
        topic = rng.choice(["Algebra", "Logic and Sets", "Other"])
    return f"<TOPIC>{topic}</TOPIC>"


ROLES: dict[str, Reply] = {
    "improve_solvability": improve,
    "raise_difficulty": harden,
    "judge": verdict,
    "solve": solve,
    "rate_difficulty": rate,
    "classify_topic": classify,
}


def right(question: str, reply: str) -> bool | None:
    """Whether a reply's boxed number is the answer."""
    found, said = judge(question), answers.final_answer(reply)
    if said is None:
        return None
    return found.answer is not None and answers.check(said, str(found.answer))


RESPONDER = OracleResponder(
    version=hashlib.blake2b("\n".join(sorted(SKELETONS)).encode(), digest_size=4).hexdigest(),
    replies=ROLES,
    right=right,
)


def _unboxed(found: QuestionAnalysis) -> str:
    return (found.solution or "").replace(r"\boxed{", "").replace("}", "")
