"""What the run took, in the layout of the paper's Table 4: the bill beside its forecast, the plan, the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sq.report.found import Found, read_json
from sq.report.html import Markup, Section, join, note, table

Rows = Sequence[Mapping[str, Any]]


def section(found: Found) -> Section | None:
    """The bill where there is one; the plan; the seconds that each stage took."""
    bill, plan = read_json(found.directory / "bill.json"), read_json(found.directory / "plan.json")
    timed = [stage for stage in found.stages if stage.seconds]
    parts: list[Markup] = []
    said = []
    for name, document, about in (("bill.json", bill, "really took"), ("plan.json", plan, "was forecast to take")):
        listed = document.get("stages")
        rows = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
        if rows:
            parts.append(_billed(document, rows, f"What the run {about}"))
            said.append(f"what it {about} ({name})")
    if timed:
        parts.append(_timed(found))
        said.append(f"the seconds of {len(timed)} stages (recipe.json)")
    if not parts:
        return None
    says = f"{found.title}: {'; '.join(said)}."
    return Section(id="cost", title="Cost", says=says, body=join(parts), paper="Table 4")


def _billed(document: Mapping[str, Any], rows: Rows, caption: str) -> Markup:
    """One row a stage: rows, tokens, GPU hours, price, and the forecast where a bill has one."""
    hardware = document.get("hardware")
    machine = str(hardware.get("name", "")) if isinstance(hardware, Mapping) else str(hardware or "")
    currency = str(document.get("currency") or "USD")
    forecast = any(isinstance(row.get("forecast"), Mapping) for row in rows)
    head = ["stage", "model", "rows", "tokens in", "tokens out", "hours", f"price ({currency})"]
    head += ["forecast hours", "forecast price"] if forecast else []
    lines = [[str(row.get("name") or ""), str(row.get("model") or "–"), *_figures(row, forecast)] for row in rows]
    total = document.get("total") if isinstance(document.get("total"), Mapping) else {}
    assert isinstance(total, Mapping)
    whole = {**total, "forecast": document.get("forecast")}
    foot = ["total", machine or "–", *_figures(whole, forecast)]
    made = table(head, lines, caption=f"{caption}, on {machine}" if machine else caption, words=2, foot=foot)
    remarks = []
    if total.get("kept_rows"):
        each = total.get("per_kept_row")
        price = f": {_price(each)} {currency} a row" if isinstance(each, int | float) else ""
        remarks.append(f"{_count(total['kept_rows'])} rows were kept{price}.")
    remarks += [f"{row.get('name')}: {row['note']}." for row in rows if row.get("note")]
    paper = document.get("paper")
    if isinstance(paper, Mapping) and isinstance(paper.get("gpu_hours"), int | float):
        remarks.append(f"The paper's own: {paper['gpu_hours']:.1f} GPU hours for a million rows.")
    return join([made, *(note(remark) for remark in remarks)])


def _figures(row: Mapping[str, Any], forecast: bool) -> list[str]:
    shown: list[tuple[str, Callable[[Any], str]]] = [
        ("rows", _count), ("tokens_in", _count), ("tokens_out", _count), ("gpu_hours", _hours), ("price", _price),
    ]  # fmt: skip
    cells = [show(row[key]) if isinstance(row.get(key), int | float) else "–" for key, show in shown]
    if forecast:
        said = row.get("forecast")
        theirs: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
        theirs = theirs.get("total", theirs) if isinstance(theirs.get("total"), Mapping) else theirs
        for key, show in shown[3:]:
            cells.append(show(theirs[key]) if isinstance(theirs.get(key), int | float) else "–")
    return cells


def _timed(found: Found) -> Markup:
    rows = [
        [s.name, s.kind, s.status, f"{s.seconds or 0:,.1f}", f"{s.cpu_seconds:,.1f}" if s.cpu_seconds else "–"]
        for s in found.stages
        if s.seconds
    ]
    total = sum(s.seconds or 0.0 for s in found.stages)
    cpu = sum(s.cpu_seconds or 0.0 for s in found.stages)
    head = ["stage", "kind", "status", "seconds", "CPU seconds"]
    foot = ["total", "", "", f"{total:,.1f}", f"{cpu:,.1f}"]
    return table(head, rows, caption="Time of each stage, starts of engines included", words=3, foot=foot)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.6f}".rstrip("0").rstrip(".") or "0"
