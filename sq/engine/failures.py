"""Requests that failed: a few are left for the next run of the same command, many stop this one.

A failed request (HTTP 500, a timeout, an exception of the engine) may succeed at another time, so its item gets no
result: nothing is recorded, and the same command asks again. A refused one cannot, and its row is rejected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sq.core.errors import EngineError, UnfinishedError
from sq.core.rejects import Reject
from sq.engine.base import Result, ScoreResult
from sq.engine.config import EngineConfig

log = logging.getLogger(__name__)
R = TypeVar("R", Result, ScoreResult)
SPARED = 3
"""Failures that stop no run, however short it is, unless `max_failures` is 0; also the errors that are printed."""


class FailureLimit:
    """Counts what an engine was asked in this run, and stops it above `engine.max_failures`."""

    def __init__(self, config: EngineConfig) -> None:
        self._share = config.max_failures
        self._results = self._failed = 0
        self._errors: list[str] = []

    def watch(self, results: Iterator[R]) -> Iterator[R]:
        """The results, unchanged.

        Raises:
            EngineError: at a failure above the limit, with the first errors.
        """
        try:
            for result in results:
                self._results += 1
                if has_failed(result):
                    self._failed += 1
                    if self._failed == 1:
                        log.warning(
                            "a request failed: %s. The stage goes on, and says how many have at its end", result.error
                        )
                    self._errors += [str(result.error)] if len(self._errors) < SPARED else []
                    if self._failed > self._share * self._results + (SPARED if self._share else 0):
                        raise self._stop()
                yield result
        finally:
            if hasattr(results, "close"):
                results.close()  # the engine forgets what is in flight

    def _stop(self) -> EngineError:
        return EngineError(
            f"{self._failed} of {self._results} requests failed, more than engine.max_failures={self._share:g} allows. "
            f"{_listed(self._errors)}\nNothing is recorded for these: once it is fixed, run the same command again"
        )


def has_failed(result: Result | ScoreResult) -> bool:
    """Whether the same request may succeed at another time."""
    return result.error is not None and not result.refused


def rejected(row: Mapping[str, Any], result: Result | ScoreResult) -> Reject:
    """The reject of a row whose request was refused, or failed and is not to be asked again."""
    return Reject(row=row, reason="refused" if result.refused else "engine", detail=str(result.error))


def unfinished(what: str, errors: Sequence[str]) -> UnfinishedError:
    """The error that ends a run in which few requests failed; `what` says what is left."""
    return UnfinishedError(
        f"{what}: requests failed. {_listed(errors[:SPARED])}\nRun the same command again: only what failed is asked. "
        "Where it fails each time, engine.reject_failed=true rejects it"
    )


def _listed(errors: Sequence[str]) -> str:
    return "The first errors:" + "".join(f"\n  - {error}" for error in errors)
