"""What the pipeline needs of a subject: seed questions, the final answer of a solution, and a check of it.

A new domain is one class with these members and one YAML in conf/domain/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Domain(Protocol):
    """A subject whose questions have a checkable answer."""

    name: str

    def seeds(self, count: int, seed: int, split: str) -> Iterator[dict[str, Any]]:
        """Yield `count` rows with at least question, answer, solution and steps, the same for the same arguments."""
        ...

    def final_answer(self, text: str) -> str | None:
        """The final answer that a solution states, or None."""
        ...

    def check(self, answer: str, reference: str) -> bool:
        """Whether an answer is right, given the reference answer."""
        ...
