"""What the run took, in the layout of the paper's Table 4: the bill beside its forecast, the plan, the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts, read_json
from sq.report.html import Section, details, join, note, table

Rows = Sequence[Mapping[str, Any]]


def section(artifacts: RunArtifacts) -> Section | None:
    """The bill where there is one; the plan; the seconds that each stage took."""
    bill, plan = read_json(artifacts.directory / "bill.json"), read_json(artifacts.directory / "plan.json")
    timed = [stage for stage in artifacts.stages if stage.seconds]
    parts: list[Markup] = []
    said = []
    for name, document, about in (("bill.json", bill, "really took"), ("plan.json", plan, "was forecast to take")):
        rows = _listed(document.get("stages"))
        if rows:
            parts.append(_billed(document, rows, f"What the run {about}"))
            said.append(f"what it {about} ({name})")
    parts += [*_beside_the_paper(plan), *_changes(plan)]
    if timed:
        parts.append(_timed(artifacts))
        said.append(f"the seconds of {count_noun(len(timed), 'stage')} (recipe.json)")
    if not parts:
        return None
    says = f"{artifacts.title}: {'; '.join(said)}."
    return Section(id="cost", title="Cost", says=says, body=join(parts), paper="Table 4")


def _billed(document: Mapping[str, Any], rows: Rows, caption: str) -> Markup:
    """One row a stage: rows, tokens, GPU hours, price, and the forecast where a bill has one."""
    hardware = document.get("hardware")
    machine = str(hardware.get("name", "")) if isinstance(hardware, Mapping) else str(hardware or "")
    currency = str(document.get("currency") or "USD")
    forecast = any(isinstance(row.get("forecast"), Mapping) for row in rows)
    head = ["stage", "model", "rows", "tokens in", "tokens out", "device time", f"price ({currency})"]
    head += ["forecast time", "forecast price"] if forecast else []
    lines = [[str(row.get("name") or ""), str(row.get("model") or "–"), *_figures(row, forecast)] for row in rows]
    total = _mapping(document.get("total"))
    whole = {**total, "forecast": document.get("forecast")}
    foot = ["total", machine or "–", *_figures(whole, forecast)]
    made = table(head, lines, caption=f"{caption}, on {machine}" if machine else caption, words=2, foot=foot)
    remarks = []
    if total.get("kept_rows"):
        each = total.get("per_kept_row")
        price = f": {_price(each)} {currency} a row" if isinstance(each, int | float) else ""
        remarks.append(f"{_count(total['kept_rows'])} rows were kept{price}.")
    remarks += [f"{row.get('name')}: {row['note']}." for row in rows if row.get("note")]
    return join([made, *(note(remark) for remark in remarks)])


def _figures(row: Mapping[str, Any], forecast: bool) -> list[str]:
    shown: list[tuple[str, Callable[[Any], str]]] = [
        ("rows", _count), ("tokens_in", _count), ("tokens_out", _count), ("gpu_hours", _hours), ("price", _price),
    ]  # fmt: skip
    cells = [_cell(row, key, show) for key, show in shown]
    if forecast:
        said = _mapping(row.get("forecast"))
        theirs = _mapping(said.get("total")) or said
        cells += [_cell(theirs, key, show) for key, show in shown[3:]]
    return cells


def _beside_the_paper(plan: Mapping[str, Any]) -> list[Markup]:
    """The forecast in the rows of the paper's Table 4, each difference explained."""
    paper = _mapping(plan.get("paper"))
    rows = _listed(paper.get("rows"))
    if not rows:
        return []
    lines = [
        [
            f"{row.get('phase', '')}: {row.get('what', '')}",
            str(row.get("why") or "–"),
            str(row.get("samples") or "–"),
            *(_cell(row, key, show) for key, show in (("paper_hours", _hours), ("paper_price", _price))),
            *(_cell(row, key, show) for key, show in (("gpu_hours", _hours), ("price", _price))),
        ]
        for row in rows
    ]
    foot = ["total", "", "", _cell(paper, "total_hours", _hours), _cell(paper, "total_price", _price),
            _cell(paper, "hours", _hours), ""]  # fmt: skip
    head = [
        "phase",
        "what differs",
        "the paper's samples",
        "paper time",
        "paper price",
        "forecast time",
        "forecast price",
    ]
    made = table(head, lines, caption="The forecast of this run in the rows of the paper's Table 4", words=2, foot=foot)
    about = note("The paper's figures are for a million rows on A100-40G; a small run is not to be compared in total.")
    return [details("Beside the paper's Table 4", made, about)]


def _changes(plan: Mapping[str, Any]) -> list[Markup]:
    """What a change of the method would save, by the forecast."""
    changes = _listed(plan.get("changes"))
    if not changes:
        return []
    lines = [
        [
            str(row.get("name") or ""),
            str(row.get("what") or ""),
            _cell(row, "hours", _hours),
            _cell(row, "saved", _hours),
        ]
        for row in changes
    ]
    head = ["change of the method", "what it is", "device time then", "saved"]
    made = table(head, lines, caption="What changes of the method would save, by the forecast", words=2)
    return [details("What would save time", made)]


def _cell(row: Mapping[str, Any], key: str, show: Callable[[Any], str]) -> str:
    value = row.get(key)
    return show(value) if isinstance(value, int | float) else "–"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Rows:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _timed(artifacts: RunArtifacts) -> Markup:
    rows = [
        [s.name, s.kind, s.status, f"{s.seconds or 0:,.1f}", f"{s.cpu_seconds:,.1f}" if s.cpu_seconds else "–"]
        for s in artifacts.stages
        if s.seconds
    ]
    total = sum(s.seconds or 0.0 for s in artifacts.stages)
    cpu = sum(s.cpu_seconds or 0.0 for s in artifacts.stages)
    head = ["stage", "kind", "status", "seconds", "CPU seconds"]
    foot = ["total", "", "", f"{total:,.1f}", f"{cpu:,.1f}"]
    return table(head, rows, caption="Time of each stage, starts of engines included", words=3, foot=foot)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _hours(value: float) -> str:
    """Device hours: in hours where there are some, else in minutes or seconds."""
    if value >= 1:
        return f"{value:,.1f} h"
    return f"{60 * value:.1f} min" if value >= 1 / 60 else f"{3600 * value:.1f} s"


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.6f}".rstrip("0").rstrip(".") or "0"
