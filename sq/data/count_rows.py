"""How many rows a source has: about, for the time left of what reads it, told from metadata and line ends alone; and
exactly by a name of theirs, by reading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sq.core.ledger import read_manifest
from sq.data.columns import Need
from sq.data.locate import InputKind, format_of, locate
from sq.data.sources import DOMAIN_ROWS, Domain, SourceConfig, parts, read_source

_BLOCK = 1 << 20


def count_rows(config: SourceConfig, *, groups: bool = False) -> int | None:
    """About how many rows; of a stage's directory with `groups`, how many items it made them of. None: not known."""
    if config.mix:
        counts = [count_rows(part.source) for part in parts(config).values()]
        total = None if None in counts else sum(count or 0 for count in counts)
    else:
        total = _count(config, groups)
    return total if config.limit is None or total is None else min(total, config.limit)


def count_groups(
    config: SourceConfig, need: Need, name: Callable[[dict[str, Any]], str], *, domain: Domain | None = None,
    any_text: Collection[str] = (),
) -> Counter[str] | None:  # fmt: skip
    """How many rows of a source have each name, as candidates have a question's; it is read for that. None for a
    stage's directory, where the rows of one question stand together."""
    if config.input and not config.mix and not config.shuffle:
        if locate(config.input, config.split).kind is InputKind.STAGE:
            return None
    rows = read_source(config, need, lambda bad: None, domain=domain, any_text=any_text, log_counts=False)
    return Counter(map(name, rows))


def _count(config: SourceConfig, groups: bool) -> int | None:
    source = locate(config.input or "domain", config.split)
    if source.kind is InputKind.STAGE:
        manifest = read_manifest(source.paths[0])
        return manifest.items if groups else manifest.rows
    if source.kind is InputKind.DOMAIN:
        return config.limit or DOMAIN_ROWS
    if source.kind is not InputKind.FILES or groups:
        return None
    counts = [_lines(path, header=config.header) for path in source.paths]
    return None if None in counts else sum(count or 0 for count in counts)


def _lines(path: Path, *, header: bool) -> int | None:
    form = format_of(path)
    if form == "parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    if form == "json" or path.suffix == ".gz":
        return None
    with open(path, "rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    return max(0, lines - (form != "jsonl" and header))
