"""The two ways in which GSM8K and MATH write the final answer into the solution, taken apart.

GSM8K keeps it in the last line of `answer` (`#### 72`), MATH in a `\\boxed{}` within `solution`; both come out as a
solution and an answer. (The final answer of a model's reply is read by its domain.)
"""

from __future__ import annotations

import re
from typing import Any


def split_answer(row: dict[str, Any], form: str) -> None:
    """Give the row a solution and a final answer where one text holds both."""
    answer, solution = row.get("answer"), row.get("solution")
    if form in ("auto", "gsm8k") and isinstance(answer, str) and solution is None:
        if parts := split_gsm8k(answer):
            row["solution"], row["answer"] = parts
    elif form in ("auto", "math") and isinstance(solution, str) and answer is None:
        if (boxed := last_boxed(solution)) is not None:
            row["answer"] = boxed


def split_gsm8k(answer: str) -> tuple[str | None, str] | None:
    """Solution and final answer of a GSM8K `answer` (its last line is `#### N`), or None where it is none."""
    head, mark, tail = answer.rpartition("####")
    final = tail.strip()
    if not mark or not final or "\n" in final or (head.rstrip(" \t") and not head.rstrip(" \t").endswith("\n")):
        return None
    return head.strip() or None, final


def last_boxed(solution: str) -> str | None:
    """What the last `\\boxed{}` of a solution holds, braces balanced; None where there is none."""
    start = max(solution.rfind("\\boxed{"), solution.rfind("\\boxed {"), solution.rfind("\\fbox{"))
    if start < 0:
        return _unbraced(solution)
    begin = solution.index("{", start) + 1
    depth = 1
    for at in range(begin, len(solution)):
        escaped = solution[at - 1] == "\\" and solution[at - 2] != "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(solution[at], 0)
        if not depth:
            return solution[begin:at].strip() or None
    return None


def _unbraced(solution: str) -> str | None:
    words = re.findall(r"\\boxed\s+(\w+)", solution)
    return words[-1] if words else None
