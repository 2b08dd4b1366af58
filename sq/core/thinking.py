"""Long chains of thought (paper v2): where a reply stops to reason and starts to answer.

Models mark their reasoning, `<think> ... </think>` mostly; some templates put the opening mark into the prompt, so that
a reply begins inside. Only what follows the closing mark can hold a final answer.
"""

from __future__ import annotations

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
