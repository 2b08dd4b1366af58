"""From a foreign record to a row: which of its columns is which, of what type, with a usable text and an id.

Usual names for a question need no map. Columns that are not asked for pass through as they are; `sq.core.rows.fit_row`
packs them into `extra` where a row is written.
"""

from __future__ import annotations

import hashlib
import logging
import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from sq.core.columns import BOOL, FLOAT, INT, TEXT, TEXTS
from sq.core.config import nearest
from sq.core.config_help import groups
from sq.core.errors import RowError
from sq.core.rows import COLUMNS, LINEAGE, canonical, check_row, content_id, text_problem, value_problem, with_extra
from sq.data.answers import split_answer

log = logging.getLogger(__name__)
ALIASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "question": (("problem", "query", "prompt", "instruction"),),
    "query": (("question",), ("problem", "prompt", "instruction")),
    "solution": (("response", "output", "completion"),),
    "response": (("solution",), ("output", "completion"), ("answer",)),
    "answer": (("final_answer", "expected_answer", "ground_truth"),),
    "prediction": (("pred", "response", "output", "completion"),),
    "reference": (("answer",), ("ref", "final_answer", "expected_answer", "ground_truth")),
}
"""Other people's names for our columns, nearest first; two of one group in a file are ambiguous."""

TEXT_OF_NUMBER = frozenset({"answer", "level", "topic", "source_id", "reference", "extracted", "item"})
"""Columns of text that other people keep as numbers: 72 is read as "72"."""

MEASURED = frozenset({"reward", "reward_model", "votes", "agreement", "rank"})
"""What a selection measures. A foreign column of that name is another thing, unless `columns` says that it is ours."""
OF_DOMAINS = frozenset({"type", "subject"})
"""Names for a topic in the files of a domain's seeds."""

_LINEAGE_KINDS = [(name, COLUMNS[name]) for name in LINEAGE.names]
_WORDS = {"true": True, "false": False, "1": True, "0": False}
Problem = tuple[str, str]
Need: TypeAlias = pa.Schema | Mapping[str, pa.DataType] | Collection[str]


