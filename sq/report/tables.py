"""Sections that are tables of what the run's files say: evaluations, metrics of stages, trainings, cost, commands."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sq.core.files import read_json
from sq.core.intervals import share_interval
from sq.core.metrics import TRAINING, find_metric, format_value, shares, title
from sq.core.provenance import git_state, hardware, versions
from sq.core.secrets import redact
from sq.eval.paper import BENCHMARKS, SCALEQUEST, base_of, paper_figure
from sq.report.artifacts import RunArtifacts, StageArtifacts, mapping
from sq.report.estimates import accuracies_by_grader
from sq.report.render import Section, section
from sq.synth.stage_metrics import read_stage_metrics

TRAININGS = ("pretrain", "qft", "qpo", "difficulty", "reward", "sft")


def benchmarks(artifacts: RunArtifacts) -> Section | None:
    """Every evaluation by benchmark and grader, beside the paper's number for the same base model."""
    rows = []
    stages = [stage for stage in artifacts.of("evaluate") if stage.benchmarks]
    for stage in stages:
        named = [o.partition("=")[2] for o in stage.overrides if o.lstrip("+").startswith(("model", "base="))]
        base = base_of(*(named or [stage.name]))
        for name in stage.benchmarks:
            for grader, right in accuracies_by_grader(stage, name).items():
                accuracy = share_interval(list(right.values()))
                rows.append((stage.name, name, _format(stage, name), grader, accuracy, paper_figure(base, name), base))
    if not rows:
        return None
    return section("benchmarks", rows=rows, evaluations=len(stages), columns=BENCHMARKS, students=SCALEQUEST)


def _format(stage: StageArtifacts, benchmark: str) -> str:
    """How the questions were put, and after how many examples, as its run or else its recipe tells; or nothing."""
    params: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError), open(stage.directory / "metrics.jsonl") as file:
        params = next((each["params"] for each in map(json.loads, file) if each["op"] == "params"), {})
    own = f"formats.{params.get('model.name')}"
    key = own if f"{own}.name" in params else "format"
    given = (o.lstrip("+").removeprefix("format=") for o in stage.overrides if o.lstrip("+").startswith("format="))
    name = str(params.get(f"{key}.name") or next(given, ""))
    shots = params.get(f"{key}.shots.count")
    takes_none = any(k.startswith((f"benchmark.{benchmark}.domain.", f"benchmark.{benchmark}.ask")) for k in params)
    return f"{name}, {shots}-shot" if name and shots and not takes_none else name


def stage_metrics(artifacts: RunArtifacts) -> Section | None:
    """What stages measured of themselves: the judge on planted questions, how often answers are right."""
    rows = []
    for stage in artifacts.of("filter", "rewrite", "answers", "select", "fail_rate"):
        metrics = read_stage_metrics(stage.directory).get("figures", {})
        rows += [(stage.name, *share) for share in shares(stage.kind, metrics)]
    return section("metrics", rows=rows, spoiled=any("spoiled" in row[1].label for row in rows)) if rows else None


def trainings(artifacts: RunArtifacts) -> Section | None:
    """What each training ended with, on its rows and on held-out ones, from its train.json."""
    records = [(stage, read_json(stage.directory / "train.json")) for stage in artifacts.of(*TRAININGS)]
    finals = [(stage, mapping(r.get("figures")), mapping(r.get("config"))) for stage, r in records]
    rows = [(stage, metrics, _held_out(metrics), config) for stage, metrics, config in finals if metrics]
    return section("trainings", rows=rows) if rows else None


def _held_out(metrics: Mapping[str, Any]) -> str:
    """The metrics of held-out rows but the loss, which has a column of its own, and what only repeats another one."""
    names = [name for name, value in metrics.items() if name.startswith("val/") and isinstance(value, int | float)]
    shown = [name for name in names if not ((metric := find_metric(name, TRAINING)) and metric.repeats)]
    return ", ".join(f"{title(name, TRAINING)} {format_value(name, metrics[name], TRAINING)}" for name in shown)


def cost(artifacts: RunArtifacts) -> Section | None:
    """What the run took, in the layout of the paper's Table 4: the bill beside its forecast, the plan, the clock."""
    bill, plan = (read_json(artifacts.directory / f"{name}.json") for name in ("bill", "plan"))
    documents = [
        {**_document(document), "file": file, "took": took}
        for file, took, document in (("bill.json", "really took", bill), ("plan.json", "was forecast to take", plan))
        if _rows(document.get("stages"))
    ]
    paper = mapping(plan.get("paper"))
    values = {"documents": documents, "paper": paper, "paper_rows": _rows(paper.get("rows")),
              "timed": [s for s in artifacts.stages if s.seconds]}  # fmt: skip
    return section("cost", artifacts=artifacts, **values) if any(values.values()) else None


def _document(document: Mapping[str, Any]) -> dict[str, Any]:
    """A bill or a plan, with what a file of another version may lack."""
    stages = [{**row, "forecast": mapping(row.get("forecast"))} for row in _rows(document.get("stages"))]
    forecast, device = mapping(document.get("forecast")), document.get("hardware")
    total = {**mapping(document.get("total")), "forecast": mapping(forecast.get("total")) or forecast}
    machine = str(device.get("name", "") if isinstance(device, Mapping) else device or "")
    return {"stages": stages, "total": total, "machine": machine, "currency": document.get("currency") or "USD"}


def _rows(value: Any) -> Sequence[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def reproduction(artifacts: RunArtifacts) -> Section:
    """How to make this run again: the command, each stage's own command, seed, commit, versions and hardware."""
    recipe = artifacts.recipe
    return section(
        "reproduction", artifacts=artifacts, recipe=recipe, git=git_state(), machine=hardware(),
        tracking=mapping(recipe.get("tracking")), run_on=mapping(recipe.get("hardware")), versions=versions(),
        commands=[command(stage) for stage in artifacts.stages if stage.overrides],
        plain=lambda text: without_places(str(text), artifacts),
    )  # fmt: skip


def command(stage: StageArtifacts) -> str:
    """A stage's own command line."""
    words = [f"{stage.script}.py", *stage.overrides]
    if not any(o.startswith("output_dir=") for o in stage.overrides):
        words.append(f"output_dir={stage.directory}")
    return "python " + shlex.join(words)


def without_places(text: str, artifacts: RunArtifacts) -> str:
    """A text without secrets, and without the places of the working directory and the run on this machine."""
    text = redact(text)
    for place in (str(artifacts.directory.resolve().parent), os.getcwd()):
        if place != "/":
            text = text.replace(f"{place}/", "").replace(place, ".")
    return text
