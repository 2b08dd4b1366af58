"""SFT: a student learns to answer; the loss is on the solution only (paper, section 3.3; SPEC of the stages, row 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sq.core.chat import ChatFormat
from sq.core.errors import RowError
from sq.data.tokens import TokenRows
from sq.models.load import load_tokenizer
from sq.models.pack import Row
from sq.train.config import TrainJob

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def prepare(job: TrainJob) -> tuple[PreTrainedTokenizerFast, TokenRows, TokenRows]:
    """Tokenizer, training rows and held-out rows, from the domain's seeds."""
    tokenizer = load_tokenizer(job.model)
    chat = ChatFormat.from_tokenizer(tokenizer, job.model.chat)
    domain = job.domain.create()
    count = job.data.limit or 10_000
    held_out = round(job.stage.validation * count)

    def rows(split: str, number: int) -> TokenRows:
        seeds = domain.seeds(number, job.seed, split)
        ids = (chat.training_ids(s["question"], s["solution"], instruction=domain.instruction) for s in seeds)
        return TokenRows.of(Row(i.ids, i.start) for i in ids)

    if count < 1:
        raise RowError(f"data.limit={count} leaves no row to train on")
    return tokenizer, rows("train", count), rows("validation", held_out)