class Columns:
    """Turns records of one source into rows. `problem` in place of a row is its reason and detail."""

    def __init__(
        self, need: Need, names: Mapping[str, str], *, form: str, any_text: Collection[str], untyped: bool, source: str
    ) -> None:
        self.need = _needed(need)
        self._names = dict(names)
        self._displacing = sorted(self._names.keys() - self._names.values())  # their own column of that name is kept
        self._form = form
        self._any_text = frozenset(any_text)
        self._untyped = untyped
        self._source = source
        self._domains = frozenset(groups()["domain"])
        measured = MEASURED - self.need.keys() - self._names.keys()
        self._foreign = (*LINEAGE.names, "source", "source_row", "source_id", *measured)
        self._warned = False
        if self.need:
            self._check_names()
        self._plans: dict[tuple[str, ...], dict[str, str] | Problem] = {}
        self._others = {n: kind for n, kind in COLUMNS.items() if n not in self.need and n not in LINEAGE.names}

    def _check_names(self) -> None:
        ours = COLUMNS.keys() | self.need.keys() | OF_DOMAINS
        for name in self._names.keys() - ours:
            raise RowError(
                f"columns names '{name}', which is no column of ours{nearest(name, ours) or '.'} Ours stands first, "
                "then the file's: columns={question: THEIR_NAME}"
            )

    def check_first(self, have: Iterable[str], what: str) -> None:
        """Refuse a source of which no row can be used, because its columns are missing or ambiguous.

        Raises:
            RowError: with what is there, the nearest name and the fix.
        """
        have = tuple(have)
        plan = self._plan(have)
        if isinstance(plan, tuple):
            hint = ". A file without a header line is read with header=false and columns 0, 1, ..."
            raise RowError(f"{what} {plan[1].rstrip('.') + hint if self._untyped else plan[1]}")

    def row(self, record: Mapping[str, Any], number: int, run: str, seen: SeenContents) -> dict[str, Any] | Problem:
        """The row that `record`, the source's `number`th, stands for."""
        names = tuple(record)
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plan(names)
            if len(self._plans) < 1000:
                self._plans[names] = plan
        if isinstance(plan, tuple):
            return plan
        row = {ours: record[theirs] for ours, theirs in plan.items()}
        for ours, name in plan.items():
            if ours != name and name in TEXT_OF_NUMBER:
                row[ours] = self._coerce(name, row[ours], TEXT)
        for name in ("answer", "solution"):  # a CSV has no null: no reference is an empty cell there
            if isinstance(row.get(name), str) and not row[name].strip() and name not in self._any_text:
                row[name] = None
        split_answer(row, self._form)
        for ours in self.need.keys() - row.keys():  # a solution or response that only the answer's own text gave
            theirs = _alias(ours, row.keys() - self._never(ours))
            if len(theirs) == 1:
                row[ours] = self._coerce(theirs[0], row[theirs[0]], self.need[ours])
                if theirs == ("answer",) and ours == "response":
                    self._warn_of_answers()
        if problem := self._check_needed(row, plan):
            return problem
        self._fit_others(row, record)
        return self._identify(row, record, number, run, seen)

    def _warn_of_answers(self) -> None:
        if not self._warned:
            log.warning(
                "%s has no solution or response, so its column 'answer' is taken for them. From final answers alone "
                "nobody learns to work them out; if they are solutions, say so: columns={solution: answer}",
                self._source,
            )
        self._warned = True

    def _plan(self, have: tuple[str, ...]) -> dict[str, str] | Problem:
        """Which of their columns each of ours is; all others keep their names."""
        plan = {name: name for name in have}
        for ours, theirs in self._names.items():
            if theirs not in have:
                return "missing_column", _missing(theirs, have, f"named in columns.{ours}")
        for theirs in set(self._names.values()) - set(self._names):
            plan.pop(theirs, None)
        plan.update(self._names)
        for ours in dict.fromkeys(("question", *self.need, "solution", "answer")):
            if ours in plan:
                continue
            names = _alias(ours, plan.keys() - self._never(ours))
            if len(names) > 1 and ours in self.need:
                both = " and ".join(map(repr, names))
                detail = f"has {both}, and either may be the '{ours}'; say which: columns={{{ours}: {names[0]}}}"
                return "ambiguous_column", detail
            if names == ("answer",):  # whether it holds the solution too is known row by row
                continue
            if len(names) == 1 and not (names[0] in self.need and ours not in self.need):
                plan[ours] = plan[names[0]] if names[0] in COLUMNS else plan.pop(names[0])
        for ours in self.need:
            if ours not in plan and not self._within(ours, plan):
                return "missing_column", _missing(ours, have)
        return plan

    def _never(self, ours: str) -> set[str]:
        """The columns that are not taken for it: what a model said is not in the reference answer."""
        return {"answer"} if ours in self._any_text else set()

    def _within(self, ours: str, plan: Mapping[str, str]) -> bool:
        """Whether another column may hold it: GSM8K's `answer` has the solution, MATH's `solution` the answer."""
        if ours in ("solution", "response"):
            return "answer" in plan and not self._never(ours)
        return ours == "answer" and "solution" in plan and self._form in ("auto", "math")

    def _check_needed(self, row: dict[str, Any], plan: Mapping[str, str]) -> Problem | None:
        for name, kind in self.need.items():
            value = self._coerce(name, row.get(name), kind)
            if value is None:
                given = name in row
                return (
                    "missing_column",
                    f"has no value in the column {self._theirs(name, plan)}" if given else _missing(name, row),
                )
            problem = value_problem(value, kind)
            if isinstance(value, str) and pa.types.is_string(kind):
                unusable = text_problem(value)
                if unusable and (name not in self._any_text or (value and "surrogate" in unusable)):
                    reason = "empty_text" if unusable[3:] in ("empty", "blank") else "bad_text"
                    return reason, f"column {self._theirs(name, plan)} {unusable}"
            elif problem:
                return "mistyped_column", f"column {self._theirs(name, plan)}: {problem}"
            row[name] = value
        return None

    def _theirs(self, name: str, plan: Mapping[str, str]) -> str:
        """A column as the file names it, for a message, and which of ours `columns` says it is."""
        theirs = next((plan[n] for n in (name, *_alias(name, plan)) if n in plan), name)
        mapped = next((ours for ours, given in self._names.items() if given == theirs), None)
        return f"{theirs!r} (columns.{mapped})" if mapped else repr(theirs)

    def _fit_others(self, row: dict[str, Any], record: Mapping[str, Any]) -> None:
        """Columns of ours that nobody needs here: of the right type, or moved to `extra`, so that nothing is lost."""
        displaced = {name: record[name] for name in self._displacing if record.get(name) is not None}
        foreign, others = {}, self._others
        if self._untyped:  # an empty cell is no text of a judge's, nor of anybody's
            row |= {n: None for n in others.keys() & row.keys() - self._any_text if not str(row[n]).strip()}
        odd = [n for n, value in row.items() if value is not None and n in others and not _is_plain(value, others[n])]
        for name in odd:
            value = self._coerce(name, row[name], others[name])
            if value is not None and value_problem(value, others[name]):
                foreign[name] = row.pop(name)
            else:
                row[name] = value
        for more in filter(None, (displaced, foreign)):
            row["extra"] = with_extra(row.get("extra"), more)

    def _coerce(self, name: str, value: Any, kind: pa.DataType) -> Any:
        if isinstance(value, list) and len(value) == 1 and not pa.types.is_list(kind):
            value = value[0]
        if pa.types.is_string(kind):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return str(value) if number and name in TEXT_OF_NUMBER and abs(value) < 1e300 else value
        if self._untyped and isinstance(value, str):
            return _typed(value.strip(), kind)
        if pa.types.is_integer(kind) and isinstance(value, float) and value.is_integer():
            return int(value)
        return float(value) if pa.types.is_floating(kind) and type(value) is int and abs(value) < 2**53 else value

    def _identify(
        self, row: dict[str, Any], record: Mapping[str, Any], number: int, run: str, seen: SeenContents
    ) -> dict[str, Any] | Problem:
        if _has_lineage(row):
            if seen.count(row["id"].encode()):
                return "duplicate_id", f"the id {row['id']} came before in this source"
            return {**row, "model": row.get("model"), "seed": row.get("seed")}
        foreign = {n: row.pop(n) for n in self._foreign if n in row}
        if "domain" in row and str(row["domain"]) not in self._domains:
            foreign["domain"] = row.pop("domain")
        theirs = foreign.pop("id", None)
        if theirs is not None and isinstance(theirs, str | int):
            row["source_id"] = str(theirs)
        if any(value is not None for value in foreign.values()):
            row["extra"] = with_extra(row.get("extra"), foreign)
        content = canonical(record)
        lineage: dict[str, Any] = {
            "id": content_id(content, seen.count(content)),
            "run": run,
            "model": None,
            "seed": None,
            "parents": [],
        }
        return {**lineage, **row, "source": self._source, "source_row": number}


