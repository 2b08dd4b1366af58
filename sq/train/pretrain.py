"""Pretraining on a domain's own text, from random weights: how the tiny base is made.

The corpus mixes facts, worked problems, and bare questions good and bad, so that the base knows the language and there
is something left for QFT and QPO to improve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sq.core.chat import SupervisedTokens
from sq.core.config import setting
from sq.domains.base import Document, Domain
from sq.train.stage import EncodedRow, Encoding, RowContext
from sq.train.token_stage import TokenStage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_DOCUMENTS = 20_000


@dataclass(frozen=True, kw_only=True)
class PretrainStage(TokenStage):
    """Next-token prediction on the domain's text, from random weights: how the tiny base is made."""

    new_weights: ClassVar[bool] = True
    next_command: ClassVar[str] = "train stage=sft {domain} {model}{path}"

    documents: int = setting(100_000, ge=1, help="documents of the domain's corpus")

    def new_tokenizer(self, domain: Domain, seed: int) -> PreTrainedTokenizerFast:
        """Learnt from the domain's text."""
        from sq.models.tiny import make_tokenizer

        return make_tokenizer(_text(document) for document in domain.corpus(TOKENIZER_DOCUMENTS, seed))

    def encoding(self, context: RowContext) -> Encoding:
        """Every token is a target, but those of a question that is given. Plain text ends with the pad token.

        Many given questions do not change what follows the chat prefix; the pad token thereby means an end.
        """
        chat, tokenizer = context.chat, context.tokenizer

        def generate() -> Iterator[dict[str, Any]]:
            for number, document in enumerate(context.domain.corpus(self.documents, context.seed)):
                yield {"id": f"document {number}", **asdict(document)}

        def encode(row: dict[str, Any]) -> EncodedRow:
            if row["text"]:
                ids = (*tokenizer(row["text"], add_special_tokens=False)["input_ids"], tokenizer.pad_token_id)
                return EncodedRow([SupervisedTokens(ids, 0)])
            if not row["solution"]:
                return EncodedRow([SupervisedTokens(chat.question_ids(row["question"]).ids, 0)])
            worked = chat.training_ids(row["question"], row["solution"])
            return EncodedRow([worked if row["given"] else SupervisedTokens(worked.ids, 0)])

        return Encoding(need=(), encode=encode, generate=generate)


def _text(document: Document) -> str:
    return "\n".join(part for part in (document.text, document.question, document.solution) if part)
