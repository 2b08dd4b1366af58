"""What the pipeline needs of a subject: seed questions, the final answer of a solution, and a check of it.

Questions with short answers are `qa.py` and one YAML in conf/domain/; any other kind is one class with these members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from sq.core.config import setting

DEFAULT_DOMAIN = "arithmetic"
"""The domain of a run that names none, as in conf/train.yaml and conf/synthesize.yaml."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A piece of text to pretrain on: plain `text`, or a `question` to be put in chat form, `solution` or none."""

    text: str = ""
    question: str = ""
    solution: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OracleLabel:
    """An exact judgement of a question: whether it can be solved, why not, in how many steps, with which answer."""

    solvable: bool
    reason: str
    steps: int = 0
    answer: str | None = None
    topic: str = ""
    """The family of problems, where the oracle knows some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerGroups:
    """Candidates of one question, grouped: equal keys say the same.

    `agreement` is the share of the tests written beside them that most of them pass, where there are any.
    """

    keys: tuple[str, ...]
    agreement: float | None = None


def group_by_answer(answers: Sequence[str], check: Callable[[str, str], bool]) -> AnswerGroups:
    """Candidates grouped by their answers; the key is the first form of an answer."""
    forms: list[str] = []
    keys: list[str] = []
    for answer in answers:
        same = answer if answer in forms else next((form for form in forms if check(answer, form)), None)
        if same is None:
            same = answer
            forms.append(answer)
        keys.append(same)
    return AnswerGroups(keys=tuple(keys))


class Domain(Protocol):
    """A subject whose questions have a checkable answer."""

    name: str
    instruction: str
    """What is added to a question when it is put to a solver; may be empty."""
    base_model: str
    """The model that a report embeds questions with where the run has trained none; may be empty."""

    @property
    def digest(self) -> str:
        """What decides the seeds, beside count, seed and split."""
        ...

    def seeds(self, count: int, seed: int, split: str) -> Iterator[dict[str, Any]]:
        """Yield `count` rows with at least question, answer, solution and steps, the same for the same arguments."""
        ...

    @property
    def extractor(self) -> str:
        """What decides `final_answer` beside the text: a digest of its code, with its settings."""
        ...

    def final_answer(self, text: str) -> str | None:
        """The final answer that a solution states, or None."""
        ...

    def check(self, answer: str, reference: str) -> bool:
        """Whether an answer is right, given the reference answer."""
        ...

    def vote(self, question: Mapping[str, Any], answers: Sequence[str], responses: Sequence[str]) -> AnswerGroups:
        """Group the candidates of a question: their answers, and the whole texts that these are from."""
        ...

    def oracle_label(self, question: str) -> OracleLabel | None:
        """An oracle's word on a question; None in a domain that has no oracle."""
        ...

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """Yield `count` documents to pretrain a small model on, the same for the same arguments."""
        ...


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Base of the domains' configs."""

    has_oracle: ClassVar[bool] = False
    """Whether `engine=oracle` can stand in a model's place."""

    name: str = setting(help="name of the domain in rows and reports")
    benchmarks: list[str] = setting([], help="what measures its students: names of conf/benchmark/")
    prompts: dict[str, str] = setting({}, help="a role of conf/prompt/ -> the domain's own prompt for it")
    assumptions: str = setting("math", help="whose lengths sq plan supposes: a name of conf/assumptions/")

    def create(self) -> Domain:
        """The domain itself."""
        raise TypeError(f"{type(self).__name__} has no domain")
