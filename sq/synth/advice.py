"""A stage whose outcome is of no use says so, with a way out: it ended well, and nobody would look at its rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sq.core.count import count_noun
from sq.core.ledger import LedgerSummary, read_rejects
from sq.core.quoting import sq_command
from sq.core.yes_no import YesNo
from sq.domains.base import Domain

CUT_OFF = ("cut-off", "cut_off", "unfinished_reasoning")
"""Reasons of rejects that ran into the token limit."""


def advice(stage: str, directory: Path, summary: LedgerSummary, metrics: Mapping[str, float]) -> Iterator[str]:
    """What is of no use in a finished stage, and what may help; nothing where all is well."""
    counts = {name: n for name, n in metrics.items() if name.startswith("verdicts/")}
    judged, unparsable = sum(counts.values()), counts.get(f"verdicts/{YesNo.UNPARSABLE.value}", 0)
    if judged and unparsable == judged:
        yield (
            f"{stage}: none of the judge's {judged:,.0f} words could be read as yes or no. Give a model that follows "
            "instructions (model=NAME), more filters.solvability.max_tokens, or a prompt of "
            f"your own (filters.solvability.prompt); {sq_command()} why {directory} has its replies"
        )
    if summary.items and not summary.rows:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in summary.reasons.items()) or "no item gave a row"
        first = next(read_rejects(directory), None)
        example = f". The first: {_short(first)}" if first else ""
        cut = sum(n for reason, n in summary.reasons.items() if reason in CUT_OFF)
        of_answers = "of the answers stage, " if stage == "select" else ""
        way_out = (
            f"Give more stage.max_tokens {of_answers}and another output_dir; " if 2 * cut > summary.rejects else ""
        )
        yield (
            f"{stage}: 0 rows kept of {count_noun(summary.items, 'item')} ({reasons}){example}. {way_out}"
            f"{sq_command()} why {directory} shows each reason with examples"
        )


def foreign_rows(domain: Domain, rows: list[dict[str, Any]]) -> str | None:
    """What is wrong where a domain with an oracle is given the first rows of a file and understands none of them."""
    if not rows or not str(rows[0]["run"]).startswith("source:"):
        return None
    if any((label := domain.oracle_label(row["question"])) and label.solvable for row in rows):
        return None
    return (
        f"domain={domain.name} understands none of the first {count_noun(len(rows), 'question')} of "
        f"{rows[0]['source']}: it is made for its own problems, and reads and checks answers as theirs. For "
        "mathematics give domain=math, for programs domain=code"
    )


def _short(reject: Mapping[str, Any]) -> str:
    row = json.loads(reject["row"])
    text = row.get("response") or row.get("question") or row.get("text") or ""
    return " ".join(f"{reject['reason']}, {reject['detail'] or text}".split())[:200]
