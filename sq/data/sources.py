"""Rows from wherever people keep them: files, the hub, a saved dataset, an earlier stage, a domain, or a mix of these.

Reading streams and its memory is bounded. A row that cannot be used is rejected with its place and reason and never
stops the rest; a source without one usable row is an error, and it shows before any weight is loaded. The paper's seeds
(section 2.1, about 15K questions of GSM8K and MATH mixed) are `conf/data/gsm8k-math.yaml`.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from sq.core.config import build, setting
from sq.core.count import count_noun
from sq.core.errors import ConfigError, RowError
from sq.core.ledger import read_manifest, read_rows
from sq.data.columns import Columns, Need, SeenContents
from sq.data.digests import file_digest, hash_of
from sq.data.hub import read_hub, read_saved, resolve_revision
from sq.data.locate import InputKind, LocatedInput, format_of, locate
from sq.data.order import mixed, shuffled
from sq.data.readers import read_file
from sq.data.records import BadRow, Record, bad_row, check_encoding, of_encoding, with_c1_warning
from sq.data.where import RowFilter, both

log = logging.getLogger(__name__)
Rejects = Callable[[BadRow], None] | list[BadRow] | None
DOMAIN_ROWS = 15_000
"""Seed problems that are taken of a domain when no limit is given: as many as the paper's seeds."""


class Domain(Protocol):
    """What is needed of a domain here (`sq.domains.base` has the whole of it)."""

    name: str

    @property
    def digest(self) -> str:
        """What decides the seeds, beside count, seed and split."""
        ...

    def seeds(self, count: int, seed: int, split: str) -> Iterator[dict[str, Any]]:
        """Yield `count` rows with a question, the same for the same arguments."""
        ...


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where rows come from, and which of them."""

    input: str | None = setting(None, help="a file, a directory, a hub dataset or domain; none: domain")
    mix: dict[str, Any] | None = setting(
        None, help="in place of input: name -> a source (its input, weight, ...), or input -> weight"
    )
    columns: dict[str, str] | None = setting(None, help="our column -> their name for it")
    limit: int | None = setting(None, ge=1, help="at most so many rows")
    where: str | None = setting(None, help="which rows, by their columns: fail_rate >= 0.5 and level != 'easy'")
    split: str | None = setting(None, help="of a dataset with several; train where there is one")
    subset: str | None = setting(None, help="of a hub dataset with several")
    revision: str | None = setting(None, help="of a hub dataset: commit, branch or tag")
    form: str = setting("auto", choices=("auto", "gsm8k", "math", "plain"), help="how answers are written")
    header: bool = setting(True, help="csv, tsv: the first line has the names; without it they are 0, 1, ...")
    encoding: str | None = setting(None, help="of text files that are not UTF-8: cp1252, utf-16, gb18030, ...")
    shuffle: bool = setting(False, help="seeded; exact up to 10,000 rows, beyond that within a sliding window of them")
    seed: int = setting(0)

    def __post_init__(self) -> None:
        if self.mix and self.input is not None:
            raise ValueError("input and mix are both given; give one of them")
        if self.mix is not None and not self.mix:
            raise ValueError("mix={} names no source")
        check_encoding(self.encoding)
        if self.where is not None:
            RowFilter(self.where)
        parts(self)


@dataclass(frozen=True, kw_only=True)
class WeightedSource:
    """One source of a mix and its weight, or none."""

    source: SourceConfig
    weight: float | None


def read_source(
    config: SourceConfig,
    need: Need,
    rejects: Rejects = None,
    *,
    domain: Domain | None = None,
    any_text: Collection[str] = (),
    start: int = 0,
    log_counts: bool = True,
) -> Iterator[dict[str, Any]]:
    """Stream the usable rows of a source; each has its lineage, what is needed, and what else the source has.

    Args:
        config: where from, and which.
        need: a schema (its required columns are needed), names with their types, or names alone.
        rejects: is called with each bad row, or a list they are put in.
        domain: gives the rows where the input is `domain`.
        any_text: needed columns that may hold any text, an empty one too (what a model said, say).
        start: the first record that is read, of a source that `seeks`. There may be none from it on.
        log_counts: say at the end of each file how many rows were used and how many rejected, and where a mix ends.

    Raises:
        RowError: at once where there is nothing usable; later where a further file of the source has no usable row.
    """
    note = rejects.append if isinstance(rejects, list) else rejects or (lambda bad: None)
    context = ReadContext(
        need=need, note=note, domain=domain, any_text=any_text, seen=SeenContents(), start=start, log_counts=log_counts
    )
    return _rows(config, context) if start else _checked(config, context)


def seeks(config: SourceConfig) -> bool:
    """Whether record n of the source can be read without those before it, and each is a row or a bad one by itself."""
    if config.mix or config.shuffle or config.limit is not None or config.input is None:
        return False
    return locate(config.input, config.split).kind is InputKind.STAGE


def check_there(config: SourceConfig) -> None:
    """Refuse a file that is not there, or that no format fits, before anything heavy is imported."""
    if config.mix:
        for part in parts(config).values():
            check_there(part.source)
    elif config.input:
        locate(config.input, config.split)


def digest(config: SourceConfig, domain: Domain | None = None) -> str:
    """A digest of a source's content (of the hub: its commit), for the ledger and for tracking; no path is in it."""
    if config.mix:
        return hash_of(*(f"{name}={digest(part.source, domain)}" for name, part in parts(config).items()))
    if config.where is not None:
        return hash_of(digest(replace(config, where=None), domain), "where", config.where)
    source = locate(_input(config, domain), config.split)
    if source.kind is InputKind.STAGE:
        return read_manifest(source.paths[0]).digest
    if source.kind is InputKind.HUB:
        commit = resolve_revision(source.name, config.revision)
        return hash_of("hub", source.name, commit, config.subset or "", config.split or "")
    if source.kind is InputKind.DOMAIN:
        its = _domain(source.name, domain)
        return hash_of("domain", its.name, its.digest, config.split or "", str(config.seed))
    if source.kind is InputKind.SAVED:
        files = sorted(p for p in source.paths[0].rglob("*.arrow") if p.is_file())
        return hash_of(*(file_digest(p) for p in files), config.split or "")
    return hash_of(*(file_digest(p) for p in source.paths), *([config.encoding] if config.encoding else []))


