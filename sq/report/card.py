"""The values of the dataset's card (`templates/card.md.j2`): what is in it, how it came about, what its limits are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sq import __version__
from sq.core.columns import CHAT, TABLE
from sq.report.artifacts import RunArtifacts, mapping, read_json
from sq.report.funnel import steps, to_dataset
from sq.report.html import render
from sq.report.licences import licence_of
from sq.report.overlap import clean_shares
from sq.report.quality import quality, selected_right
from sq.report.question_sets import MOST, percentiles, repeated
from sq.report.safety import RESULT
from sq.report.tables import without_places
from sq.synth.metrics import metrics_of
from sq.synth.stage_metrics import read_stage_metrics

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "n>10M"))  # fmt: skip
ROLES = {
    "generator": "wrote questions",
    "judge_model": "judged solvability",
    "difficulty_model": "scored difficulty",
    "response_model": "wrote answers",
    "reward_model": "scored answers",
}


def card(artifacts: RunArtifacts, schema: pa.Schema, *, licence: str | None, name: str | None) -> str:
    """README.md of the dataset."""
    title = name or f"{artifacts.title}: questions and solutions"
    filters = [s for s in artifacts.chain(artifacts.finals) if s.kind == "filter"]
    metrics = read_stage_metrics(filters[-1].directory).get("figures", {}) if filters else {}
    texts = [text for stage in artifacts.finals for text in stage.questions(MOST)]
    generated = [next(stage.rows("generator"), {}).get("generator") for stage in artifacts.finals]
    guard = read_json(artifacts.directory / "report" / RESULT)
    return render(
        "card.md.j2",
        front_matter=_front_matter(title, artifacts.final_rows, licence),
        title=title,
        rows=artifacts.final_rows,
        generated=all(generated),
        columns=_columns(schema),
        models=_models(artifacts),
        bases=_bases(artifacts),
        steps=to_dataset(artifacts, steps(artifacts)) if artifacts.chain(artifacts.finals) else [],
        quality=quality(artifacts.finals, artifacts),
        right=selected_right(artifacts.finals, artifacts),
        questions=len(texts),
        repeated=repeated(texts),
        tokens=_tokens(artifacts),
        clean=clean_shares(artifacts, artifacts.finals),
        bill=_bill(artifacts),
        seconds=[s.seconds for s in artifacts.stages if s.seconds],
        filters=filters[-1].manifest.config.get("filters", []) if filters and filters[-1].manifest else [],
        judged=[m.sentence(metrics, key) for m, key, _ in metrics_of("filter", metrics) if m.about.startswith("judge")],
        guard=guard if guard.get("dataset") == artifacts.dataset else None,
        licence=licence,
        version=__version__,
        digest=artifacts.dataset,
        command=without_places(str(artifacts.recipe.get("command") or ""), artifacts),
        seed=artifacts.recipe.get("seed", 0),
    )


def _front_matter(title: str, rows: int, licence: str | None) -> str:
    """The YAML that the hub reads."""
    from huggingface_hub import DatasetCardData

    size = next((word for limit, word in SIZES if rows < limit), "n>1T")
    return DatasetCardData(
        pretty_name=title,
        language=["en"],
        license=licence or "other",
        task_categories=["text-generation"],
        size_categories=[size],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        source_datasets=["original"],
        tags=["synthetic", "reasoning", "scalequest"],
    ).to_yaml()


def _columns(schema: pa.Schema) -> list[tuple[str, str, str]]:
    """Each column with its type and what the table of columns says of it."""
    about = {column.name: column.about for column in (*CHAT, *TABLE.values())}
    return [(f.name, "list" if pa.types.is_list(f.type) else str(f.type), about[f.name]) for f in schema]


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
    values = {
        what: [row[what] for stage in artifacts.finals for row in stage.sample(MOST, what) if row[what] is not None]
        for what in ("question_tokens", "response_tokens")
    }
    return {what.partition("_")[0]: percentiles(numbers) for what, numbers in values.items() if numbers}


def _bill(artifacts: RunArtifacts) -> Mapping[str, Any] | None:
    """Hours and price in all, where there is a bill."""
    bill = read_json(artifacts.directory / "bill.json")
    total = mapping(bill.get("total"))
    if not isinstance(total.get("gpu_hours"), int | float):
        return None
    machine = mapping(bill.get("hardware")).get("name")
    return {"hours": total["gpu_hours"], "price": total.get("price"), "machine": machine or "",
            "currency": bill.get("currency", "USD")}  # fmt: skip
