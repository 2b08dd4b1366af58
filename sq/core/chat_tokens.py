"""Text to token ids and back for text that comes from outside: nothing in it becomes a control token.

A question about chat formats may hold the letters `<|im_end|>`; tokenised as usual they would end the user's turn.
Tokenizers made from SentencePiece add a space to every fragment. Both are undone here, on a private copy of the
tokenizer that no other user's truncation or padding settings can reach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sq.core.errors import ConfigError, RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class PlainText:
    """Tokenises a fragment as plain text: no control ids, no added space, no BOS."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, controls: Iterable[str]) -> None:
        from tokenizers import Tokenizer

        if not tokenizer.is_fast:
            raise ConfigError(
                f"the tokenizer '{tokenizer.name_or_path}' ({type(tokenizer).__name__}) has no tokenizer.json; "
                "convert it to a fast one"
            )
        self._copy = Tokenizer.from_str(_without_additions(tokenizer.backend_tokenizer.to_str()))
        ids = {text: self._copy.token_to_id(text) for text in sorted(controls)}
        self.control_ids = frozenset(i for i in ids.values() if i is not None)
        self._controls = tuple(ids)
        # Wherever a control token's text starts, a cut after its first character keeps it apart.
        self._cut = re.compile("(?=" + "|".join(re.escape(c) for c in ids) + ")", re.DOTALL)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, in which the text of a control token stays text.

        Raises:
            RowError: if `text` is not valid Unicode, or the tokenizer makes a control token of it all the same.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"the text has a lone surrogate at character {error.start}: {text[:60]!r}") from error
        ids = [i for piece in self._pieces(text) for i in self._copy.encode(piece, add_special_tokens=False).ids]
        if not self.control_ids.isdisjoint(ids):
            raise RowError(f"the text cannot be told from a control token: {text[:60]!r}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens shown, nothing cleaned up."""
        return str(self._copy.decode(list(ids), skip_special_tokens=False))

    def _pieces(self, text: str) -> list[str]:
        if not any(control in text for control in self._controls):
            return [text]
        cuts = [0, *(m.start() + 1 for m in self._cut.finditer(text)), len(text)]
        return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if a < b]


def added_tokens_in(text: str, added: Iterable[str]) -> list[tuple[int, str]]:
    """Where the tokenizer's added tokens stand in `text`, those that look like marks (no blanks, no plain words)."""
    marks = sorted((t for t in added if t.strip() and not t.strip().isalnum()), key=len, reverse=True)
    if not marks:
        return []
    pattern = re.compile("|".join(re.escape(m) for m in marks))
    return [(m.start(), m.group()) for m in pattern.finditer(text)]


def _without_additions(serialised: str) -> str:
    state = json.loads(serialised)
    for part in ("truncation", "padding", "post_processor"):
        state[part] = None
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        state[part] = _no_space(state[part], decoder=part == "decoder")
    return json.dumps(state, ensure_ascii=False)


def _no_space(part: dict[str, Any] | None, *, decoder: bool) -> dict[str, Any] | None:
    """A component of a tokenizer without the space it adds before a fragment (or, decoding, takes away)."""
    if part is None:
        return None
    if part["type"] == "Prepend" or (decoder and part["type"] == "Strip"):
        return None
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    for members in ("normalizers", "pretokenizers", "decoders"):
        if members in part:
            kept = (_no_space(member, decoder=decoder) for member in part[members])
            part = part | {members: [member for member in kept if member is not None]}
    return part
