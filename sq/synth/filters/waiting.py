"""Asking a model about questions, many at once, and giving them back in their order, each with the kept reply."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from sq.core.count import count_noun
from sq.core.ledger import Reject, WorkItem
from sq.engine.failures import unfinished
from sq.synth.filters.base import FilterItem
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.score_store import ScoreStore
from sq.synth.stage import ItemResult

Answered = tuple[FilterItem, dict[str, Any] | None]
HELD = 4096
"""Cases that may wait for one before them while those after it have replies already."""


def replies_in_order(
    client: ModelClient,
    cases: Iterator[FilterItem],
    scores: ScoreStore,
    *,
    key: Callable[[FilterItem], str],
    request_flow: Callable[[WorkItem], RequestFlow],
    whole: bool,
    who: str,
) -> Iterator[Answered]:
    """Every case with the reply to it; one that an earlier run or case has asked about is not asked again.

    Where a request fails and a filter of the chain needs all rows (`whole`), the case waits and with it all that come
    after; the model is still asked about them, for the store.

    Raises:
        UnfinishedError: at the end, if any request failed and cases wait for it.
    """
    waiting = _WaitingItems(scores, whole)

    def new() -> Iterator[WorkItem]:
        for case in cases:
            name = key(case) if case.reason is None else ""
            client.usage.stored += name in scores
            if waiting.add(case, name):
                yield WorkItem(name, case)
            elif len(waiting.order) > HELD:
                yield WorkItem("", None)  # nothing to ask here: let what is ready be taken

    def flow(item: WorkItem) -> RequestFlow:
        if not item.key:
            return ItemResult(key="")
        return (yield from request_flow(item))

    for result in client.run_flows(new(), flow):
        waiting.add_result(result)
        yield from waiting.take_ready()
    yield from waiting.take_ready()
    if waiting.failures:
        left = count_noun(len(waiting.failures), "question")
        raise unfinished(f"{who} gave no word on {left}", waiting.failures)


class _WaitingItems:
    """Cases that wait for the model's reply, in their order."""

    def __init__(self, scores: ScoreStore, whole: bool) -> None:
        self._scores, self._whole = scores, whole
        self.order: deque[tuple[FilterItem, str]] = deque()
        self.asked: set[str] = set()
        self.failures: list[str] = []
        self._rejected: dict[str, Reject] = {}
        self._failed: dict[str, str] = {}

    def add(self, case: FilterItem, key: str) -> bool:
        """Take a case in; whether the model is to be asked. After a failure none is kept: none could come out."""
        if not self.failures:
            self.order.append((case, key))
        if not self._is_open(key) or key in self.asked:
            return False
        self.asked.add(key)
        return True

    def add_result(self, result: ItemResult) -> None:
        """Keep the model's reply, for good if it is no error."""
        if result.failure is not None and self._whole:
            self.failures.append(result.failure)  # and its key stays among those asked
            return
        self.asked.discard(result.key)
        if result.failure is not None:
            self._failed[result.key] = result.failure
        elif result.rejects:
            self._rejected[result.key] = result.rejects[0]
        elif result.key:
            self._scores.put(result.key, result.rows[0])

    def take_ready(self) -> Iterator[Answered]:
        """The first cases, up to one that waits still, each with the model's reply."""
        while self.order and not self._is_open(self.order[0][1]):
            case, key = self.order.popleft()
            if key in self._rejected:
                case.remove(self._rejected[key].reason, self._rejected[key].detail)
            elif key in self._failed:
                case.fail(self._failed[key])
            yield case, self._scores.get(key) if key in self._scores else None

    def _is_open(self, key: str) -> bool:
        return bool(key) and not any(key in known for known in (self._scores, self._rejected, self._failed))
