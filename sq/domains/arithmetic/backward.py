"""Questions asked backwards (source=metamath): a number is x, the answer is given, x is asked for.

The oracle tries every small number for x: such a question is solvable where exactly one of them gives the answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from sq.domains.arithmetic.answers import check
from sq.domains.arithmetic.oracle import QuestionAnalysis
from sq.domains.arithmetic.oracle import analyse as analyse_forward
from sq.domains.arithmetic.world import Reason

LARGEST_X = 200
_ASKED = "hat is the value of the unknown variable x?"
_FOBAR = re.compile(r"(.+\?) If we know the answer to the above question is (\S+), w" + re.escape(_ASKED))
_STATED = re.compile(r'(.*)The answer to "([^"]+\?)" is (\S+)\. W' + re.escape(_ASKED))
_X = re.compile(r"\bx\b")


def analyse(text: str) -> QuestionAnalysis:
    """Judge a question from its text alone, asked forwards or backwards."""
    if not text.endswith(_ASKED):
        return analyse_forward(text)
    if found := _FOBAR.fullmatch(text):
        question, answer = found[1], found[2]
    elif found := _STATED.fullmatch(text):
        question, answer = f"{found[1]}{found[2]}", found[3]
    else:
        return QuestionAnalysis(False, Reason.UNPARSED, text)
    if len(_X.findall(question)) != 1:
        return QuestionAnalysis(False, Reason.UNKNOWN, text)
    read = {x: analyse_forward(_X.sub(str(x), question)) for x in range(1, LARGEST_X + 1)}
    fits = [x for x, one in read.items() if one.answer is not None and check(answer, str(one.answer))]
    if len(fits) != 1:
        return QuestionAnalysis(False, Reason.CONTRADICTION if not fits else Reason.MISSING, text)
    x = fits[0]
    forward = (read[x].solution or "").replace(r"\boxed{", "").replace("}", "")
    solution = rf"Try x = {x}. {forward} That is the answer that is given, so x is \boxed{{{x}}}."
    return replace(read[x], answer=Fraction(x), steps=read[x].steps + 1, solution=solution)


def statement(question: str, answer: str) -> str:
    """The question, which has an x, with its answer as a text that asks nothing."""
    facts, _, asked = question.rpartition(". ")
    return f'{f"{facts}. " if facts else ""}The answer to "{asked}" is {answer}.'
