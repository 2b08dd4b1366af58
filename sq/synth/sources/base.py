"""What a question source is, and what counts as a question of any of them.

Adding a source is one file here and one YAML in conf/source/ with its prompts. One that asks a model about seeds is a
`PromptedSource` (prompted.py) with `write`, which says what is asked and what of the replies is a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sq.core.config import setting
from sq.core.errors import RowError
from sq.core.rows import text_problem
from sq.engine.base import Completion

if TYPE_CHECKING:
    from sq.core.tracking import DataRef
    from sq.synth.config import SynthJob
    from sq.synth.questions import QuestionsStage
    from sq.synth.stage import StageInput, StageSpec


@dataclass(frozen=True, kw_only=True)
class QuestionSource:
    """Base of the sources' configs."""

    asks_model: ClassVar[bool] = True
    """Whether the job's engine starts for it."""

    name: str = setting(help="what its rows call it, in the column question_source")

    @property
    def asks(self) -> Mapping[str, float]:
        """For a forecast: the text of a prompt -> how often an item asks with it. None: it asks no prompt."""
        return {}

    @property
    def per_item(self) -> float:
        """For a forecast: questions that come of an item."""
        return 1.0

    def check(self, rows: StageInput, *, own_problems: bool = False) -> DataRef:
        """The rows that it reads, checked; of columns beside the question an error says that this source takes them."""
        try:
            return rows.check(own_problems=own_problems)
        except RowError as error:
            if tuple(rows.need) == ("question",):
                raise
            raise RowError(f"source={self.name} takes rows with {', '.join(rows.need)}: {error}") from error

    def spec(self, job: SynthJob, stage: QuestionsStage) -> StageSpec:
        """How its questions are made, checked and ready to run."""
        raise TypeError(f"{type(self).__name__} makes no questions")


def question_problem(completion: Completion, text: str) -> str | None:
    """Why a sampled text is no complete question, if it is none."""
    return "cut-off" if completion.finish_reason == "length" else unusable(text)


def unusable(text: str) -> str | None:
    """Why a text is no question, if it is none."""
    if problem := text_problem(text):
        return "empty" if "empty" in problem or "blank" in problem else "unreadable"
    return "repeating" if repeats(text) else None


def repeats(text: str, *, width: int = 4, share: float = 0.5) -> bool:
    """Whether more than `share` of the text's runs of `width` words have come before in it."""
    words = text.split()
    runs = [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]
    return len(runs) >= 2 * width and len(set(runs)) < (1 - share) * len(runs)
