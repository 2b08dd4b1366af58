"""What domains have in common whose seed problems are read from a source: a training split alone, and no oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sq.core.errors import ConfigError
from sq.data.sources import SourceConfig, digest, read_source
from sq.domains.base import Document, Domain, OracleLabel


class SourcedDomain(Domain):
    """The members of `sq.domains.base.Domain` that follow from a source.

    `need` are the columns that a row must have, `keep` those that it may have too.
    """

    base_model = ""
    need: ClassVar[tuple[str, ...]]
    keep: ClassVar[tuple[str, ...]]

    def __init__(self, name: str, source: SourceConfig, benchmarks: Sequence[str]) -> None:
        self.name, self._source, self._benchmarks = name, source, benchmarks

    def seeds(self, count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
        """Yield up to `count` seed problems, in the order that the seed gives."""
        if split != "train":
            raise ConfigError(
                f"split={split}: domain={self.name} has the problems of its training sets only; what a model can do is "
                f"measured by evaluate.py benchmark=[{','.join(self._benchmarks)}]"
            )
        source = dataclasses.replace(self._given, limit=min(count, self._source.limit or count), seed=seed)
        for row in read_source(source, self.need):
            yield {name: row[name] for name in (*self.need, *self.keep) if row.get(name) is not None}

    @property
    def digest(self) -> str:
        """A digest of what the seeds are read from."""
        return digest(self._given)

    @property
    def _given(self) -> SourceConfig:
        """What the seeds are read from.

        Raises:
            ConfigError: the domain brings none, and nobody gave any.
        """
        if self._source.input is None and not self._source.mix:
            raise ConfigError(
                f"domain={self.name} brings no seed problems: give yours, with question and solution (or answer), by "
                "domain.seeds.input=FILE, or rows to this command by data.input= (training) or input= (synthesis)"
            )
        return self._source

    def corpus(self, count: int, seed: int) -> Iterator[Document]:
        """The seed problems, with solutions where there are any, as text to pretrain on."""
        for row in self.seeds(count, seed):
            yield Document(question=row["question"], solution=row.get("solution", ""))

    def oracle_label(self, question: str) -> OracleLabel | None:
        """None: nothing exact can be said of a question from outside."""
        return None
