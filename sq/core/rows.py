"""What flows between stages: the columns of a row at each stage, its id, and what makes a row unusable.

Question -> Judged -> Candidate -> Example is one chain: each schema is the one before plus what its stage adds, so a
later row still tells the whole story of the earlier one. Columns are added, never renamed or retyped. Pair, Label and
Score stand beside the chain. A field with `nullable=False` must be in every row; others may be null, as not every row
has a generator or a reference, or has passed every filter. (Stages: paper, sections 2.2 to 2.5.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from sq.core.codec import Check, checker
from sq.core.columns import TABLE
from sq.core.config import nearest


def _columns(*names: str) -> list[pa.Field]:
    """Columns of the table by their names, required where the name ends in "!"."""
    return [pa.field(n.rstrip("!"), TABLE[n.rstrip("!")].type, nullable=not n.endswith("!")) for n in names]


def _grow(base: pa.Schema, *names: str) -> pa.Schema:
    return pa.schema([*base, *_columns(*names)])


LINEAGE = pa.schema(_columns("id!", "run!", "model", "seed", "parents!"))

SEEDS = "seeds"
"""In the column `extra` of a question that was made from seeds: FILE:LINE of each seed by its id."""
QUESTION = _grow(
    LINEAGE,
    "question!", "domain", "generator", "prefix", "index", "question_finish_reason", "question_tokens",
    "question_prompt_tokens", "solution", "answer", "steps", "level", "topic", "source", "source_row", "source_id",
    "question_source", "operation", "round", "concepts", "rated_difficulty", "answers_wanted", "extra",
)  # fmt: skip

ANNOTATED = _grow(QUESTION, "benchmark", "item", "correct", "fail_rate")
"""What stage=annotate writes: of an evaluation's answers and of labels, also how they were answered."""

JUDGED = _grow(
    QUESTION,
    "language", "language_score", "solvable", "solvable_yes", "solvable_votes", "judge_model", "judge_reply",
    "judge_tokens", "judge_prompt_tokens", "difficulty", "difficulty_model",
    "pass_rate", "pass_rate_low", "pass_rate_high",
    "pass_rate_answer", "pass_rate_samples", "pass_rate_tokens", "pass_rate_model", "duplicate_of", "duplicate_kind",
    "duplicate_similarity", "overlap", "overlap_benchmark", "overlap_item", "overlap_ngram", "well_formed",
    "format_problem",
)  # fmt: skip

CANDIDATE = _grow(
    JUDGED,
    "question_id!", "response!", "response_index!", "response_model", "response_prompt", "response_seed",
    "response_answer", "reasoning_end", "response_finish_reason", "response_tokens", "response_prompt_tokens",
    "correct", "reward", "reward_model", "votes", "agreement", "rank",
)  # fmt: skip

EXAMPLE = _grow(CANDIDATE, "query!", "selected_by!", "candidates")

PAIR = _grow(
    LINEAGE,
    "chosen!", "rejected!", "direction!", "question_id", "pair_source", "domain", "generator", "prefix",
    "rewrite_model", "rewrite_prompt", "rewrite_reply", "rewrite_finish_reason", "rewrite_tokens",
    "rewrite_prompt_tokens", "chosen_solvable", "judge_model", "judge_reply", "chosen_score", "rejected_score",
    "extra",
)  # fmt: skip

LABEL = _grow(
    QUESTION,
    "k!", "n!", "fail_rate!", "ci_low!", "ci_high!", "ci_level", "solver_model", "solver_prompt", "solver_answers",
    "solver_solutions", "solver_right", "solver_tokens", "solver_prompt_tokens", "stopped",
)  # fmt: skip

SCORE = _grow(
    QUESTION,
    "benchmark!", "item!", "sample!", "profile!", "prediction!", "reference!", "extracted", "correct!", "verdict!",
    "reason", "prediction_model", "prediction_prompt", "prediction_finish_reason", "prediction_tokens",
    "prediction_prompt_tokens",
)  # fmt: skip

