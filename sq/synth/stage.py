"""What a stage of synthesis is: items in a fixed order, what decides their rows, and how items become results.

All else is the same for every stage (`run.py`): exactly-once by the ledger, rows of the input that cannot be used as
rejects, progress, workers, and one line at the end whose counts reconcile (in = out + rejects by reason).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem
from sq.core.rows import row_id
from sq.core.tracking import DataRef, ItemTrace
from sq.data.columns import Need
from sq.data.count_rows import count_groups, count_rows
from sq.data.order import gathered
from sq.data.readers import BadRow
from sq.data.sources import digest, read_source, seeks
from sq.domains.base import LOOKED_AT, Domain, other_domain
from sq.engine.meter import Usage
from sq.synth.advice import foreign_rows

if TYPE_CHECKING:
    from sq.synth.config import SynthJob

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemResult:
    """What came of one item: rows, rejects, or both; or a `failure`, and the item is left for the next run."""

    key: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    failure: str | None = None


def no_traces(limit: int) -> list[ItemTrace]:
    """Of a stage that asks no model."""
    return []


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """What a stage does. `fingerprint_fields` is all that its rows depend on beside its items; `items` come in a fixed
    order."""

    schema: pa.Schema
    fingerprint_fields: Mapping[str, Any]
    items: Callable[[], Iterator[WorkItem]]
    process: Callable[[Iterator[WorkItem], str], Iterator[ItemResult]]
    close: Callable[[], None]
    usages: Sequence[Usage] = ()
    """What its models are asked, for the bill."""
    inputs: tuple[DataRef, ...] = ()
    ignored_fields: frozenset[str] = frozenset()
    """Settings that decide no row, and may differ when a stage is continued."""
    total: int | None = None
    """About how many items there are, for the time left."""
    metrics: Callable[[Path], Mapping[str, float]] = lambda directory: {}
    """What is measured of the finished directory; `metrics.py` has the table of names."""
    stale: Callable[[Mapping[str, float]], bool] = lambda metrics: False
    """Whether the metrics of a finished stage lack what is asked for now."""
    items_from: Callable[[int], Iterator[WorkItem]] | None = None
    """The items from number n on, where those before need not be read."""
    whole: str = ""
    """Why one worker must see every item, where it must: a row depends on all others."""
    all_items_metrics: Callable[[], Mapping[str, float] | None] = lambda: None
    """Where one worker sees every item: what was measured of them, once this process has seen the last."""
    take_metrics: Callable[[Mapping[str, float]], None] = lambda metrics: None
    """Take those of the process that has."""
    in_turns: bool = False
    """Whether its models are loaded one after the other, each over all items that a worker is given at once."""
    independent: bool = True
    """Whether an item has rows or rejects, never both, and no item's depend on another's."""
    item_column: str | None = None
    """A column whose value is another in each item's rows, where items have different numbers of rows."""
    traces: Callable[[int], list[ItemTrace]] = no_traces
    """What its models were asked for their first items, so many of each."""
    unit: str = "row"
    then: str = ""
    """The command that usually follows, up to the key that takes this stage's directory."""

    def items_after(self, start: int) -> Iterator[WorkItem]:
        """The items from number `start` on."""
        return self.items_from(start) if self.items_from else itertools.islice(self.items(), start, None)


@dataclass(frozen=True, kw_only=True)
class StageInput:
    """The rows that a stage reads: where they come from, and their columns."""

    job: SynthJob
    domain: Domain
    need: Need
    any_text: tuple[str, ...] = ()

    def check(self, *, own_problems: bool = False) -> DataRef:
        """The input as tracking and ledger know it; `own_problems`: without one the domain's are taken.

        Raises:
            ConfigError: where no input is given.
            RowError: where it has no usable row.
        """
        source = self.job.source
        if source.input is None and not source.mix and not own_problems:
            raise ConfigError(f"stage={self.job.stage.name} reads rows: give input=, a stage's directory or a file")
        rows = read_source(source, self.need, [], domain=self.domain, any_text=self.any_text, log_counts=False)
        some = list(itertools.islice(rows, LOOKED_AT))
        warning = other_domain(self.domain, some)
        if warning is None and self.job.domain.has_oracle:
            warning = foreign_rows(self.domain, some)
        if warning is not None:
            log.warning("%s", warning)
        first = some[0]
        path = source.input or ("mix" if source.mix else "domain")
        return DataRef(
            name="input", path=path, digest=digest(source, self.domain),
            run=None if first["run"].startswith("source:") else first["run"],
        )  # fmt: skip

    def rows(self, start: int = 0) -> Iterator[dict[str, Any] | BadRow]:
        """Stream the rows, and each bad line in its place. A row that names no domain is of the job's."""
        bad: list[BadRow] = []
        source = self.job.source
        for row in read_source(source, self.need, bad, domain=self.domain, any_text=self.any_text, start=start):
            yield from bad
            bad.clear()
            if row.get("domain") is None:
                row["domain"] = self.domain.name
            yield row
        yield from bad

    def count(self, *, groups: bool = False) -> int | None:
        """About how many rows there are, or `groups` of them that were made together, as the answers to a question."""
        return count_rows(self.job.source, groups=groups)

    def items(self, key: Callable[[dict[str, Any]], str], start: int = 0) -> Iterator[WorkItem]:
        """Each row as an item under its key; bad lines too."""
        for row in self.rows(start):
            yield bad_item(row) if isinstance(row, BadRow) else WorkItem(key(row), row)

    def grouped(self, make: Callable[[Iterator[dict[str, Any]]], Iterator[WorkItem]]) -> Iterator[WorkItem]:
        """Items that `make` forms of several rows each; a bad line is an item before the one among whose rows it is."""
        bad: list[BadRow] = []

        def good() -> Iterator[dict[str, Any]]:
            for row in self.rows():
                if isinstance(row, BadRow):
                    bad.append(row)  # it does not part the rows around it
                else:
                    yield row

        for item in make(good()):
            yield from map(bad_item, bad)
            bad.clear()
            yield item
        yield from map(bad_item, bad)

    def groups(
        self, rows: Iterator[dict[str, Any]], name: Callable[[dict[str, Any]], str]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The rows by their names, wherever in a file those of one name stand."""
        counts = count_groups(self.job.source, self.need, name, domain=self.domain, any_text=self.any_text)
        return gathered(rows, name, counts)

    def items_from(self, key: Callable[[dict[str, Any]], str]) -> Callable[[int], Iterator[WorkItem]] | None:
        """The same from number n on, where those before need not be read."""
        return (lambda start: self.items(key, start)) if seeks(self.job.source) else None


def bad_item(bad: BadRow) -> WorkItem:
    """A line of the input that gave no row, as an item of the stage."""
    return WorkItem(row_id("bad", unit=bad.unit, **bad.place), bad)


def seed_of(key: str) -> int:
    """The sampling seed of a row: decided by its key, so that it is the same in any batch and any run.

    Sixty-four bits with the sign, which is never negative: what vLLM, torch, Parquet and endpoints all take.
    """
    return int(key[:16], 16) >> 1
