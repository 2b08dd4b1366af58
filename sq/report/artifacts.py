"""A run on disk as the report sees it: its stages and their directories, by recipe.json or by what directories hold.

A directory made by `sq run` says itself what its stages are. Any other directory is searched: ledgers know their stage
and what they read by digests, trained models their configuration, evaluations their benchmarks.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from sq.core.compose import load_option
from sq.core.errors import ConfigError, LedgerError, RowError, SqError
from sq.core.files import digest_of, read_json
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.manifest import Manifest
from sq.core.row_index import RowIndex
from sq.domains.base import Domain, DomainConfig

RECIPE = "recipe.json"
ORDER = (
    "pretrain", "qft", "rewrite", "qpo", "fail_rate", "difficulty", "questions", "filter", "answers", "reward",
    "select", "sft", "evaluate",
)  # fmt: skip
"""Where a stage stands in the method, for runs that have no recipe.json to say so."""
MOST = 20_000  # rows of one stage that are looked at; of more, so many are drawn
ROWS = ("questions", "filter", "answers", "select")
"""Stages whose rows go into the dataset; others make models, or rows to train those on."""


@dataclass(frozen=True, kw_only=True)
class StageArtifacts:
    """One stage of the run, done or not."""

    name: str
    kind: str
    """questions, filter, ..., qft, ..., or evaluate."""
    directory: Path
    variant: str | None = None
    """The condition of the ablation it belongs to."""
    tags: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    """Names of the stages that it reads, as the recipe has them."""
    script: str = ""
    status: str = "done"
    seconds: float | None = None
    cpu_seconds: float | None = None

    @cached_property
    def manifest(self) -> Manifest | None:
        """Of a stage whose directory is a ledger."""
        with suppress(LedgerError):
            return read_manifest(self.directory)
        return None

    @property
    def row_count(self) -> int:
        """Rows that it has so far."""
        return self.manifest.rows if self.manifest else 0

    @cached_property
    def benchmarks(self) -> dict[str, Path]:
        """The ledgers of scores of an evaluation, by benchmark."""
        return {path.parent.parent.name: path.parent for path in sorted(self.directory.glob("*/scores/manifest.json"))}

    def rows(self, *columns: str) -> Iterator[dict[str, Any]]:
        """Its rows, with those of the columns that it has."""
        if self.manifest is None:
            return iter(())
        have = [c for c in columns if c in self.manifest.schema] if columns else None
        return read_rows(self.directory, have, unfinished=True)

    def rejects(self) -> Iterator[tuple[dict[str, Any], str, str]]:
        """Its rejected rows, each with the reason and the detail."""
        for reject in read_rejects(self.directory, unfinished=True) if self.manifest else ():
            yield json.loads(reject["row"]), reject["reason"], reject["detail"]

    def sample(self, count: int, *columns: str) -> list[dict[str, Any]]:
        """At most so many rows, the same ones whenever they are asked for, in no order that matters."""
        if count > MOST:
            return draw(self.rows("id", *columns), count)
        if columns not in self._samples:  # several sections ask for the same ones
            self._samples[columns] = draw(self.rows("id", *columns), MOST)
        return self._samples[columns][:count]

    @cached_property
    def _samples(self) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        return {}

    @cached_property
    def index(self) -> RowIndex | None:
        """Where its rows stand by their ids; None of a stage that is no ledger."""
        return RowIndex(self.directory, self.manifest) if self.manifest else None

    def questions(self, count: int) -> list[str]:
        """The questions of such a sample."""
        return [row["question"] for row in self.sample(count, "question")]

    def sample_with_rejects(self, count: int, column: str, *columns: str) -> list[dict[str, Any]]:
        """At most so many of its rows and rejects taken together, of those that have a value in `column`."""
        everything = chain(self.rows("id", column, *columns), (row for row, _, _ in self.rejects()))
        return draw((row for row in everything if row.get(column) is not None), count)


@dataclass(frozen=True, kw_only=True)
class RunArtifacts:
    """A run: what its recipe says of it, and its stages in their order."""

    directory: Path
    recipe: Mapping[str, Any]
    stages: Sequence[StageArtifacts]
    final_name: str = ""
    """The selection that is meant; none: the last one."""

    def of(self, *kinds: str) -> list[StageArtifacts]:
        """The stages of these kinds that have begun."""
        return [stage for stage in self.stages if stage.kind in kinds and stage.directory.is_dir()]

    @property
    def title(self) -> str:
        """What the page is headed with."""
        own = self.directory.resolve().name
        name = self.final_name if own == "outputs" and self.final_name else own
        return str(self.recipe.get("title") or self.recipe.get("recipe") or name)

    @cached_property
    def variants(self) -> list[str]:
        """The conditions of the ablation, in order of their first stage."""
        return list(dict.fromkeys(stage.variant for stage in self.stages if stage.variant))

    @cached_property
    def domain(self) -> Domain | None:
        """The domain of its questions, where it is one of ours."""
        through = self.chain(self.finals)  # what else is in the directory may be of another
        rows = (next(stage.rows("domain"), {}) for stage in through or self.of(*ROWS))
        listed = {mapping(entry).get("name") for entry in self.recipe.get("stages") or ()}
        declared = self.recipe.get("domain") if all(stage.name in listed for stage in self.finals) else None
        name = declared or next((row["domain"] for row in rows if row.get("domain")), None)
        with suppress(SqError):
            config: DomainConfig | None = load_option("domain", str(name))
            return config.create() if config is not None else None
        return None

    @cached_property
    def oracle(self) -> Domain | None:
        """The domain, where it has an exact oracle."""
        return self.domain if self.domain is not None and self.domain.oracle_label("") is not None else None

    @cached_property
    def finals(self) -> list[StageArtifacts]:
        """The selections that are the dataset that the run was made for: those of its last condition, one seed's."""
        selections = [s for s in self.of("select") if s.manifest is not None and "figure" not in s.tags]
        if self.final_name:
            return [s for s in selections if s.name == self.final_name]
        selections = [s for s in selections if s.variant] or selections  # beside conditions, sweeps are none
        last = [s for s in selections if s.variant == selections[-1].variant]
        seed = min((s.tags.get("seed", "") for s in last), default="")
        return [s for s in last if s.tags.get("seed", "") == seed]

    @property
    def final_rows(self) -> int:
        """Rows of the dataset."""
        return sum(stage.row_count for stage in self.finals)

    @property
    def filters(self) -> list[StageArtifacts]:
        """The filters that the dataset went through; where there is none yet, those that there are."""
        through, filters = self.chain(self.finals), self.of("filter")
        return [s for s in filters if s in through] or [s for s in filters if "figure" not in s.tags]

    @property
    def dataset(self) -> str:
        """A digest of the dataset's rows: of one selection its own, of several all of theirs."""
        digests = [s.manifest.digest for s in self.finals if s.manifest]
        return digests[0] if len(digests) == 1 else digest_of(*digests)

    def inputs_of(self, stage: StageArtifacts) -> list[StageArtifacts]:
        """The stages whose rows this one read: by their digests, else (a mix of them) as the recipe says."""
        ledgers = [s for s in self.stages if s.row_count and s is not stage] if stage.manifest else []
        read = {*stage.manifest.inputs.values()} if stage.manifest else set()
        by_digest = [s for s in ledgers if s.manifest is not None and s.manifest.digest in read]
        return by_digest[:1] or [s for s in ledgers if s.name in stage.reads and s.kind in ROWS]

    def chain(self, stages: Sequence[StageArtifacts]) -> list[StageArtifacts]:
        """Stages and those that their rows went through before, in the run's order."""
        through: list[StageArtifacts] = []
        new = list(stages)
        while new:
            through += new
            new = [s for stage in new for s in self.inputs_of(stage) if s not in through]
        return [stage for stage in self.stages if stage in through]

    def relative(self, path: Path) -> str:
        """A path as the page has it: below the run's directory, never where that lies on this machine."""
        here, inner = self.directory.resolve(), path.resolve()
        return str(inner.relative_to(here)) if inner.is_relative_to(here) else inner.name


