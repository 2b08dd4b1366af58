"""What the pipeline needs of a subject: seed questions, the final answer of a solution, and a check of it.

Questions with short answers are `qa.py` and one YAML in conf/domain/; any other kind is one class with these members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from sq.core.config import setting
from sq.core.config_help import groups

DEFAULT_DOMAIN = "arithmetic"
"""The domain of a run that names none, as in conf/train.yaml and conf/synthesize.yaml."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A piece of text to pretrain on: plain `text`, or a `question` to be put in chat form, `solution` or none.

    The question carries loss too, but where it is `given`.
    """

    text: str = ""
    question: str = ""
    solution: str = ""
    given: bool = False


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """What a vote is taken on: a question, the final answers to it, and the whole texts that these are from."""

    question: Mapping[str, Any]
    answers: Sequence[str]
    responses: Sequence[str]


def group_by_answer(
    questions: Sequence[Sequence[str]], check_many: Callable[[list[tuple[str, str]]], Sequence[bool]]
) -> list[AnswerGroups]:
    """The answers to each question grouped; the key is the first form of an answer.

    In rounds over all questions: whatever is not the same as a question's first form waits for the next one. So an
    answer is compared with the same forms as if it were looked at alone, and many comparisons go together.
    """
    keys: list[dict[str, str]] = [{} for _ in questions]
    left = [list(dict.fromkeys(answers)) for answers in questions]
    while any(left):
        same = iter(check_many([(answer, rest[0]) for rest in left for answer in rest[1:]]))
        for form_of, rest in zip(keys, left, strict=True):
            first = rest[0] if rest else ""
            matching = [answer for i, answer in enumerate(rest) if not i or next(same)]
            form_of |= dict.fromkeys(matching, first)
            rest[:] = [answer for answer in rest if answer not in form_of]
    return [
        AnswerGroups(keys=tuple(form_of[answer] for answer in answers))
        for form_of, answers in zip(keys, questions, strict=True)
    ]


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

    @property
    def checker(self) -> str:
        """What decides `check` and `vote` beside the texts: a digest of their code, with its settings."""
        ...

    @property
    def answer_fields(self) -> dict[str, str]:
        """What decides how it is asked, which final answer a reply has and whether that is right: for fingerprints."""
        return {"instruction": self.instruction, "extractor": self.extractor, "checker": self.checker}

    def final_answer(self, text: str, *, cut_off: bool = False) -> str | None:
        """The final answer that a solution states, or None; where it was cut off, only one that is whole."""
        ...

    def check(self, answer: str, reference: str) -> bool:
        """Whether an answer is right, given the reference answer."""
        ...

    def check_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """The same of many answers, each with its reference: where they can go together, they take less time so."""
        return [self.check(answer, reference) for answer, reference in pairs]

    def vote(self, candidates: Candidates) -> AnswerGroups:
        """Group the candidates of a question."""
        ...

    def vote_many(self, questions: Sequence[Candidates]) -> list[AnswerGroups]:
        """The same for many questions."""
        return [self.vote(candidates) for candidates in questions]

    def oracle_label(self, question: str) -> OracleLabel | None:
        """An oracle's word on a question; None in a domain that has no oracle."""
        ...

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """Yield `count` documents to pretrain a small model on, the same for the same arguments."""
        ...


LOOKED_AT = 20
"""Rows of an input by which it is seen whether they are of the domain."""


def other_domain(domain: Domain, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong where the first rows say that they are of another of our domains."""
    named = {str(row["domain"]) for row in rows if row.get("domain") is not None} - {domain.name}
    others = sorted(named.intersection(groups()["domain"]))
    if not others:
        return None
    return (
        f"the rows are of domain={' and domain='.join(others)}, and the stage has domain={domain.name}: it asks, "
        f"extracts, compares and checks answers as {domain.name} does. Give domain={others[0]}"
    )


def check_answers(domain: Domain, answers: Sequence[str | None], reference: str) -> list[bool]:
    """Whether each final answer is right; one that is none is not."""
    right = iter(domain.check_many([(answer, reference) for answer in answers if answer is not None]))
    return [answer is not None and next(right) for answer in answers]


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Base of the domains' configs."""

    has_oracle: ClassVar[bool] = False
    """Whether `engine=oracle` can stand in a model's place."""

    name: str = setting(help="name of the domain in rows and reports")
    subject: str = setting("mathematics", help="what its questions are of, as prompts of all domains name it")
    benchmarks: list[str] = setting([], help="what measures its students: names of conf/benchmark/")
    prompts: dict[str, str] = setting({}, help="a role of conf/prompt/ -> the domain's own prompt for it")
    assumptions: str = setting("math", help="whose lengths sq plan supposes: a name of conf/assumptions/")

    def create(self) -> Domain:
        """The domain itself."""
        raise TypeError(f"{type(self).__name__} has no domain")
