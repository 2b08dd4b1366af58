"""The filters, one after the other in the order of the config (paper, section 2.3: language, solvability, difficulty).

Every row of the input comes out once: as a row with the filters' columns, or as a reject with the filter's reason.
Filters see rows in the input's order. Where one of them needs all rows (`duplicates`), one worker does the stage, and
of a killed run the chain starts over, which is cheap, because what is dear (the judge, the scorer) is kept in the store
of scores and not asked again. Any other chain goes over the rows that a worker is given.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import flatten, setting
from sq.core.errors import ConfigError
from sq.core.ledger import Reject, WorkItem, read_rejects, read_rows
from sq.core.rows import JUDGED, fit_row
from sq.core.yes_no import YesNo
from sq.data.readers import BadRow
from sq.data.sources import seeks
from sq.domains.base import Domain
from sq.synth.config import AskedModel, SynthJob, SynthStage
from sq.synth.filters.base import FilterContext, FilterItem
from sq.synth.filters.difficulty import DifficultyFilter
from sq.synth.filters.models import FilterModels
from sq.synth.filters.pass_rate import COLUMNS, PassRateFilter, pass_rate_metrics
from sq.synth.filters.solvability import SolvabilityFilter
from sq.synth.questions import oracle_metrics
from sq.synth.stage import ItemResult, StageInput, StageSpec, bad_item

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FilterStage(SynthStage):
    """A chain of filters: filters=[language,solvability,...], each set by filters.NAME.KEY=..."""

    scores: str = setting("outputs/scores", help="where judges' replies and scores are kept for the next run")

    def engines(self, job: SynthJob) -> list[AskedModel]:
        """Those of the chain's filters."""
        return [config.asked_model(job.model, job.engine) for config in job.filters.values() if config.asks_model]

    def spec(self, job: SynthJob) -> StageSpec:
        """Run the chain over the input."""
        if not job.filters:
            raise ConfigError("stage=filter needs filters, as in filters=[format,language,duplicates,solvability]")
        domain = job.domain.create()
        source = StageInput(job=job, domain=domain, need=("question",))
        inputs = (source.check(),)
        models = FilterModels(job.model, job.engine, has_gpus=bool(self.engines(job)))
        whole = _why_whole(job)
        context = FilterContext(
            domain=domain, models=models, scores=Path(self.scores), seed=job.seed, whole=bool(whole)
        )  # fmt: skip
        chain = _Chain(source, job, context)
        return StageSpec(
            schema=JUDGED,
            fingerprint_fields=_fingerprint_fields(job, context),
            items=chain.items if whole else chain.rows,
            items_from=None if whole or not seeks(job.source) else chain.rows,
            process=chain.pass_on if whole else chain.process,
            close=models.close,
            usages=(models.usage,),
            traces=models.traces,
            inputs=inputs,
            total=source.count(),
            whole=whole,
            all_items_metrics=chain.own_metrics,
            take_metrics=chain.take_metrics,
            in_turns="difficulty" in job.filters,
            independent=not whole,
            ignored_fields=frozenset(["stage.scores"]),
            metrics=lambda directory: _metrics(
                directory, domain, {**(chain.metrics() if whole else {})} | _pass_rates(directory, job)
            ),
            stale=lambda metrics: _lacks_measurement(job, metrics),
            then="synthesize stage=answers input",
        )


def needs_all_rows(job: SynthJob) -> list[str]:
    """The filters of a job that one worker must show all rows to."""
    return [name for name, config in job.filters.items() if config.needs_all_rows]


def _why_whole(job: SynthJob) -> str:
    """Why one worker does the stage, and the way out; nothing where any number can."""
    if not (names := needs_all_rows(job)):
        return ""
    last = list(job.filters).index(names[-1]) + 1
    first, others = list(job.filters)[:last], list(job.filters)[last:]
    way = (
        f"Two stages use all workers: filters=[{','.join(first)}], then filters=[{','.join(others)}] over its output"
        if others and not isinstance(job.filters[names[-1]], SolvabilityFilter | DifficultyFilter)
        else ""
    )
    verb = "needs" if len(names) == 1 else "need"
    return f"{' and '.join(names)} {verb} all rows, so one worker does the stage. {way}".rstrip()


def _fingerprint_fields(job: SynthJob, context: FilterContext) -> dict[str, Any]:
    fingerprint_fields: dict[str, Any] = {"filters": list(job.filters)}
    for name, config in job.filters.items():
        settings = flatten(config, f"filters.{name}")
        ignored = tuple(f"filters.{name}.{field}" for field in config.ignored_fields)
        fingerprint_fields |= {key: value for key, value in settings.items() if not key.startswith(ignored)}
        fingerprint_fields |= {
            f"filters.{name}.{key}": value for key, value in config.fingerprint_fields(context).items()
        }
    return fingerprint_fields