def find_run(directory: Path) -> RunArtifacts:
    """The run in a directory; a `RowError` where no stage is in it, a `ConfigError` where its recipe.json is broken."""
    if directory.is_file():
        raise RowError(
            f"{directory} is a file; give a directory: sq synthesize stage=select input={directory} makes one"
        )
    if not directory.is_dir():
        raise RowError(f"there is no directory {directory}; give the output_dir of sq run, or one with stages in it")
    recipe: dict[str, Any] = {}
    if (directory / RECIPE).is_file():
        recipe = read_json(directory / RECIPE)
        if not isinstance(recipe.get("stages"), list):
            raise ConfigError(f"{directory / RECIPE} cannot be read: it lists no stages. Run the same sq run again")
        stages = [_from_recipe(stage, directory, recipe) for stage in recipe["stages"] if isinstance(stage, dict)]
    else:
        stages = _search(directory)
    if not any(stage.directory.is_dir() for stage in stages):
        raise RowError(
            f"{directory} holds no stage's output: neither {RECIPE} nor a directory with manifest.json or train.json. "
            "Give the directory of sq run, or one above the output_dir of some stages"
        )
    return RunArtifacts(directory=directory, recipe=recipe, stages=stages)


def draw(rows: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` of the rows, drawn by a hash of their ids, so that a rerun and another machine draw the same."""
    return heapq.nsmallest(count, rows, key=lambda row: digest_of("report", str(row.get("id"))))


def mapping(value: Any) -> Mapping[str, Any]:
    """A value of somebody's JSON where a mapping belongs: empty where it is none."""
    return value if isinstance(value, Mapping) else {}


def _from_recipe(entry: Mapping[str, Any], directory: Path, recipe: Mapping[str, Any]) -> StageArtifacts:
    """A stage as recipe.json has it."""
    text = {key: str(entry.get(key) or "") for key in ("name", "stage", "script", "status", "output_dir")}
    return StageArtifacts(
        name=text["name"], kind=text["stage"] or text["script"], script=text["script"], status=text["status"],
        directory=_place(text["output_dir"] or text["name"], text["name"], directory, recipe.get("output_dir") or ""),
        variant=entry.get("variant") or None, tags={k: str(v) for k, v in mapping(entry.get("tags")).items()},
        overrides=tuple(map(str, entry.get("overrides") or ())), reads=tuple(map(str, entry.get("reads") or ())),
        seconds=entry.get("seconds"), cpu_seconds=entry.get("cpu_seconds"),
    )  # fmt: skip


def _place(written: str, name: str, directory: Path, root: str) -> Path:
    """Where a stage is: below the run's directory if it stood there, which may have been moved since."""
    inside = Path(written)
    if root and inside.is_relative_to(root):
        inside = directory / inside.relative_to(root)
    return next((path for path in (inside, Path(written), directory / name) if path.is_dir()), inside)


def _search(directory: Path) -> list[StageArtifacts]:
    """The stages below a directory, in the order of the method."""
    stages: dict[Path, StageArtifacts] = {}

    def add(where: Path, kind: str, script: str) -> None:
        if not where.is_relative_to(directory):
            return  # a benchmark's directory was given: its evaluation is above
        name = str(where.relative_to(directory)) if where != directory else directory.resolve().name
        stages[where] = StageArtifacts(name=name, kind=kind, directory=where, script=script)

    for path in sorted(directory.rglob("manifest.json")):
        with suppress(LedgerError):
            manifest = read_manifest(path.parent)
            if "verdict" in manifest.schema and path.parent.name == "scores":
                add(path.parent.parent.parent, "evaluate", "evaluate")
            elif kind := manifest.config.get("stage.name"):
                add(path.parent, kind, "synthesize")
    for path in sorted(directory.rglob("train.json")):
        if kind := read_json(path).get("config", {}).get("stage.name"):
            add(path.parent, kind, "train")
    return sorted(stages.values(), key=lambda s: (ORDER.index(s.kind) if s.kind in ORDER else len(ORDER), s.name))
