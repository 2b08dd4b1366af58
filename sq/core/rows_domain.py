"""The domain that the rows of a stage's directory name, which a command over them takes where it names none itself."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sq.core.config_help import groups
from sq.core.quoting import override

log = logging.getLogger(__name__)
INPUT = {"synthesize": "input", "train": "data.input"}
"""The key of each script that has the rows it reads."""


def with_domain_of_rows(script: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with the domain of its input's rows where they agree on one of ours."""
    keys = {argument.lstrip("+").partition("=")[0]: argument.partition("=")[2] for argument in arguments}
    given = keys.get(INPUT.get(script, ""), "").strip("'\"")
    if not given or any(key.partition(".")[0] == "domain" for key in keys):
        return list(arguments)
    name = agreed_domain(domains_in(Path(given)))
    if name is None:
        return list(arguments)
    log.info("domain=%s, as the rows of %s are", name, given)
    return [*arguments, override("domain", name)]


def agreed_domain(domains: Collection[Any]) -> str | None:
    """The one domain of ours that rows name; None where they name several, or another."""
    (name,) = domains if len(domains) == 1 else (None,)
    return name if name in groups()["domain"] else None


def domains_in(directory: Path) -> set[Any]:
    """The domains that the rows of a stage's directory name; none of any other input."""
    from sq.core.manifest import NAME

    if not (directory / NAME).is_file():
        return set()
    from sq.core.ledger import read_manifest, read_rows

    if "domain" not in read_manifest(directory).schema:
        return set()
    return {row["domain"] for row in read_rows(directory, columns=["domain"], verify=False)}
