"""The errors that the references of a benchmark allow, as its file has them: `1e-1`, or `1e-1,1e-2` for two values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sq.eval.equal.numbers import Tolerance
from sq.eval.equal.strict import value_counts
from sq.eval.extract import extract_reference

COLUMNS = ("tolerance", "relative")
"""Of a problem: its absolute and its relative error."""


def tolerance_of(problem: Mapping[str, Any], allowed: Tolerance) -> Tolerance:
    """What a problem's reference allows: its own errors, and for those it has none of, what all allow."""
    own = (_errors(problem.get(column)) for column in COLUMNS)
    return Tolerance(*(default if errors is None else errors for errors, default in zip(own, allowed, strict=True)))


def check_tolerance(problem: Mapping[str, Any], reference: str) -> None:
    """Raise ValueError where an error is no number, or there are several and the reference has not as many values."""
    for value in (problem.get(column) for column in COLUMNS):
        errors = _errors(value)
        if isinstance(errors, tuple) and len(errors) not in value_counts(extract_reference(reference)):
            values = f"is of {len(errors)} values, the reference {reference[:60]!r} is not"
            raise ValueError(f"the tolerance {str(value)[:60]!r} {values}")


def _errors(value: Any) -> float | tuple[float, ...] | None:
    if value in (None, "") or value != value:  # NaN is how a table writes nothing
        return None
    try:
        errors = tuple(float(part) for part in str(value).split(",") if part.strip())
    except ValueError:
        errors = ()
    if not all(0 <= error < float("inf") for error in errors or (-1.0,)):
        raise ValueError(f"the tolerance {str(value)[:60]!r} is no number of at least 0")
    return errors if len(set(errors)) > 1 else errors[0]
