"""The values of the dataset's card (`templates/card.md.j2`): what is in it, how it came about, what its limits are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import yaml

from sq import __version__
from sq.core.columns import CHAT, TABLE
from sq.core.files import read_json
from sq.core.metrics import metrics_of
from sq.report.artifacts import MOST, RunArtifacts, StageArtifacts
from sq.report.content import percentiles, repeated
from sq.report.dataset_formats import ABOUT, DatasetFormat
from sq.report.estimates import quality, selected_right
from sq.report.funnel import steps, to_dataset
from sq.report.overlap import clean_shares
from sq.report.render import render
from sq.report.safety import RESULT
from sq.report.tables import without_places
from sq.synth.stage_metrics import read_stage_metrics

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "n>10M"))  # fmt: skip
UNKNOWN = "not known here: see the model's card"
ROLES = {
    "generator": "wrote questions",
    "judge_model": "judged solvability",
    "difficulty_model": "scored difficulty",
    "response_model": "wrote answers",
    "reward_model": "scored answers",
}


def card(
    artifacts: RunArtifacts, schema: pa.Schema, *, form: DatasetFormat, rows: int, licence: str | None,
    name: str | None,
) -> str:  # fmt: skip
    """README.md of the dataset, which has so many `rows`."""
    title = name or f"{artifacts.title}: questions and solutions"
    filters = [s for s in artifacts.chain(artifacts.finals) if s.kind == "filter"]
    metrics = read_stage_metrics(filters[-1].directory).get("figures", {}) if filters else {}
    texts = [text for stage in artifacts.finals for text in stage.questions(MOST)]
    generated = [next(stage.rows("generator"), {}).get("generator") for stage in artifacts.finals]
    guard = read_json(artifacts.directory / "report" / RESULT)
    about = {column.name: column.about for column in (*CHAT, *TABLE.values())}
    about |= ABOUT if form is not DatasetFormat.SFT else {}
    return render(
        "card.md.j2", artifacts=artifacts, form=form.value, rows=rows,
        title=title, licence=licence, version=__version__, generated=all(generated),
        size=next((word for limit, word in SIZES if rows < limit), "n>1T"),
        columns=[(f.name, f.type, about[f.name]) for f in schema], models=_models(artifacts), bases=_bases(artifacts),
        steps=to_dataset(artifacts, steps(artifacts)), quality=quality(artifacts.finals, artifacts),
        right=selected_right(artifacts.finals, artifacts), questions=len(texts), repeated=repeated(texts),
        tokens=_tokens(artifacts), clean=clean_shares(artifacts, artifacts.finals),
        bill=read_json(artifacts.directory / "bill.json"),
        guard=guard if guard.get("dataset") == artifacts.dataset else None,
        filters=_names(filters),
        judged=[m.sentence(metrics, key) for m, key, _ in metrics_of("filter", metrics) if m.label.startswith("judge")],
        command=without_places(str(artifacts.recipe.get("command") or ""), artifacts),
    )  # fmt: skip


def _names(filters: Sequence[StageArtifacts]) -> list[str]:
    """What these stages filtered by, each filter once."""
    configs = [stage.manifest.config for stage in filters if stage.manifest]
    return list(dict.fromkeys(name for config in configs for name in config.get("filters", [])))


def _models(artifacts: RunArtifacts) -> list[tuple[str, str, int, str]]:
    """Who made what, by the rows themselves: role, name, rows, licence."""
    counts: dict[str, Counter[str]] = {column: Counter() for column in ROLES}
    for row in (row for stage in artifacts.finals for row in stage.rows(*counts)):
        for column, value in row.items():
            counts[column].update([value] if value else [])
    return [
        (role, name, count, licence_of(name, *_paths(artifacts, name)))
        for column, role in ROLES.items()
        for name, count in counts[column].most_common()
    ]


def _paths(artifacts: RunArtifacts, name: str) -> list[str]:
    """What the stages of the run call a model beside its name: model=..., model.path=..."""
    stages = [s for s in artifacts.stages if {f"model.name={name}", f"model={name}"} & {*s.overrides}]
    return [o.partition("=")[2] for s in stages for o in s.overrides if o.startswith(("model=", "model.path="))]


def _bases(artifacts: RunArtifacts) -> list[tuple[str, str]]:
    """What generators were trained from, where the trainings are known to belong to this run, with licences."""
    stages = artifacts.of("qft", "qpo") if artifacts.recipe else []
    bases = {str(read_json(s.directory / "model" / "sq.json").get("base") or "") for s in stages} - {""}
    return [(base, licence_of(base)) for base in sorted(bases) if not base.startswith((".", "/", "outputs"))]


def _tokens(artifacts: RunArtifacts) -> dict[str, tuple[float, float, float]]:
    """Percentiles of the tokens of questions and of responses, where rows have them."""
    names = {"question": "question_tokens", "response": "response_tokens"}
    rows = [row for stage in artifacts.finals for row in stage.sample(MOST, *names.values())]
    values = {what: [row[name] for row in rows if row[name] is not None] for what, name in names.items()}
    return {what: percentiles(numbers) for what, numbers in values.items() if numbers}


def licence_of(*names: str) -> str:
    """The licence of a model by its name or path, the first that licences.yaml knows."""
    plain = [re.sub(r"[\s_]+", "-", name.lower()) for name in names]
    licences = (licence for name in plain for pattern, licence in _licences() if re.search(pattern, name))
    return next(licences, UNKNOWN)


@cache
def _licences() -> Sequence[tuple[str, str]]:
    return tuple(yaml.safe_load(Path(__file__).with_name("licences.yaml").read_text()))
