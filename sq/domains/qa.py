"""Questions with short answers that a grader can compare: mathematics as the paper has it, and any subject like it.

A subject is one YAML in conf/domain/: its seeds, prompts, instruction, benchmarks, which answers count as stated, and
how far a number may be off. There is no oracle, so nothing here says whether a question can be solved. Answers are
compared in the grader's worker processes, which can be killed; a model's words are never computed in this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sq.core.config import setting
from sq.data.sources import SourceConfig
from sq.domains.base import AnswerGroups, Candidates, DomainConfig, group_by_answer
from sq.domains.sourced import SourcedDomain

if TYPE_CHECKING:
    from sq.eval.grader import Grader

_PLACES = {"boxed": ("boxed",), "stated": ("boxed", "hashes", "phrase", "bold", "whole")}
"""Where an answer may stand for each setting of `extract`; `any` takes the last formula or number too."""


@dataclass(frozen=True, kw_only=True)
class QAConfig(DomainConfig):
    """A subject of questions with short answers."""

    seeds: SourceConfig = setting(help="where seed problems come from, with question, answer and solution")
    instruction: str = setting(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        help="added to a question when it is put to a solver",
    )
    extract: str = setting(
        "stated", choices=("boxed", "stated", "any"),
        help="which final answers count: in a box; announced as such in any way; or the last formula or number too",
    )  # fmt: skip
    tolerance: float | None = setting(
        None, gt=0, lt=1, help="share by which an answer may be off a reference that is a number; default: exact"
    )
    deadline: float = setting(1.5, gt=0, help="seconds the grader may take over one pair of answers")

    def create(self) -> QADomain:
        return QADomain(self)


class QADomain(SourcedDomain):
    """Implements `sq.domains.base.Domain`."""

    need = ("question", "answer", "solution")
    keep = ("level", "topic", "type", "subject")

    def __init__(self, config: QAConfig) -> None:
        super().__init__(config.name, config.seeds, config.benchmarks)
        self.config, self.instruction = config, config.instruction

    @property
    def extractor(self) -> str:
        """The version of the grader's extractor, and which places count."""
        from sq.eval.extract import extractor_version

        return f"{extractor_version()}-{self.config.extract}"

    @property
    def checker(self) -> str:
        """The version of the grader, and the tolerance."""
        from sq.eval.checkers import grader_version

        return f"{grader_version()}-{self.config.tolerance}"

    def final_answer(self, text: str, *, cut_off: bool = False) -> str | None:
        """The answer that a solution states, where that is a place that counts (`extract`)."""
        from sq.eval.extract import extract

        extracted = extract(text, finish_reason="length" if cut_off else None)
        places = _PLACES.get(self.config.extract)
        stated = extracted.has_answer if places is None else extracted.location.value in places
        return extracted.answer if stated else None

    def check(self, answer: str, reference: str) -> bool:
        """Whether two answers are the same by the strict profile of the grader, within the tolerance."""
        return self.check_many([(answer, reference)])[0]

    def check_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """The same of many, sent ahead to the grading process."""
        return self._grader.same_answers(pairs, self.config.tolerance)

    def vote(self, candidates: Candidates) -> AnswerGroups:
        """Candidates by their answers."""
        return self.vote_many([candidates])[0]

    def vote_many(self, questions: Sequence[Candidates]) -> list[AnswerGroups]:
        """The same for many questions, whose answers are compared together."""
        return group_by_answer([candidates.answers for candidates in questions], self.check_many)

    @cached_property
    def _grader(self) -> Grader:
        from sq.eval.grader import Grader
        from sq.eval.grader_config import GraderConfig

        return Grader(GraderConfig(workers=1, deadline=self.config.deadline))
