"""A forecast as a person reads it: the stages as in the paper's Table 4, the total, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from sq.recipe.cost import Cost
from sq.recipe.paper import RECIPE, TOTAL_DOLLARS, TOTAL_HOURS, PaperComparison, compare_with_paper
from sq.recipe.plan import Plan, elsewhere

PHASES = ("base", "QFT", "QPO", "questions", "filter", "answers", "reward", "student", "evaluation", "other")


def format_plan(plan: Plan, *, others: bool = True, sources: bool = False) -> str:
    """The whole forecast."""
    device = plan.hardware
    head = f"{plan.recipe} on {plan.gpus} x {device.name} ({device.about}, ${device.price:.2f} an hour)"
    lines = [head, "", *table(plan.costs, device.gpu), "", *_totals(plan)]
    if plan.recipe == RECIPE:
        lines += ["", *_beside(plan)]
    if plan.changes:
        lines += ["", *_changes(plan)]
    if others and device.gpu:
        lines += ["", *_elsewhere(plan)]
    lines += ["", *_assumed(plan, sources)]
    return "\n".join(lines)


def table(costs: Sequence[Cost], gpu: bool) -> list[str]:
    """A line for everything that a stage does, in the order of the paper's phases."""
    rows = [["phase", "stage", "what", "model", "rows", "tokens in", "tokens out", _hours_head(gpu), "cost", "out"]]
    for one in costs:
        stage = one.stage
        rows.append([
            stage.phase, stage.name, stage.what, stage.model or "-",
            count(stage.rows) + (f" x {stage.samples:g}" if stage.samples != 1 else ""), count(one.tokens_in),
            count(one.tokens_out), hours(one.hours, gpu) if one.device else "-", dollars(one.price), count(stage.kept),
        ])  # fmt: skip
    return columns(rows, left=4)


def columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines: the first `left` columns to the left, numbers to the right, a rule below the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    found = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        found.append("  ".join(cells).rstrip())
    return [found[0], "-" * max(map(len, found)), *found[1:]]


def count(value: float) -> str:
    """A number of rows or tokens, short."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "K")):
        if value >= size:
            return f"{value / (1e3 if unit == 'K' else size):.1f}{unit}"
    return f"{value:,.0f}" if value else "-"


def hours(value: float, gpu: bool = True) -> str:
    """Device hours; on a CPU small ones, so minutes and seconds."""
    if gpu or value >= 10:
        return f"{value:,.1f}" if value >= 0.05 or not value else f"{value:.2f}"
    return clock(value * 3600)


def clock(seconds: float) -> str:
    """A duration."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} days"


def dollars(value: float) -> str:
    """A price."""
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def _hours_head(gpu: bool) -> str:
    return "GPU h" if gpu else "time"


def _totals(plan: Plan) -> list[str]:
    unit = "GPU hours" if plan.hardware.gpu else "machine hours"
    lines = [
        f"total: {plan.hours:,.1f} {unit}, {dollars(plan.price)}, {clock(plan.seconds)} on the clock one stage after "
        f"the other; {count(plan.kept)} rows kept"
    ]
    if plan.kept:
        million = f"{1e6 * plan.hours / plan.kept:,.0f} {unit} and {dollars(1e6 * plan.price / plan.kept)} a million"
        lines.append(f"       per kept row: {million}")
    by_phase = {p: sum(c.hours for c in plan.costs if c.stage.phase == p) for p in PHASES}
    share = [f"{p} {hours(h, plan.hardware.gpu)}" for p, h in by_phase.items() if h]
    return [*lines, f"       by phase: {', '.join(share)}"]


def _beside(plan: Plan) -> list[str]:
    rows, left = compare_with_paper(plan.costs, plan.assume)
    shown = [["phase", "what", "samples", "paper, A100-40G h", f"here, {plan.hardware.name} h", "paper $", "here $"]]
    shown += [
        [
            r.row.phase, r.row.what, r.row.samples, hours(r.row.hours), hours(r.hours), dollars(r.row.dollars),
            dollars(r.dollars),
        ]
        for r in rows
    ]  # fmt: skip
    ours, price = sum(r.hours for r in rows), sum(r.dollars for r in rows)
    shown.append(["total", "", "1M", f"{TOTAL_HOURS}", hours(ours), dollars(TOTAL_DOLLARS), dollars(price)])
    extra = sum(c.hours for c in left)
    notes = [f"  {r.row.phase}, {r.row.what}: {r.explained}" for r in rows if _differs(r)]
    return [
        "Beside the paper's Table 4:", *columns(shown, left=2),
        f"not in its table: {hours(extra)} GPU hours ({', '.join(dict.fromkeys(c.stage.what for c in left))})",
        "Why they differ:", *notes,
    ]  # fmt: skip


def _differs(row: PaperComparison) -> bool:
    return abs(row.hours - row.row.hours) > 0.05 * max(row.hours, row.row.hours)


def _changes(plan: Plan) -> list[str]:
    lines = ["Changes of the method, each to be proven harmless before it is used:"]
    rows = [["change", "what", "saves", "the dataset then takes"]]
    gpu = plan.hardware.gpu
    rows += [[c.name, c.what, _span(c.saved, gpu), _span(c.hours, gpu)] for c in plan.changes]
    return lines + columns(rows, left=2)


def _span(value: float, gpu: bool) -> str:
    return f"{value:,.1f} h" if gpu else clock(value * 3600)


def _elsewhere(plan: Plan) -> list[str]:
    rows = [["the same on", "GPU hours", "cost", "decode tokens/s of 7.6B"]]
    for device, spent, price in elsewhere([c.stage for c in plan.costs], plan.gpus):
        if device.gpu:
            rows.append([device.name, f"{spent:,.0f}", dollars(price), f"{device.decode:,.0f}"])
    return columns(rows, left=1)


def _assumed(plan: Plan, sources: bool) -> list[str]:
    a = plan.assume
    keep = ", ".join(f"{name} {share:.0%}" for name, share in a.keep.items()) or "all"
    lines = [
        f"assumed ({plan.assumptions}; assume.KEY=VALUE changes any): {a.question:g} tokens a question, "
        f"{a.answer:g} an answer, {a.judge:g} a verdict; filters keep {keep}"
    ]
    if sources:
        lines += [f"  assume.{name}: {text}" for name, text in a.sources.items()]
        lines += [f"  hardware.{name}: {text}" for name, text in plan.hardware.sources.items()]
    else:
        lines.append("where each figure is from: --sources")
    return lines