def _has_lineage(row: Mapping[str, Any]) -> bool:
    """Whether the row comes from an earlier stage and keeps its id."""
    if "id" not in row or "run" not in row:
        return False
    values = [(row.get(name), kind) for name, kind in _LINEAGE_KINDS]
    if row.get("parents") is not None and all(v is None or _is_plain(v, kind) for v, kind in values):
        return row["id"] is not None and row["run"] is not None
    return not check_row({n: row.get(n) for n in LINEAGE.names}, LINEAGE)


def _is_plain(value: Any, kind: pa.DataType) -> bool:
    """Whether a value can stand in a column as it is; what is not seen at once to be so is looked at closely."""
    given = type(value)
    if given is str:
        return value.isascii() and kind is TEXT
    if given is int:
        return kind is INT and -(2**63) <= value < 2**63
    if given is float:
        return kind is FLOAT and math.isfinite(value)
    if given is list:
        return kind is TEXTS and all(type(item) is str and item.isascii() for item in value)
    return given is bool and kind is BOOL


class SeenContents:
    """How often a content came before, from 64-bit hashes in one open-addressed table: about 16 bytes a row."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 4096))
        self._used = 0
        self._again: dict[int, int] = {}

    def count(self, content: bytes) -> int:
        """How many times this very content came before; counts this one too."""
        key = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1
        if not self._put(key):
            self._again[key] = self._again.get(key, 0) + 1
            return self._again[key]
        self._used += 1
        if 3 * self._used > 2 * len(self._table):
            old, self._table = self._table, array("Q", bytes(16 * len(self._table)))
            for key in filter(None, old):
                self._put(key)
        return 0

    def _put(self, key: int) -> bool:
        table, mask = self._table, len(self._table) - 1
        at = key & mask
        while table[at]:
            if table[at] == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        return True


def _needed(need: Need) -> dict[str, pa.DataType]:
    if isinstance(need, pa.Schema):
        return {f.name: f.type for f in need if not f.nullable and f.name not in LINEAGE.names}
    if isinstance(need, Mapping):
        return dict(need)
    return {name: COLUMNS.get(name, pa.string()) for name in need}


def _alias(ours: str, have: Collection[str]) -> tuple[str, ...]:
    """Their name for our column; all of them where it may be any of several; none where it is not there."""
    groups = (tuple(name for name in group if name in have) for group in ALIASES.get(ours, ()))
    return next(filter(None, groups), ())


def _missing(name: str, have: Iterable[str], why: str = "") -> str:
    have = list(have)
    hint = nearest(name, set(have) - COLUMNS.keys()) or "."  # a column of ours is no misspelling of another
    there = ", ".join(name if len(name) <= 40 else name[:37] + "..." for name in map(str, have)) or "none"
    fix = "" if why else f" If it has another name there, say so: columns={{{name}: THEIR_NAME}}"
    return f"has no column '{name}'{f' ({why})' if why else ''}{hint} It has: {there}.{fix}"


def _typed(text: str, kind: pa.DataType) -> Any:
    """The value that a CSV field's text stands for; the text itself where it stands for none of that type."""
    if not text:
        return None
    try:
        if pa.types.is_boolean(kind):
            return _WORDS.get(text.lower(), text)
        if pa.types.is_integer(kind):
            return int(text)
        return float(text) if pa.types.is_floating(kind) else text
    except ValueError:
        return text
