"""Where DART-Math looks for the answer: its rules, in its order, written anew, mistakes included."""

from __future__ import annotations

import re

from sq.eval.equal.dart_text import trimmed_behind, truth
from sq.eval.extract import MAX_OUTPUT, AnswerLocation, Extraction

_MARKERS = ("herefore", "####", "# Answer")
_BEFORE = ("is the ans", "is our ans")
_AFTER = ("answer is", "answer:", "answer :")
_FORMULA = re.compile(r"(?:\$|\\\(|\\\[)([^$]+)(?:\$|\\\(|\\\[)")
_NUMBER = re.compile(r"-?\d*\.?\d+")


def extract(output: str) -> Extraction:
    """The final answer: behind the last marker a box, else a phrase; else the last formula, the last number."""
    whole = output[-MAX_OUTPUT:]
    text = trimmed_behind(whole)
    for marker in _MARKERS:
        if marker in text:
            text = text.rpartition(marker)[2].strip()
    if "oxed{" in text:
        return Extraction(answer=_box(text), location=AnswerLocation.BOXED)
    phrase = _phrase(text)
    if phrase is not None:
        return Extraction(answer=phrase, location=AnswerLocation.PHRASE)
    formulas = _FORMULA.findall(whole)
    if formulas:
        return Extraction(answer=formulas[-1], location=AnswerLocation.FORMULA)
    numbers = _NUMBER.findall(whole.replace(",", ""))
    if numbers:
        return Extraction(answer=numbers[-1], location=AnswerLocation.NUMBER)
    return Extraction(answer="", location=AnswerLocation.NOWHERE)


def _box(text: str) -> str:
    """What the last box holds; all that follows where it is not closed."""
    behind = text.rpartition("oxed")[2]
    if not behind.startswith("{"):
        return behind.partition("$")[0].strip()
    depth = 0
    for match in re.finditer(r"\\.|[{}]", behind, re.DOTALL):
        depth += (match.group() == "{") - (match.group() == "}")
        if depth == 0 and match.group() == "}":
            return behind[1 : match.start()]
    return behind[1:]


def _phrase(text: str) -> str | None:
    """What stands before "is the answer" or behind "answer is"; a truth value where a statement is graded."""
    before = next((m for m in _BEFORE if m in text), None)
    after = next((m for m in _AFTER if m in text), None)
    if before:
        answer = re.split(r"[,.]|!\|?", text.split(before)[-2].strip())[-1].strip()
    elif after:
        answer = text.rpartition(after)[2].strip()
    elif "statement" in text:
        word = truth(text.rpartition("is ")[2].strip())
        if word is not None:
            return word
        answer = text
    else:
        return None
    return answer[1:-1] if len(answer) > 1 and answer[0] == answer[-1] == "$" else answer
