"""QFT: a problem solver learns to write problems, from questions alone (paper, section 2.1).

The loss is on the question and the end token; the template's prefix carries none. The same prefix ids are used in QPO
and in sampling (`sq/core/chat.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sq.train.stage import EncodedRow, Encoding, RowContext
from sq.train.token_stage import TokenStage


@dataclass(frozen=True, kw_only=True)
class QFTStage(TokenStage):
    """Question fine-tuning: loss on the question and the end token only."""

    next_command: ClassVar[str] = "synthesize stage=questions {domain} {tuned}"

    def encoding(self, context: RowContext) -> Encoding:
        """Questions as prefix, question, end."""

        def encode(row: dict[str, Any]) -> EncodedRow:
            return EncodedRow([context.chat.question_ids(row["question"])])

        return Encoding(need=("question",), encode=encode)
