"""SFT: a student learns to answer; the loss is on the solution only (paper, section 3.3)."""

from __future__ import annotations

from typing import Any

from sq.core.chat import ChatFormat
from sq.data.tokens import TokenizedExample
from sq.models.pack import TokenSequence
from sq.train.base import TokenModule
from sq.train.config import TrainJob
from sq.train.rows import Task


class SFTModule(TokenModule):
    """Cross-entropy over solution tokens and the end token."""


def task(job: TrainJob, chat: ChatFormat) -> Task:
    """Questions with what to learn for an answer: the response that a stage has kept, or a seed's own solution."""
    domain = job.domain.create()

    def encode(row: dict[str, Any]) -> TokenizedExample:
        ids = chat.training_ids(row["question"], row["response"], instruction=domain.instruction)
        return TokenizedExample((TokenSequence(*ids),), row["id"])

    return Task(need=("question", "response"), encode=encode, chat=chat, domain=domain)
