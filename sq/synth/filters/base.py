"""What a filter is: it checks rows in their order, adds what it found as columns, and says which ones go, and why.

Adding a filter is one file here, with a config and its `apply`, and one YAML in conf/filters/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from sq.domains.base import Domain
    from sq.engine.config import EngineConfig
    from sq.models.load import ModelConfig
    from sq.synth.filters.models import FilterModels


@dataclass(slots=True)
class FilterItem:
    """A row on its way through the chain; `reason` is set once a filter has removed it."""

    row: dict[str, Any]
    reason: str | None = None
    detail: str = ""
    failure: str | None = None
    """Why a model gave no word on it: it is left for the next run."""

    @property
    def question(self) -> str:
        """The text that filters check."""
        return str(self.row["question"])

    def remove(self, reason: str, detail: str = "") -> None:
        """Take the row out; it goes to the rejects with this reason."""
        self.reason, self.detail = reason, detail

    def fail(self, failure: str) -> None:
        """Leave the row for the next run; later filters do not look at it."""
        self.reason, self.failure = "failed", failure


@dataclass(frozen=True, kw_only=True)
class FilterContext:
    """What a filter may use: the domain, models, a store of what was scored before, a seed."""

    domain: Domain
    models: FilterModels
    scores: Path
    seed: int
    whole: bool = True
    """Whether a filter of the chain needs all rows: then none goes on past one that a model has failed on."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that a filter reports when its last row is through."""


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Base of the filters' configs."""

    ignored_fields: ClassVar[tuple[str, ...]] = ()
    """Settings that remove no other row, and may differ when a stage is continued."""

    asks_model: ClassVar[bool] = False
    """Whether it asks a model, for which an engine starts."""

    def asked_model(self, model: ModelConfig, engine: EngineConfig) -> tuple[ModelConfig | None, EngineConfig]:
        """The model that it asks and what serves that, in a job with these; None for a model of its own."""
        return model, engine

    @property
    def needs_all_rows(self) -> bool:
        """Whether what it removes of a row, or reports at the end, depends on the other rows."""
        return False

    @property
    def share_kept(self) -> float | None:
        """The share of the rows that stays by its settings alone; None: a forecast supposes one."""
        return None

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """What beside its settings decides what it removes: models, prompts, files. Checked before any work."""
        return {}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Yield every case, in order, with what the filter found; those already removed pass through untouched."""
        raise TypeError(f"{type(self).__name__} filters nothing")
