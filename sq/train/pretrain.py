"""Pretraining on a domain's own text, from random weights: how the tiny base is made.

The corpus mixes facts, worked problems, and bare questions good and bad, so that the base knows the language and there
is something left for QFT and QPO to improve.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError
from sq.data.tokens import TokenRows
from sq.models.load import NEW_TINY, load_tokenizer
from sq.models.pack import Row
from sq.models.tiny import make_tokenizer
from sq.train.config import PretrainStage, TrainJob

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sq.domains.base import Document

TOKENIZER_DOCUMENTS = 20_000


def prepare(job: TrainJob) -> tuple[PreTrainedTokenizerFast, TokenRows, TokenRows]:
    """Tokenizer, training rows and held-out rows."""
    stage = job.stage
    if not isinstance(stage, PretrainStage):
        raise ConfigError(f"stage={stage.name} is not pretraining")
    domain = job.domain.create()
    if job.model.path == NEW_TINY:
        tokenizer = make_tokenizer(_text(d) for d in domain.corpus(TOKENIZER_DOCUMENTS, job.seed))
    else:
        tokenizer = load_tokenizer(job.model)
    chat = ChatFormat.from_tokenizer(tokenizer, job.model.chat, key="model.chat")
    rows = _rows(domain.corpus(stage.documents, job.seed), tokenizer, chat)
    held_out = TokenRows.of(islice(rows, round(stage.validation * stage.documents)))
    return tokenizer, TokenRows.of(rows), held_out


def _text(document: Document) -> str:
    return "\n".join(part for part in (document.text, document.question, document.solution) if part)


def _rows(documents: Iterator[Document], tokenizer: PreTrainedTokenizerFast, chat: ChatFormat) -> Iterator[Row]:
    """Every token is a target. Plain text ends with the pad token, which thereby means "end of document"."""
    for document in documents:
        if document.text:
            ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
            yield Row([*ids, tokenizer.pad_token_id], 0)
        elif document.solution:
            yield Row(chat.training_ids(document.question, document.solution).ids, 0)
        else:
            yield Row(chat.question_ids(document.question).ids, 0)
