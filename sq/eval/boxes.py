r"""What stands in `\boxed{}` and `\fbox{}`: the last complete box, and several boxes that are one answer."""

from __future__ import annotations

import re

MAX_BOX = 6_000
MAX_BOXES = 8

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)|\\boxed\s+(?=[^\s{])")
_SEVERAL = re.compile(
    r"(?:[\s$.,;:&()*]|\\[()\[\],;]|\\text\{|\}|\band\b|\bor\b|\bfor\b|\bpart\b|\b[a-z]\b(?=\))|[A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?\s*=|\\quad|\\qquad)*",
    re.ASCII,
)
_PART = re.compile(r"\n\s*(?:\*\*)?\(?[b-h]\)")
"""The label of a further part of a question."""
_CONNECTED = re.compile(r",|;|&|\band\b|\bor\b|\bfor\b|\bpart\b|\\q?quad|=")
_COUNTED = re.compile(r"\s+[a-z]{2,15}(?=\s+(?:and|or)\s+\S*$|\s*,\s*\S*$)")


def boxed(text: str) -> str | None:
    r"""What the last complete `\boxed{}` holds; boxes joined by "and" or a comma are one answer of several."""
    return last_boxes(text)[0]


def last_boxes(text: str) -> tuple[str | None, int]:
    """The answer in the last boxes, and where they end."""
    starts = [m.end() for m in _BOX.finditer(text)][-MAX_BOXES:]
    spans: list[tuple[int, int, str]] = []
    for start in starts:
        span = _braced(text, start)
        if span is not None and span[0]:  # "put your answer in \\boxed{}" is no answer
            spans.append((start, span[1], span[0]))
    if not spans:
        return None, 0
    answers = [spans[-1][2]]
    for (_, end, answer), (start, _, _) in zip(reversed(spans[:-1]), reversed(spans[1:]), strict=True):
        between = text[end : text.rfind("\\", 0, start)]
        apart = "\n\n" in between and not _PART.search(between)
        if end > start or len(between) > 60 or apart or not _joins(between):
            break
        answers.insert(0, answer)
    distinct = list(dict.fromkeys(a.strip() for a in answers))
    return (", ".join(distinct) if len(distinct) > 1 else distinct[0]), spans[-1][1]


def in_a_box(answer: str) -> str:
    r"""The answer as an output states it; text that cannot stand in `\boxed{}` is left bare."""
    depth = 0
    for sign in answer.replace("\\{", "").replace("\\}", ""):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return answer
    return answer if depth or "\\boxed" in answer else f"\\boxed{{{answer}}}"


def _joins(between: str) -> bool:
    """Whether what stands between two boxes joins them: nothing within a formula, else a word or comma."""
    between = _COUNTED.sub("", between)
    if not _SEVERAL.fullmatch(between):
        return False
    return bool(_CONNECTED.search(between) or _PART.search(between)) or not re.search(r"[$\n]|\\[\])(\[]", between)


def _braced(text: str, start: int) -> tuple[str, int] | None:
    if text[start : start + 1] != "{":  # \boxed 5
        word = re.match(r"[^\s$.,;\\]+", text[start : start + 100])
        return (word.group(), start + word.end()) if word else None
    depth = 0
    for at in range(start, min(len(text), start + MAX_BOX)):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ("{", "}"):
            depth -= 0
            continue
        if char == "{" and text[at - 1] != "\\":
            depth += 1
        elif char == "}" and text[at - 1] != "\\":
            depth -= 1
            if depth == 0:
                return text[start + 1 : at].strip(), at + 1
    return None