class _Chain:
    """All filters over the input, one after the other."""

    def __init__(self, source: StageInput, job: SynthJob, context: FilterContext) -> None:
        self._source, self._job, self._context = source, job, context
        self._metrics: Mapping[str, float] | None = None

    def items(self) -> Iterator[WorkItem]:
        """Every row with what the filters found, in order."""
        for case in self._filtered(item.payload for item in self.rows()):
            yield WorkItem(case.row["id"], case)
        self._metrics = self._context.metrics

    def pass_on(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """The results of items that went through all filters."""
        return (_item_result(item.payload) for item in items)

    def rows(self, start: int = 0) -> Iterator[WorkItem]:
        """Every row as it is read, from number `start` on."""
        for row in self._source.rows(start):
            if isinstance(row, BadRow):
                bad = {"id": bad_item(row).key} | row.row()
                yield WorkItem(bad["id"], FilterItem(row=bad, reason=row.reason, detail=str(row)))
            else:
                yield WorkItem(row["id"], FilterItem(row=row))

    def process(self, items: Iterator[WorkItem], run: str) -> Iterator[ItemResult]:
        """Some rows through all filters, each of which looks at one row at a time."""
        return map(_item_result, self._filtered(item.payload for item in items))

    def metrics(self) -> Mapping[str, float]:
        """What the filters report. Where all rows went through in an earlier run, they do again: judges are not asked
        again, as their replies are kept."""
        if self._metrics is None:
            log.info("filter: all rows pass the filters once more, for their metrics")
            for _ in self.items():
                pass
        return self._metrics or {}

    def own_metrics(self) -> Mapping[str, float] | None:
        """What the filters report of the rows that went through here; None where not all did."""
        return self._metrics

    def take_metrics(self, metrics: Mapping[str, float]) -> None:
        """What they report in the worker through which all rows went."""
        self._metrics = metrics

    def _filtered(self, cases: Iterator[FilterItem]) -> Iterator[FilterItem]:
        for config in self._job.filters.values():
            cases = config.apply(cases, self._context)
        return cases


def _lacks_measurement(job: SynthJob, metrics: Mapping[str, float]) -> bool:
    """Whether a finished stage was measured with another number of planted variants."""
    judges = [config for config in job.filters.values() if isinstance(config, SolvabilityFilter)]
    measured = metrics.get("judge/asked", 0)
    return any(judge.measure and judge.planted != measured for judge in judges)


def _item_result(case: FilterItem) -> ItemResult:
    key = case.row["id"]
    if case.failure is not None:
        return ItemResult(key=key, failure=case.failure)
    if case.reason is None:
        return ItemResult(key=key, rows=[fit_row(case.row, JUDGED)])
    return ItemResult(key=key, rejects=[Reject(row=case.row, reason=case.reason, detail=case.detail)])


def _metrics(directory: Path, domain: Domain, of_filters: Mapping[str, float]) -> dict[str, float]:
    judged = _judged(directory)
    counts = Counter(answer.value for _, answer in judged)
    return {
        **oracle_metrics((row["question"] for row in read_rows(directory, columns=["question"])), domain),
        **{f"verdicts/{label}": float(count) for label, count in counts.most_common()},
        **_judge_by_oracle(judged, domain),
        **of_filters,
    }


def _pass_rates(directory: Path, job: SynthJob) -> dict[str, float]:
    """What the solver was asked for, of rows kept or not."""
    configs = [config for config in job.filters.values() if isinstance(config, PassRateFilter)]
    every = itertools.chain(read_rows(directory, columns=COLUMNS), _rejected(directory))
    return pass_rate_metrics(every, configs[0].k) if configs else {}


def _judged(directory: Path) -> list[tuple[str, YesNo]]:
    """Each question that was judged, kept or not, and the judge's answer."""
    judged = [(r["question"], r["solvable"]) for r in read_rows(directory, columns=["question", "solvable"])]
    judged += [(row.get("question"), row.get("solvable")) for row in _rejected(directory)]
    words = {answer.value for answer in YesNo}  # a column of that name in a file may hold others
    return [(text, YesNo(answer)) for text, answer in judged if answer in words and text is not None]


def _judge_by_oracle(judged: list[tuple[str, YesNo]], domain: Domain) -> dict[str, float]:
    """Precision and recall of "not solvable", and how much of the rest is solvable, on the questions judged, where the
    domain has an oracle.
    """
    pairs = [(answer.reject_reason is not None, domain.oracle_label(text)) for text, answer in judged]
    checked = [(removed, not label.solvable) for removed, label in pairs if label is not None]
    right = sum(removed and bad for removed, bad in checked)
    removed, bad = sum(r for r, _ in checked), sum(b for _, b in checked)
    if not checked:
        return {}
    kept = len(checked) - removed
    return {
        **({"oracle/judge_kept_solvable": 1 - (bad - right) / kept} if kept else {}),
        **({"oracle/judge_precision": right / removed} if removed else {}),
        **({"oracle/judge_recall": right / bad} if bad else {}),
        **({"oracle/judge_wrongly_removed": (removed - right) / (len(checked) - bad)} if bad < len(checked) else {}),
    }


def _rejected(directory: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(reject["row"]) for reject in read_rejects(directory))
