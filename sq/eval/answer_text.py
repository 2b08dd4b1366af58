"""The part of an output that answers: without stop tokens, reasoning, and questions that the model went on to ask."""

from __future__ import annotations

import re

from sq.core.thinking import UNFINISHED, answer_start
from sq.eval.equal.notation import with_backslashes

_STOPS = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "<|end_of_text|>",
)
_ANSWERED = re.compile(r"\\boxed\s*\{[^{}\s]|####[ \t]*[^#\s]|\banswer(?: is|:)\s*\S", re.IGNORECASE)
_NEXT = re.compile(r"\n[ \t]*(?:#{2,4}\s*Instruction:?|(?:\*\*)?(?:Question|Problem|Q)(?:\s*\d+)?:)")


def visible_text(text: str) -> str:
    """What stands before the first stop token, and before a next question where one has been answered already."""
    text = with_backslashes(text.replace("\x00", " "))
    for stop in _STOPS:
        at = text.find(stop, 1)
        if at > 0 and text[:at].strip():
            text = text[:at]
    answered = _ANSWERED.search(text) if _NEXT.search(text) else None
    following = _NEXT.search(text, answered.end()) if answered else None
    return text[: following.start()] if following else text


def may_mention(text: str, words: tuple[str, ...]) -> bool:
    """Whether one of these ASCII words may be in a text, whatever their case: the cheap question before a pattern that
    cannot match without them. Of a text beyond ASCII it is not said: other letters are equal to ours without case."""
    if not text.isascii():
        return True
    lower = text.lower()
    return any(word in lower for word in words)


def after_thinking(text: str) -> tuple[str, bool]:
    """The text after the reasoning, and whether the reasoning never ended."""
    start = answer_start(text)
    if start == UNFINISHED:
        return "", True
    if start is not None:
        return text[start:], False
    inside = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL) if "</answer>" in text else None
    return (inside.group(1) if inside else text), False
