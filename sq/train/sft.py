"""SFT: a student learns to answer; the loss is on the solution only (paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sq.train.stage import EncodedRow, Encoding, RowContext
from sq.train.token_stage import TokenStage


@dataclass(frozen=True, kw_only=True)
class SFTStage(TokenStage):
    """Fine-tuning on questions with solutions; loss on the solution and the end token only."""

    def encoding(self, context: RowContext) -> Encoding:
        """Questions with what to learn for an answer: the response that a stage has kept, or a seed's own solution."""

        def encode(row: dict[str, Any]) -> EncodedRow:
            instruction = context.domain.instruction
            return EncodedRow([context.chat.training_ids(row["question"], row["response"], instruction=instruction)])

        return Encoding(need=("question", "response"), encode=encode)
