"""SFT: a student learns to answer; the loss is on the solution only (paper, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sq.core.chat import ChatFormat
from sq.core.errors import RowError
from sq.data.order import in_validation
from sq.data.sources import read_source
from sq.data.tokens import TokenRows
from sq.models.load import load_tokenizer
from sq.models.pack import Row
from sq.train.config import TrainJob

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def prepare(job: TrainJob) -> tuple[PreTrainedTokenizerFast, TokenRows, TokenRows]:
    """Tokenizer, training rows and held-out rows, from the domain's seeds or any file with questions and solutions."""
    tokenizer = load_tokenizer(job.model)
    chat = ChatFormat.from_tokenizer(tokenizer, job.model.chat, key="model.chat")
    domain = job.domain.create()
    train: list[Row] = []
    held_out: list[Row] = []
    for row in read_source(job.data, ("question", "solution"), domain=domain):
        ids = chat.training_ids(row["question"], row["solution"], instruction=domain.instruction)
        side = held_out if in_validation(row, share=job.stage.validation, seed=job.seed) else train
        side.append(Row(ids.ids, ids.start))
    if not train:
        raise RowError(f"all {len(held_out)} rows are held out by stage.validation={job.stage.validation}: lower it")
    return tokenizer, TokenRows.of(train), TokenRows.of(held_out)
