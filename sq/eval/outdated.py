"""Ledgers of answers that have been asked for again since: renamed, never deleted, and filled anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from sq.core.manifest import load_manifest

log = logging.getLogger(__name__)


def archive_if_outdated(where: Path, inputs: Mapping[str, str], config: Mapping[str, str] | None = None) -> None:
    """Rename the ledger at `where` if it was filled from other inputs or, where one is given, by another config."""
    found = load_manifest(where)
    if found is None or (found.inputs == inputs and config in (None, found.config)):
        return
    name = f"{where.name}-{found.config.get('grader', 'before')}"
    target = next(p for n in range(1, 1000) if not (p := where.with_name(f"{name}-{n}")).exists())
    where.rename(target)
    log.warning("%s is of other answers%s; kept as %s, and filled again", where,
                "" if config is None else ", or of another grader or profiles", target.name)  # fmt: skip
