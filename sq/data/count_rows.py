"""About how many rows a source has, for the time left of what reads it: told from metadata and line ends alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from sq.core.ledger import read_manifest
from sq.data.locate import InputKind, format_of, locate
from sq.data.sources import DOMAIN_ROWS, SourceConfig, parts

_BLOCK = 1 << 20


def count_rows(config: SourceConfig, *, groups: bool = False) -> int | None:
    """About how many rows; of a stage's directory with `groups`, how many items it made them of. None: not known."""
    if config.mix:
        counts = [count_rows(part.source) for part in parts(config).values()]
        total = None if None in counts else sum(count or 0 for count in counts)
    else:
        total = _count(config, groups)
    return total if config.limit is None or total is None else min(total, config.limit)


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