SCHEMAS = {
    "lineage": LINEAGE,
    "question": QUESTION,
    "annotated": ANNOTATED,
    "judged": JUDGED,
    "candidate": CANDIDATE,
    "example": EXAMPLE,
    "pair": PAIR,
    "label": LABEL,
    "score": SCORE,
}
COLUMNS: dict[str, pa.DataType] = {name: column.type for name, column in TABLE.items()}
"""Every column there is, and its type: a name means one thing in all schemas."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_SCALARS = (str, bool, int, float)
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"


def row_id(kind: str, /, **determinants: Any) -> str:
    """The id (32 hex digits) of the row of this kind that these determinants decide.

    The same determinants give the same id in any process; different ones give different ids, and 1, 1.0, "1" and
    True are four different values. Values are plain: None, bool, int, float, str, and sequences and mappings of them.
    """
    return hashlib.blake2b(canonical([kind, determinants]), digest_size=16).hexdigest()


def content_id(content: Mapping[str, Any] | bytes, occurrence: int = 0) -> str:
    """The id of an imported row: from what it says and how many rows like it came before, not from its place.

    Args:
        content: what the row says, or what `canonical` makes of that.
        occurrence: how many rows of the same content the source has before this one.
    """
    data = content if isinstance(content, bytes) else canonical(content)
    return hashlib.blake2b(b"%d %b" % (occurrence, data), digest_size=16, person=b"content").hexdigest()


def canonical(value: Any) -> bytes:
    """One byte string for one plain value: keys sorted, types told apart, any text (lone surrogates too) allowed."""
    return _ENCODER.encode(_plain(value)).encode("utf-8", "surrogatepass")


def check_row(row: Mapping[str, Any], schema: pa.Schema) -> list[str]:
    """What keeps `row` out of a table of this schema, in words; empty where nothing does."""
    problems = []
    for field in schema:
        value = row.get(field.name)
        if value is not None:
            if problem := value_problem(value, field.type):
                problems.append(f"column '{field.name}': {problem}")
        elif not field.nullable:
            what = "is null" if field.name in row else "is missing"
            problems.append(f"column '{field.name}' {what}, but every row needs it ({field.type})")
    for name in row.keys() - set(schema.names):
        problems.append(f"column {name!r} is not in the schema{nearest(name, schema.names)}")
    return problems


def value_problem(value: Any, kind: pa.DataType) -> str | None:
    """Why `value` cannot stand in a column of type `kind`: its own type, and the one expected."""
    try:
        plain = _checker(kind)(value)
    except (TypeError, ValueError, OverflowError) as error:
        return str(error)
    return None if not isinstance(plain, float) or math.isfinite(plain) else f"{plain} is not a finite number"


@lru_cache(maxsize=64)
def _checker(kind: pa.DataType) -> Check:
    return checker(pa.field("value", kind))


def text_problem(text: str) -> str | None:
    """Why `text` is no usable text (blank, NUL, lone surrogates, control characters), or None where it is."""
    if not text.strip().strip(_INVISIBLE).strip():
        return "is empty" if not text else "is blank"
    if found := _CONTROL.search(text):
        if found[0] == "\x00":
            return f"holds a NUL character (at {found.start()})"
        origin = {"\x08": "b", "\x0c": "f"}.get(found[0])  # "\frac" and "\boxed" in JSON with too few backslashes
        hint = f"; perhaps a LaTeX command that began with a single \\{origin}" if origin else ""
        return f"holds the control character U+{ord(found[0]):04X} (at {found.start()}{hint})"
    if not _encodable(text) and (found := _SURROGATE.search(text)):
        return f"holds a lone surrogate, U+{ord(found[0]):04X} (at {found.start()})"
    return None


def fit_row(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """`row` with exactly the columns of `schema`: absent ones are null, foreign ones go into `extra` as JSON."""
    fitted = {name: row.get(name) for name in schema.names}
    foreign = {name: value for name, value in row.items() if name not in fitted}
    if foreign and "extra" in fitted:
        fitted["extra"] = with_extra(row.get("extra"), foreign)
    return fitted


def with_extra(extra: str | None, more: Mapping[str, Any]) -> str:
    """The JSON of the `extra` column with `more` added to what it holds; a name that is taken gets a number."""
    try:
        held = json.loads(extra) if extra else {}
    except ValueError:  # a foreign column of that name, which holds something else
        held = extra
    merged = dict(held) if isinstance(held, dict) else {"extra": held}
    for name, value in _plain(more).items():
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        merged[next(free for free in names if free not in merged or merged[free] == value)] = value
    text = json.dumps(merged, ensure_ascii=False, sort_keys=True)
    return text if _encodable(text) else json.dumps(merged, sort_keys=True)


def _plain(value: Any) -> Any:
    """`value` as JSON has it; the keys of a mapping must be texts, else 1 and "1" would be one key."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, Mapping):  # last, as it is the slow one to ask
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is a {type(key).__name__}; keys must be texts")
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, np.integer | np.floating | np.bool_):
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}; only plain values can be part of a row or an id")


def _encodable(text: str) -> bool:
    return not _SURROGATE.search(text)
