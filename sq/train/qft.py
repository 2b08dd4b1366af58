"""QFT: a problem solver learns to write problems, from questions alone (paper, section 2.1).

The loss is on the question and the end token; the template's prefix carries none. The same prefix ids are used in QPO
and in sampling (`sq/core/chat.py`).
"""

from __future__ import annotations

from typing import Any

from sq.core.chat import ChatFormat
from sq.data.tokens import TokenizedExample
from sq.models.pack import TokenSequence
from sq.train.base import TokenModule
from sq.train.config import TrainJob
from sq.train.rows import Task


class QFTModule(TokenModule):
    """Cross-entropy over question tokens and the end token."""


def task(job: TrainJob, chat: ChatFormat) -> Task:
    """Questions as prefix, question, end."""

    def encode(row: dict[str, Any]) -> TokenizedExample:
        return TokenizedExample((TokenSequence(*chat.question_ids(row["question"])),), row["id"])

    return Task(need=("question",), encode=encode, chat=chat, domain=job.domain.create())
