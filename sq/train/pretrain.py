"""Pretraining on a domain's own text, from random weights: how the tiny base is made.

The corpus mixes facts, worked problems, and bare questions good and bad, so that the base knows the language and there
is something left for QFT and QPO to improve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError
from sq.data.readers import BadRow
from sq.data.tokens import TokenizedExample
from sq.models.pack import TokenSequence
from sq.models.tiny import make_tokenizer
from sq.train.base import TokenModule
from sq.train.config import TrainJob
from sq.train.rows import Task
from sq.train.stages import PretrainStage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sq.domains.base import Document

TOKENIZER_DOCUMENTS = 20_000


class PretrainModule(TokenModule):
    """Cross-entropy over every token."""


def new_tokenizer(job: TrainJob) -> PreTrainedTokenizerFast:
    """The tokenizer of a new tiny model, learnt from the domain's text."""
    return make_tokenizer(_text(d) for d in job.domain.create().corpus(TOKENIZER_DOCUMENTS, job.seed))


def task(job: TrainJob, chat: ChatFormat, tokenizer: PreTrainedTokenizerFast) -> Task:
    """The domain's corpus; every token is a target. Plain text ends with the pad token, which thereby means an end."""
    stage, domain = job.stage, job.domain.create()
    if not isinstance(stage, PretrainStage):
        raise ConfigError(f"stage={stage.name} is not pretraining")

    def rows(bad: Callable[[BadRow], None]) -> Iterator[dict[str, Any]]:
        for number, document in enumerate(domain.corpus(stage.documents, job.seed)):
            yield {"id": f"document {number}", **asdict(document)}

    def encode(row: dict[str, Any]) -> TokenizedExample:
        if row["text"]:
            ids = [*tokenizer(row["text"], add_special_tokens=False)["input_ids"], tokenizer.pad_token_id]
        elif row["solution"]:
            ids = list(chat.training_ids(row["question"], row["solution"]).ids)
        else:
            ids = list(chat.question_ids(row["question"]).ids)
        return TokenizedExample((TokenSequence(ids, 0),), row["id"])

    return Task(need=(), encode=encode, rows=rows, chat=chat, domain=domain)


def _text(document: Document) -> str:
    return "\n".join(part for part in (document.text, document.question, document.solution) if part)
