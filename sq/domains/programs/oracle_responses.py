"""What the oracle of the programming tasks says in each role, in the reply formats that the prompts ask for.

Asked to err, it does so as a model would: a wrong answer or program, a rewrite that changes nothing or spoils the task,
or a reply that cannot be read.
"""

from __future__ import annotations

import json
import random
import re

from sq.domains.oracle import OracleResponder, Reply
from sq.domains.programs.grammar import INDENT, KINDS, LAST_LINE
from sq.domains.programs.oracle import analyse
from sq.domains.programs.problems import add_steps, fix, unsolvable

LEVELS = ("very easy", "easy", "medium", "hard", "hard", "very hard")
"""By number of steps, from one."""
MISTAKES = ("r + 1", "r - 1", "r + 2", "r - 2", "r + r", "r * r + 1", "1 - r")
"""What a faulty program does at its end. Several, for a model does not always make the same mistake."""
RAMBLING = "Let me think about this task for a while. It looks like a small function, and much can be said of it"
_BLOCK = re.compile(r"```python\n(.*?)\n?```", re.DOTALL)


def improve_solvability(question: str, rng: random.Random, err: bool) -> str:
    """The three parts of a solvability rewrite."""
    analysis = analyse(question)
    if err and rng.random() < 0.3:
        return RAMBLING
    if err:
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    elif analysis.solvable and analysis.steps <= 1:
        final = add_steps(question, rng) or question
    else:
        final = fix(question, rng)
    fault = "It can be programmed." if analysis.solvable else f"It cannot be programmed: {analysis.reason}."
    return f"CREATED QUESTION: {question}\n\nVERIFICATION AND MODIFICATION: {fault}\n\nFINAL QUESTION: {final}"


def raise_difficulty(question: str, rng: random.Random, err: bool) -> str:
    """The four steps of a difficulty rewrite; what is broken is fixed first."""
    if err and rng.random() < 0.3:
        return RAMBLING
    if err:
        final = question if rng.random() < 0.6 else unsolvable(fix(question, rng), rng)[0]
    else:
        sound = fix(question, rng)
        final = add_steps(sound, rng) or sound
    return (
        "Step 1 #Ways to Make It Harder#: One more operation on the result.\n\n"
        "Step 2 #Plan#: Add one sentence, so that one more step is needed.\n\n"
        f"Step 3 #Draft#: {final}\n\n"
        f"Step 4 #Finally Rewritten Problem#: {final}"
    )


def judge_solvability(question: str, rng: random.Random, err: bool) -> str:
    """Reasoning, then Yes or No."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    reason = "Each sentence says what to do." if analysis.solvable else f"There is a fault: {analysis.reason}."
    return f"Let me go through the task. {reason}\n\nAnswer: {'Yes' if analysis.solvable is not err else 'No'}"


def solve(question: str, rng: random.Random, err: bool) -> str:
    """The reference program; wrong by one line where it errs; of a task that has none, a guess."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    if analysis.solution is None:
        return "The task does not say enough, so I guess.\n```python\ndef solve(a):\n r = a\n return r\n```"
    mistake = f"{INDENT}r = {rng.choice(MISTAKES)}\n{LAST_LINE}"
    return analysis.solution.replace(LAST_LINE, mistake) if err else analysis.solution


def rate_difficulty(question: str, rng: random.Random, err: bool) -> str:
    """The JSON object of a difficulty rating."""
    analysis = analyse(question)
    if err and rng.random() < 0.25:
        return RAMBLING
    level = LEVELS[min(max(analysis.steps, 1), 6) - 1]
    if err:
        level = rng.choice([name for name in ("very easy", "easy", "medium", "hard", "very hard") if name != level])
    intent = f"program {analysis.steps} operations" if analysis.solvable else "unclear"
    return json.dumps({"intent": intent, "knowledge": "integers and lists in Python", "difficulty": level}, indent=2)


def classify_topic(question: str, rng: random.Random, err: bool) -> str:
    """The topic between its marks."""
    if err and rng.random() < 0.25:
        return RAMBLING
    header = analyse(question).header
    topic = "Lists" if header and list in header.params.values() else "Numbers"
    return f"<TOPIC>{rng.choice(['Strings', 'Other']) if err else topic}</TOPIC>"


def is_right(question: str, reply: str) -> bool | None:
    """Whether a reply's program is the reference; what else would do as well is left to the tests."""
    blocks = _BLOCK.findall(reply)
    return analyse(question).program == blocks[-1].strip() if blocks else None


REPLIES: dict[str, Reply] = {
    "improve_solvability": improve_solvability,
    "raise_difficulty": raise_difficulty,
    "judge": judge_solvability,
    "solve": solve,
    "rate_difficulty": rate_difficulty,
    "classify_topic": classify_topic,
}
RESPONDER = OracleResponder(version=f"2-{len(KINDS)}", replies=REPLIES, is_right=is_right)
