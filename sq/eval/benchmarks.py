"""Benchmarks: where their problems come from and how an answer to one is checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sq.core.config import setting
from sq.domains.base import Domain, DomainConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Base of the benchmarks' configs."""

    name: str = setting(help="short name, used in paths and tables")

    def problems(self, limit: int | None, seed: int) -> Iterator[dict[str, Any]]:
        """Rows with `id`, `question`, `answer` and what there is to group them by."""
        raise TypeError(f"benchmark {self.name} has no problems of its own")

    def domain_of(self) -> Domain:
        """The domain whose answer check applies."""
        raise TypeError(f"benchmark {self.name} has no domain")


@dataclass(frozen=True, kw_only=True)
class DomainBenchmark(BenchmarkConfig):
    """Held-out problems of a domain that makes its own; the domain's exact check decides."""

    domain: DomainConfig
    count: int = setting(500, ge=1, help="problems")

    def problems(self, limit: int | None, seed: int) -> Iterator[dict[str, Any]]:
        yield from self.domain.create().seeds(min(limit or self.count, self.count), seed, "test")

    def domain_of(self) -> Domain:
        return self.domain.create()
