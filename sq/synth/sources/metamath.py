"""`source=metamath`: rephrased and backward questions (MetaMath, arXiv 2309.12284, its question bootstrapping).

Rephrasing asks a model. The backward ones mask a number of the seed as x and ask for it: FOBAR gives the seed's answer
in a sentence of its own, self-verification has a model turn question and answer into a statement. Their answer is the
masked number, which stands in the row. Answer augmentation is no new question: that is stage=answers with n.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sq.core.config import setting
from sq.synth.sources.prompted import Item, PromptedSource, Writing

OPERATIONS = ("rephrase", "self_verification", "fobar")
FIND_X = "What is the value of the unknown variable x?"
NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w%]|[.,]\d)")

UNKNOWN_X = re.compile(r"(?<![A-Za-z])x|x(?=[\d_^])")
"""An x of the question's own: x, 2x, xy, x_1, yx^2."""


@dataclass(frozen=True, kw_only=True)
class MetaMathSource(PromptedSource):
    """Each seed rephrased, or asked backwards.

    Seeds without an answer or a number are rephrased only, or rejected where rephrasing has no weight.
    """

    roles: ClassVar = ("rephrase", "state")

    shares: dict[str, float] = setting(
        dict.fromkeys(OPERATIONS, 1.0), ge=0, help=f"weight of each operation: {', '.join(OPERATIONS)}"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.shares) - set(OPERATIONS) or not sum(self.shares.values()):
            raise ValueError(f"shares={self.shares} must weigh some of {', '.join(OPERATIONS)}")

    @property
    def asks(self) -> Mapping[str, float]:
        """FOBAR asks no model."""
        total = sum(self.shares.values())
        roles = {"rephrase": "rephrase", "self_verification": "state"}
        return {self.prompts[role].template: self.shares.get(name, 0.0) / total for name, role in roles.items()}

    def write(self, item: Item) -> Writing:
        """The operation is drawn for each item."""
        answer, masked = item.seed.get("answer"), masked_number(item.question, item.rng)
        names = OPERATIONS if answer is not None and masked is not None else OPERATIONS[:1]
        weights = [self.shares.get(name, 0.0) for name in names]
        if not sum(weights):
            lacks = "answer" if answer is None else "number"
            detail = f"the seed has no {lacks} to ask backwards from, and rephrase has no weight"
            raise item.reject("unusable", detail, "")
        operation = item.rng.choices(names, weights)[0]
        if operation == "rephrase" or masked is None:
            item.add((yield from item.ask("rephrase", question=item.question)), operation, answer=answer)
            return
        text, number = masked
        if operation == "fobar":
            known = f"If we know the answer to the above question is {answer}, {FIND_X[0].lower()}{FIND_X[1:]}"
            item.add(f"{text} {known}", operation, answer=number)
            return
        stated = yield from item.ask("state", question=text, answer=str(answer))
        if not re.search(r"\bx\b", stated):
            raise item.reject("unparsed", f"the statement has no x: {stated[:160]}", operation)
        item.add(f"{stated} {FIND_X}", operation, answer=number)


def masked_number(question: str, rng: random.Random) -> tuple[str, str] | None:
    """The question with one of its numbers replaced by x, and that number; None where it has none."""
    found = list(NUMBER.finditer(question))
    if not found or UNKNOWN_X.search(question):
        return None
    one = rng.choice(found)
    return f"{question[: one.start()]}x{question[one.end() :]}", one[0].replace(",", "")