def config_of_stage(config: SourceConfig) -> Mapping[str, Any]:
    """What decided the rows of a stage's directory whose columns are read as they are; nothing of any other source."""
    if config.mix or config.columns or config.input is None:
        return {}
    source = locate(config.input, config.split)
    return read_manifest(source.paths[0]).config if source.kind is InputKind.STAGE else {}


def parts(config: SourceConfig) -> dict[str, WeightedSource]:
    """The sources of a mix. A value that is a number is a weight, and its key the input.

    Raises:
        ValueError: naming the part of a mix that cannot be used.
    """
    sources = {}
    for name, value in (config.mix or {}).items():
        given = {"input": name, "weight": value} if not isinstance(value, Mapping) else dict(value)
        weight = given.pop("weight", None)
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0):
            raise ValueError(
                f"mix.{name}.weight={weight!r} must be a number above 0 (leave a source out to take none of it)"
            )
        try:
            source = build({"seed": config.seed, **given}, SourceConfig, key=f"mix.{name}")
            source = replace(source, where=both(config.where, source.where))
        except ConfigError as error:
            raise ValueError("; ".join(error.problems)) from error
        if source.input is None and not source.mix:
            raise ValueError(f"mix.{name} has no input")
        sources[name] = WeightedSource(source=source, weight=weight)
    if len({part.weight is None for part in sources.values()}) > 1:
        without = ", ".join(name for name, part in sources.items() if part.weight is None)
        raise ValueError(f"mix: give every source a weight, or none; {without} has none")
    return sources


@dataclass(frozen=True, kw_only=True)
class ReadContext:
    """What all sources of one reading share."""

    need: Need
    note: Callable[[BadRow], None]
    domain: Domain | None
    any_text: Collection[str]
    seen: SeenContents
    start: int = 0
    log_counts: bool = True
    names: Counter[str] = field(default_factory=Counter)
    """How often a file of each name was begun."""


def _checked(config: SourceConfig, context: ReadContext) -> Iterator[dict[str, Any]]:
    """The rows of a source or mix, the first of them already read: what is wrong shows now."""
    if config.mix:
        streams = {name: (_checked(part.source, context), part.weight) for name, part in parts(config).items()}
        rows = mixed(streams, config.seed, log_end=context.log_counts)
    else:
        rows = _rows(config, context)
    if config.shuffle:
        rows = shuffled(rows, config.seed)
    if config.limit is not None:
        rows = itertools.islice(rows, config.limit)
    first = next(rows, None)
    if first is None:
        raise RowError(f"{config.input or 'the source'} has no rows")
    return itertools.chain([first], rows)


