"""Replicas of an engine on a Ray cluster: one stream of requests spread over them, and a dead one replaced.

A replica is an actor that hosts the inner engine. It is handed requests ahead of what it serves, so it never waits for
the driver, and whatever a dead replica had not answered goes to the one that takes its place. A text depends on its
request's seed alone, so it is the same wherever it is made; exactly once is the ledger's doing.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeAlias

from sq.core.config import setting
from sq.core.count import count_noun
from sq.core.errors import EngineError
from sq.engine.base import Engine, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig

log = logging.getLogger(__name__)
AnyRequest: TypeAlias = Request | ScoreRequest
AnyResult: TypeAlias = Result | ScoreResult
SLICE = 0.2
"""Seconds that a replica works on before it hands over what it has."""
CALLS = 2
"""Calls that are with a replica at once, so that one is always at work."""
LOCAL_STORE = 200 << 20


@dataclass(frozen=True, kw_only=True)
class RayConfig(EngineConfig):
    """How many replicas of which engine, on which cluster."""

    ignored_fields: ClassVar = {
        **dict.fromkeys(("address", "cpus", "gpus"), "where replicas are; the inner engine's number format counts"),
        **dict.fromkeys(("replicas", "ahead"), "how many requests are worked on at once"),
        **dict.fromkeys(("patience", "replacements"), "when it gives up"),
    }

    inner: EngineConfig
    address: str | None = setting(None, help="of the cluster (auto: the one of this node); default: start one here")
    replicas: int = setting(2, ge=1, help="copies of the model")
    cpus: float = setting(1.0, ge=0, help="cores of each replica")
    gpus: float = setting(0.0, ge=0, help="GPUs of each replica; 1 for a GPU of its own")
    ahead: int = setting(768, ge=1, help="requests with a replica; above the inner engine's window, it never waits")
    patience: float = setting(1800.0, gt=0, help="seconds to wait for the first replica")
    replacements: int = setting(20, ge=0, help="replicas that may die without one result between before the run stops")

    def __post_init__(self) -> None:
        for name in ("max_failures", "reject_failed"):
            if (given := getattr(self.inner, name)) != getattr(EngineConfig(), name):
                raise ValueError(f"inner.{name}={given} is not read; set engine.{name}")

    @property
    def reads_ids(self) -> bool:  # type: ignore[override]  # as the inner engine does
        """Whether prompts go to it as token ids."""
        return self.inner.reads_ids

    @property
    def loads_weights(self) -> bool:  # type: ignore[override]  # as the inner engine
        """Whether it serves any model that it is given."""
        return self.inner.loads_weights

    @property
    def seed_bits(self) -> int:  # type: ignore[override]  # as the inner engine
        """Bits of a seed that it tells apart."""
        return self.inner.seed_bits

    def identity(self, model: ModelConfig) -> str:
        """That of the inner engine: where it runs decides nothing."""
        return self.inner.identity(model)

    def resolved(self, model: ModelConfig) -> Self:
        """With what the inner engine comes to, on a GPU where each replica has one."""
        inner: Any = self.inner
        if self.gpus and getattr(inner, "device", None) == "auto":
            inner = replace(inner, device="cuda")
        return replace(self, inner=inner.resolved(model))

    def fingerprint_fields(self, model: ModelConfig) -> dict[str, Any]:
        """Those of the inner engine."""
        return self.resolved(model).inner.fingerprint_fields(model)

    def context(self, model: ModelConfig) -> int | None:
        """As the inner engine."""
        return self.inner.context(model)

    def can_score(self, model: ModelConfig) -> bool:
        """As the inner engine."""
        return self.inner.can_score(model)

    def create(self, model: ModelConfig) -> RayEngine:
        """Start the replicas on `model`."""
        return RayEngine(self.resolved(model), model)


class Replica:
    """The inner engine inside an actor: handed requests, it works on them a slice of time at a time."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._waiting: deque[Any] = deque()
        self._stream: Iterator[Any] = iter(())

    def start(self, config: EngineConfig, model: ModelConfig) -> int:
        """Start the engine; the process id. It is no part of `__init__`, so that its error comes back as it is."""
        config.prepare()
        self._engine = config.create(model)
        return os.getpid()

    def step(self, scores: bool, requests: list[AnyRequest]) -> list[AnyResult]:
        """Take on `requests`, and what is done by the end of the slice."""
        if self._engine is None:
            raise EngineError("this replica did not start")
        self._waiting.extend(requests)
        done: list[AnyResult] = []
        until = time.monotonic() + SLICE
        while not done or time.monotonic() < until:
            result = next(self._stream, None)
            if result is not None:
                done.append(result)
            elif self._waiting:
                self._stream = (self._engine.score if scores else self._engine.generate)(self._source())
            else:
                break
        return done

    def forget(self) -> None:
        """Drop all requests."""
        self._waiting.clear()
        self._stream = iter(())

    def _source(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting.popleft()


@dataclass(slots=True, eq=False)
class _Slot:
    """A replica's place: the actor that has it now, its start, its calls, and what it has not answered."""

    actor: Any
    starting: Any | None
    pid: int = 0
    calls: deque[Any] = field(default_factory=deque)
    owed: dict[str, AnyRequest] = field(default_factory=dict)
    unsent: list[AnyRequest] = field(default_factory=list)

    @property
    def next_call(self) -> Any | None:
        return self.starting or (self.calls[0] if self.calls else None)


class RayEngine:
    """Spreads requests over replicas; see `sq.engine.base.Engine`."""

    def __init__(self, config: RayConfig, model: ModelConfig) -> None:
        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise EngineError(f"Ray is not installed ({error}): pip install 'sq[ray]'") from error
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect()
        self._deaths = 0
        self._again: deque[AnyRequest] = deque()
        self._slots: list[_Slot] = []
        try:
            self._slots = [_Slot(*self._new()) for _ in range(config.replicas)]
            self._wait_for_one()
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as replicas hand them over."""
        return self._spread(iter(requests), scores=False)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores as replicas hand them over."""
        return self._spread(iter(requests), scores=True)

    def close(self) -> None:
        """End the replicas, and the cluster or the connection to it where it was made here."""
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._slots = []
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _spread(self, source: Iterator[Any], *, scores: bool) -> Iterator[Any]:
        if not self._slots:
            raise EngineError(f"the engine of model {self.model.name} is closed")
        try:
            while True:
                self._hand_out(source, scores)
                if not any(slot.owed for slot in self._slots) and any(slot.starting is None for slot in self._slots):
                    return
                calls = {slot.next_call: slot for slot in self._slots if slot.next_call is not None}
                for call in self._ray.wait(list(calls), num_returns=1, timeout=1.0)[0]:
                    yield from self._collect(calls[call])
        finally:
            self._again.clear()
            for slot in self._slots:
                if slot.owed:
                    slot.actor.forget.remote()
                slot.calls.clear()
                slot.owed.clear()
                slot.unsent.clear()

    def _hand_out(self, source: Iterator[Any], scores: bool) -> None:
        """Fill every replica that is up, the emptiest first, and keep it at work."""
        for slot in sorted((s for s in self._slots if s.starting is None), key=lambda slot: len(slot.owed)):
            while len(slot.owed) < self.config.ahead and len(slot.unsent) < self._share():
                request = self._again.popleft() if self._again else next(source, None)
                if request is None:
                    break
                slot.owed[request.key] = request
                slot.unsent.append(request)
            while len(slot.calls) < CALLS and (slot.unsent or (slot.owed and not slot.calls)):
                slot.calls.append(slot.actor.step.remote(scores, slot.unsent))
                slot.unsent = []

    def _share(self) -> int:
        """Requests handed over at once: few enough that the last ones of a run are spread evenly."""
        return max(1, self.config.ahead // 8)

    def _collect(self, slot: _Slot) -> Iterator[Any]:
        """What a replica's next call brings; where it has died, a new one takes its slot, and all do its requests."""
        try:
            if slot.starting is not None:
                slot.pid, slot.starting = self._ray.get(slot.starting), None
                return
            results = self._ray.get(slot.calls.popleft())
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            self._replace(slot, str(error).splitlines()[0])
            return
        for result in results:
            if slot.owed.pop(result.key, None) is not None:
                self._deaths = 0
                yield result
        if not results and slot.owed and not slot.calls and not slot.unsent:
            raise EngineError(
                f"a replica left {len(slot.owed)} requests without a result. Run the same command again: "
                "only those are asked again"
            )

    def _replace(self, slot: _Slot, reason: str) -> None:
        self._deaths += 1
        if self._deaths > self.config.replacements:
            raise EngineError(
                f"{self._deaths} replicas died without one result between: {reason}. Look for a lack of memory, raise "
                "engine.replacements, or run the same command again: nothing is lost"
            )
        log.warning(
            "a replica died (process %d) and is replaced; it owed %s", slot.pid, count_noun(len(slot.owed), "result")
        )
        self._ray.kill(slot.actor)  # it may live, and only its answer be lost
        self._again.extend(slot.owed.values())
        slot.owed.clear()
        slot.calls.clear()
        slot.unsent = []
        slot.actor, slot.starting = self._new()

    def _new(self) -> tuple[Any, Any]:
        """An actor, and the start of the engine in it."""
        config = self.config
        remote = self._ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_restarts=0)(Replica)
        actor = remote.remote()
        return actor, actor.start.remote(config.inner, self.model)

    def _wait_for_one(self) -> None:
        """Wait for the first replica; the others join when they are up."""
        until = time.monotonic() + self.config.patience
        while not any(slot.starting is None for slot in self._slots):
            starts = {slot.starting: slot for slot in self._slots}
            for start in self._ray.wait(list(starts), num_returns=1, timeout=1.0)[0]:
                list(self._collect(starts[start]))
            if time.monotonic() > until:
                raise EngineError(
                    f"no replica has started in engine.patience={self.config.patience:g} s. Has the cluster room for "
                    f"one with engine.cpus={self.config.cpus:g} and engine.gpus={self.config.gpus:g}?"
                )

    def _connect(self) -> None:
        here = {"include_dashboard": False, "object_store_memory": LOCAL_STORE} if self.config.address is None else {}
        try:
            self._ray.init(address=self.config.address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"no Ray cluster at engine.address={self.config.address!r}: {str(error).splitlines()[0]}. Start one "
                "with `ray start --head`, or leave engine.address out for one on this machine"
            ) from error
