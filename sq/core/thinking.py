"""Long chains of thought (paper v2): where a reply stops to reason and starts to answer.

Models mark their reasoning, `<think> ... </think>` mostly; some templates put the opening mark into the prompt, so that
a reply begins inside. Only what follows the closing mark can hold a final answer.
"""

from __future__ import annotations

from collections.abc import Sequence

UNFINISHED = -1
"""In place of the answer's start: the reasoning never ended."""
COMMON = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
)
"""What is looked for where a model's own marks are not known."""


def answer_start(reply: str, marks: tuple[str, str] | None = None) -> int | None:
    """Where the answer begins in a reply that reasons first; `UNFINISHED` if it never does; None without reasoning.

    Args:
        reply: the whole of it, with the opening mark even if that stood in the prompt.
        marks: what opens and closes the model's reasoning; none: the common ones.
    """
    for opening, closing in [marks] if marks else COMMON:
        end = reply.rfind(closing)
        if end >= 0:
            return end + len(closing)
        if opening in reply:
            return UNFINISHED
    return None


def reopened(reply: str, prompt: str, marks: Sequence[str]) -> str:
    """A reply with the mark that opens its reasoning, where its prompt ends in that.

    Args:
        reply: what the model wrote.
        prompt: the end of what it was given.
        marks: what opens and closes its reasoning; none: nothing is given back.
    """
    opening = next(iter(marks), None)
    return f"{opening}\n{reply.lstrip()}" if opening and prompt.rstrip().endswith(opening) else reply


def with_common_marks(reply: str, marks: Sequence[str]) -> str:
    """A reply in which a model's own marks are those that are looked for where they are not known."""
    if tuple(marks) in COMMON:
        return reply
    for own, common in zip(marks, COMMON[0], strict=False):
        reply = reply.replace(own, common)
    return reply


def tail(reply: str, limit: int) -> str:
    """The last `limit` characters of a reply; where its reasoning never ends, the mark that opens it stands first."""
    if len(reply) <= limit or answer_start(reply) != UNFINISHED:
        return reply[-limit:]
    opening = next(opening for opening, _ in COMMON if opening in reply)
    return opening + reply[len(opening) - limit :]