def _rows(config: SourceConfig, context: ReadContext) -> Iterator[dict[str, Any]]:
    source = locate(_input(config, context.domain), config.split)
    is_table = source.kind is InputKind.FILES and format_of(source.paths[0]) in ("csv", "tsv")
    columns = Columns(
        context.need, config.columns or {}, form=config.form, any_text=context.any_text, untyped=is_table,
        source=source.name,
    )  # fmt: skip
    run = f"source:{digest(config, context.domain)}"
    where = RowFilter(config.where) if config.where is not None else None
    if source.kind is InputKind.FILES:
        read = partial(read_file, header=config.header, split=config.split, encoding=config.encoding)
        files = [(path.name, read(path)) for path in source.paths]
    else:
        files = [(source.name, _records(source, config, context.domain, context.start))]
    endless = source.kind is InputKind.DOMAIN and config.limit is not None
    for name, records in files:
        may_be_empty = len(files) > 1 or context.start > 0
        rows = _usable(
            records, columns, run, context, name, may_be_empty, source.has_columns, where, endless, config.encoding
        )
        if source.kind is InputKind.FILES and context.log_counts:
            rows = with_c1_warning(rows, name)
        if source.kind is InputKind.DOMAIN and context.domain is not None:
            rows = ({**row, "domain": context.domain.name} for row in rows)
        yield from rows


def _usable(
    records: Iterable[Record | BadRow],
    columns: Columns,
    run: str,
    context: ReadContext,
    name: str,
    may_be_empty: bool,
    has_columns: bool,
    where: RowFilter | None,
    endless: bool,
    encoding: str | None,
) -> Iterator[dict[str, Any]]:
    """The rows of one file or dataset; its bad ones, and those that `where` leaves out, are noted and counted.

    Where all rows have the same columns a missing one is an error at the first row, not a reject row by row.
    """
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    good, left_out, names = 0, 0, None
    earlier = context.names[name]
    context.names[name] += 1
    for record in records:
        if not isinstance(record, BadRow):
            number, value = record
            if names is None:
                names = tuple(value)
                if has_columns:
                    columns.check_first(names, name)
            row = columns.row(value, number, run, context.seen)
            outside = where.problem(row, f"{name}, row {number}") if where and isinstance(row, dict) else None
            if isinstance(row, dict) and outside is None:
                good, left_out = good + 1, 0
                yield row
                continue
            problem, its_id = (outside or ("", ""), str(row["id"])) if isinstance(row, dict) else (row, "")
            record = bad_row(name, number, *problem, json.dumps(value, ensure_ascii=False, default=repr), id=its_id)
        record = of_encoding(record, encoding) if encoding else record
        reasons[record.reason] += 1
        left_out = left_out + 1 if record.reason == "left_out" else 0
        if where and endless and left_out > DOMAIN_ROWS:
            raise RowError(
                f"{name}: none of {left_out:,} problems in a row holds where={where.text!r}, after {good:,} that do; "
                f"ask for another where, or limit={max(good, 1)}"
            )
        examples += [str(record)] if len(examples) < 3 else []
        context.note(replace(record, earlier=earlier))
    counts = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
    if good and reasons:
        if not context.log_counts:
            return
        log.warning("%s: %s used, %d rejected (%s)", name, count_noun(good, "row"), reasons.total(), counts)
    elif reasons and not context.start:
        if names is not None and set(reasons) <= {"missing_column", "ambiguous_column"}:
            columns.check_first(names, name)
        raise RowError(f"{name} has no usable row; rejected: {counts}. The first:\n  " + "\n  ".join(examples))
    elif not good and not may_be_empty:
        raise RowError(f"{name} has no rows")


def _records(
    source: LocatedInput, config: SourceConfig, domain: Domain | None, start: int
) -> Iterator[Record | BadRow]:
    if source.kind is InputKind.HUB:
        return read_hub(source.name, config.subset, config.split, config.revision)
    if source.kind is InputKind.SAVED:
        return read_saved(source.paths[0], config.split)
    if source.kind is InputKind.STAGE:
        return enumerate(read_rows(source.paths[0], start=start), start + 1)
    count = config.limit or DOMAIN_ROWS
    if config.where is not None and config.limit is not None:
        count = sys.maxsize  # the limit counts those taken
    seeds = _domain(source.name, domain).seeds(count, config.seed, config.split or "train")
    return enumerate(map(dict, seeds), 1)


def _input(config: SourceConfig, domain: Domain | None) -> str:
    if config.input:
        return config.input
    if domain is None:
        raise RowError(
            "no input is given; input= takes a file, a directory, an earlier stage's output or a hub dataset"
        )
    return "domain"


def _domain(name: str, domain: Domain | None) -> Domain:
    wanted = name.partition(":")[2]
    if domain is None:
        raise RowError(f"input={name} takes the problems of the run's domain, but this run has none; give a file")
    if wanted and wanted != domain.name:
        raise RowError(f"input={name}, but the run's domain is {domain.name}; say domain={wanted}, or input=domain")
    return domain
