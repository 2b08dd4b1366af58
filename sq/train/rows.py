"""From a source to tokenised rows: read, encode, measure, hold out; once, on disk, and no row goes without a word.

A row that cannot be trained on (too long, empty, chosen = rejected) is counted by its reason, with its length, in
`rejects.jsonl`; the released scripts cut over-long pairs to 24 tokens and say nothing.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sq.core.chat import ChatFormat
from sq.core.count import count_noun
from sq.core.errors import ConfigError, RowError
from sq.core.files import digest_of
from sq.core.progress import LINE_SECONDS
from sq.core.rejects import TRAINING_FILE
from sq.data.columns import SeenContents
from sq.data.locate import InputKind, locate
from sq.data.order import in_validation
from sq.data.readers import BadRow
from sq.data.sources import DOMAIN_ROWS, digest, read_source
from sq.data.tokens import TokenizedExample, TokenRows, TokenWriter, fill_once
from sq.domains.base import LOOKED_AT, Domain, other_domain
from sq.models.load import ModelConfig
from sq.models.pack import TokenSequence
from sq.train.config import DataConfig, TooLong
from sq.train.record import IGNORED_BY_TOKENS, deciding
from sq.train.stage import EncodedRow, Encoding, StageConfig, UnusableRow

log = logging.getLogger(__name__)
DUPLICATE = "duplicate"
"""Rows of the very tokens of an earlier one: counted, and trained on."""


@dataclass(frozen=True, kw_only=True)
class RowLimit:
    """How many tokens a row may have, and the words for what sets that."""

    tokens: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows of a run: to train on, held out, and how many were rejected or cut, by reason."""

    train: TokenRows
    held_out: TokenRows
    counts: dict[str, int]
    directory: Path

    @property
    def summary(self) -> str:
        """How many rows there were, and how many of them were rejected."""
        rejected = sum(n for reason, n in self.counts.items() if reason not in ("truncated", DUPLICATE))
        return f"{count_noun(len(self.train) + len(self.held_out) + rejected, 'row')} in, {rejected:,} rejected"

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.train.longest, self.held_out.longest)

    def saved_by_sharing(self) -> float:
        """The share of the tokens to train on that are the prefix of all rows."""
        count = len(self.train) * self.train.segments
        return self.common_prefix() * count / max(1, int(self.train.lengths.sum()))

    def common_prefix(self) -> int:
        """How many opening tokens all rows have in common, held-out ones too."""
        mine = self.train.common_prefix()
        if not len(self.held_out):
            return len(mine)
        other = self.held_out.common_prefix()
        differ = (i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
        return next(differ, min(len(mine), len(other)))


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """The rows of a source as a stage's token sequences."""

    source: DataConfig
    domain: Domain
    chat: ChatFormat
    encoding: Encoding
    limit: RowLimit
    validation: float
    """Share of the rows that is held out."""
    seed: int

    def key(self, settings: Mapping[str, Any]) -> str:
        """What the rows depend on: the content of their source, the chat format, the limit, the job's settings."""
        source = "" if self.encoding.generate else digest(self.source, self.domain)
        made_by = (self.chat.digest, self.encoding.template, self.domain.instruction)
        return digest_of(source, *made_by, str(self.limit.tokens), deciding(settings, IGNORED_BY_TOKENS))

    def read(self, directory: Path) -> TrainingRows:
        """The rows in `directory`, where an earlier run or another process may have put them."""
        if self.encoding.whole and self.source.too_long is TooLong.TRUNCATE:
            raise ConfigError(
                "data.too_long=truncate would cut the end off rows, and with it what this stage learns from; use reject"
            )
        filled = fill_once(directory, self._write)
        counts = json.loads((filled / "counts.json").read_text())
        train, held_out = (TokenRows.open(filled / part) for part in ("train", "held_out"))
        listed = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if reason != DUPLICATE)
        if not len(train):
            raise RowError(self._nothing_left(len(held_out), listed, filled / TRAINING_FILE))
        if self.validation and not len(held_out):
            share = f"{min(0.5, 10 / len(train)):.2g}"
            log.warning(
                "stage.validation=%g of %s holds out none, so nothing is measured on held-out rows; "
                "stage.validation=%s would hold out some, 0 says that none are wanted",
                self.validation, count_noun(len(train), "row"), share,
            )  # fmt: skip
        if again := counts.get(DUPLICATE):
            log.warning("%s the same as an earlier one, and trained on all the same", _are(again))
        if listed:
            log.warning(
                "%s used, others: %s (see %s)", count_noun(len(train) + len(held_out), "row"), listed, TRAINING_FILE
            )
            if counts.keys() & {"too-long", "truncated"}:
                log.warning("%s", self.limit.reason)
        return TrainingRows(train=train, held_out=held_out, counts=counts, directory=filled)

    def _nothing_left(self, held_out: int, listed: str, rejects: Path) -> str:
        """Why there is no row to train on, with the first of those that were rejected."""
        if held_out:
            return f"all {held_out} rows are held out by stage.validation={self.validation}: lower it"
        with rejects.open(encoding="utf-8") as file:
            first = [json.loads(line) for line in itertools.islice(file, 3)]
        details = "".join(f"\n  {each['id']}: {each['detail']}" for each in first)
        return (
            f"no row is left to train on: {listed or 'the source is empty'}.{' The first:' if first else ''}{details}"
        )

    def _write(self, directory: Path) -> None:
        counts: Counter[str] = Counter()
        seen = SeenContents()
        with (
            (directory / TRAINING_FILE).open("w", encoding="utf-8") as file,
            TokenWriter(directory / "train") as train,
            TokenWriter(directory / "held_out") as held_out,
        ):

            def reject(name: str, reason: str, detail: str, row: object) -> None:
                counts[reason] += 1
                line = {"id": name, "reason": reason, "detail": detail, "row": row}
                file.write(json.dumps(line, default=repr) + "\n")

            def bad(row: BadRow) -> None:
                reject(f"{row.file}:{row.line}", row.reason, row.detail, row.row() if row.data else row.text)

            log.info("reading and tokenizing rows%s", ", those held out too" if self.validation else "")
            spoken = time.monotonic()
            rows = self.encoding.generate() if self.encoding.generate else self._of_the_domain(self._source_rows(bad))
            for number, row in enumerate(self.encoding.expand(rows) if self.encoding.expand else rows):
                if time.monotonic() - spoken > LINE_SECONDS:
                    log.info("%s tokenized", count_noun(number, "row"))
                    spoken = time.monotonic()
                name = str(row.get("id", number))
                try:
                    encoded, cut = _fitted(self.encoding.encode(row), self.limit.tokens, self.source.too_long)
                except UnusableRow as error:
                    reject(name, error.reason, error.detail, row)
                    continue
                except RowError as error:
                    reject(name, "unusable", str(error), row)
                    continue
                counts["truncated"] += cut
                counts[DUPLICATE] += seen.count(repr(encoded.sequences).encode()) > 0
                sequences = tuple(TokenSequence(*sequence) for sequence in encoded.sequences)
                validation = in_validation({"id": name, **row}, share=self.validation, seed=self.seed)
                (held_out if validation else train).add(TokenizedExample(sequences, name, encoded.values))
        (directory / "counts.json").write_text(json.dumps({k: v for k, v in counts.most_common() if v}))

    def _of_the_domain(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows; it is said where the first are of another domain."""
        first = list(itertools.islice(rows, LOOKED_AT))
        if warning := other_domain(self.domain, first):
            log.warning("%s", warning)
        return itertools.chain(first, rows)

    def _source_rows(self, bad: Callable[[BadRow], None]) -> Iterator[dict[str, Any]]:
        """All rows that are held out and, of the others, the first `data.limit`: what is measured is the same at any
        limit. Of a domain, which may have no end, rows are held out of as many as are taken where there is no limit.
        """
        source, most = self.source, math.inf
        limit, need = source.limit, self.encoding.need
        if limit is None or not self.validation:
            yield from read_source(source, need, bad, domain=self.domain)
            return
        whole = replace(source, limit=None)
        if not source.mix and locate(source.input or "domain", source.split).kind is InputKind.DOMAIN:
            most = DOMAIN_ROWS
            whole = replace(source, limit=sys.maxsize if limit > DOMAIN_ROWS else None)
        log.info(
            "reading the source beyond data.limit, for the rows that stage.validation holds out; 0 reads no further"
        )
        taken = 0
        for number, row in enumerate(read_source(whole, need, bad, domain=self.domain)):
            if in_validation(row, share=self.validation, seed=self.seed):
                if number < most:
                    yield row
            elif taken < limit:
                taken += 1
                yield row
            elif number >= most:
                return


def row_limit(source: DataConfig, stage: StageConfig, model: ModelConfig, model_max: int) -> RowLimit:
    """How long a row may be: what fits into a pack, the model's context, and `data.max_tokens`."""
    context, max_tokens, pack_tokens = max(model_max, model.positions or 0), source.max_tokens, stage.pack_tokens
    most = min(pack_tokens, model.max_length or pack_tokens, context)
    if max_tokens is not None and max_tokens > most:
        raise ConfigError(
            f"data.max_tokens={max_tokens} is more than fits: stage.pack_tokens={pack_tokens}, the "
            f"model's context {model.max_length or context}"
        )
    limit = max_tokens or most
    if limit == max_tokens:
        reason = "as data.max_tokens says: raise it, and stage.pack_tokens if need be"
    elif limit == pack_tokens:
        reason = "as stage.pack_tokens says: raise it to take longer ones"
    else:
        reason = (
            f"the context of model {model.name}: model.positions=N lets it learn a longer one, with "
            f"stage.pack_tokens={pack_tokens} or more"
        )
    return RowLimit(tokens=limit, reason=f"rows may have {limit:,} tokens, {reason}")


def _are(count: int) -> str:
    return f"{count_noun(count, 'row')} {'is' if count == 1 else 'are'}"


def _fitted(row: EncodedRow, limit: int, too_long: TooLong) -> tuple[EncodedRow, bool]:
    """The row within the limit (for a pair, both sides together), and whether it was cut for that.

    Cutting keeps the end token, which is what tells the model to stop.
    """
    length = sum(len(sequence.ids) for sequence in row.sequences)
    for sequence in row.sequences:
        if len(sequence.ids) <= max(sequence.start, 1):
            raise UnusableRow("nothing-supervised", f"{len(sequence.ids)} tokens, none of which carries loss")
    if length <= limit:
        return row, False
    if too_long is TooLong.REJECT:
        raise UnusableRow("too-long", f"{length} tokens, limit {limit}")
    share = limit // len(row.sequences)
    sequences = [
        sequence
        if len(sequence.ids) <= share
        else sequence._replace(ids=(*sequence.ids[: share - 1], sequence.ids[-1]))
        for sequence in row.sequences
    ]
    if any(len(sequence.ids) <= max(sequence.start, 1) for sequence in sequences):
        raise UnusableRow("too-long", f"{length} tokens, of which the limit {limit} leaves only the prompt")
    return row._replace(sequences=sequences), True
