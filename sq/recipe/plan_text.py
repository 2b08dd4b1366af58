"""A forecast as a person reads it: the stages as in the paper's Table 4, the total, and what it rests on."""

from __future__ import annotations

from sq.core.count import clock, columns, dollars, short
from sq.recipe.cost import Cost, Use
from sq.recipe.plan import Plan
from sq.recipe.rates import rates_file


def format_plan(plan: Plan, *, sources: bool = False) -> str:
    """The whole forecast."""
    device = plan.hardware
    head = f"{plan.recipe} on {plan.gpus} x {device.name} ({device.about}, ${device.price:.2f} an hour)"
    lines = [head, "", *_stages(plan), "", *_totals(plan), "", *_beside_the_paper(plan), *_assumed(plan, sources)]
    return "\n".join(lines)


def _stages(plan: Plan) -> list[str]:
    """A line for everything that a stage does."""
    gpu = plan.hardware.gpu
    head = [
        "phase",
        "stage",
        "what",
        "model",
        "rows",
        "tokens in",
        "tokens out",
        *(["GPUs", "GPU h"] if gpu else ["time"]),
        "cost",
    ]
    rows = [[*head, "out"]]
    for one in plan.costs:
        stage = one.stage
        rows.append([
            stage.phase, stage.name, stage.what, stage.model or "-",
            short(stage.rows) + (f" x {round(stage.samples, 1):g}" if stage.samples != 1 else ""), short(one.tokens_in),
            short(one.tokens_out), *(_gpus(one) if gpu else [_hours(one.hours, gpu)]),
            dollars(one.price), short(stage.kept),
        ])  # fmt: skip
    return columns(rows, left=4)


def _totals(plan: Plan) -> list[str]:
    gpu = plan.hardware.gpu
    unit = "GPU hours" if gpu else "machine hours"
    lines = [
        f"total: {plan.hours:,.1f} {unit}, {dollars(plan.price)}, {clock(plan.seconds)} on the clock one stage after "
        f"the other; {short(plan.kept)} rows kept"
    ]
    if plan.kept:
        million = f"{1e6 * plan.hours / plan.kept:,.0f} {unit} and {dollars(1e6 * plan.price / plan.kept)} a million"
        lines.append(f"       per kept row: {million}")
    by_phase: dict[str, float] = {}
    for one in plan.costs:
        by_phase[one.stage.phase] = by_phase.get(one.stage.phase, 0.0) + one.hours
    shares = ", ".join(f"{phase} {_hours(hours, gpu)}" for phase, hours in by_phase.items() if hours)
    lines.append(f"       by phase: {shares}")
    stages = {one.stage.name: one.ratio for one in plan.costs}
    if ratios := [ratio for ratio in stages.values() if ratio is not None]:
        lines.append(f"       {len(ratios)} of {len(stages)} stages by what they took here before ({rates_file()})")
    return lines


def _beside_the_paper(plan: Plan) -> list[str]:
    if (paper := plan.paper) is None:
        return []
    rows = [["phase", "what", "samples", "paper, A100-40G h", f"here, {plan.hardware.name} h", "paper $", "here $"]]
    for row in paper["rows"]:
        hours, prices = (row["paper_hours"], row["gpu_hours"]), (row["paper_price"], row["price"])
        rows.append([row["phase"], row["what"], row["samples"], *map(_hours, hours), *map(dollars, prices)])
    hours, prices = (paper["total_hours"], paper["hours"]), (paper["total_price"], paper["price"])
    rows.append(["total", "", "1M", *map(_hours, hours), *map(dollars, prices)])
    notes = [f"  {row['phase']}: {row['why']}" for row in paper["rows"]]
    others = f"not in its table: {', '.join(paper['not_in_it'])}"
    return ["Beside the paper's Table 4:", *columns(rows, left=2), others, "Why they differ:", *notes, ""]


def _assumed(plan: Plan, sources: bool) -> list[str]:
    a = plan.assume
    keep = ", ".join(f"{name} {share:.0%}" for name, share in a.keep.items()) or "all"
    lines = [
        f"assumed ({plan.assumptions}; assume.KEY=VALUE changes any): {a.question:g} tokens a question, "
        f"{a.answer:g} an answer, {a.judge:g} a judge's reply; filters keep {keep}"
    ]
    if not sources:
        return [*lines, "where each number is from: --sources"]
    lines += [f"  assume.{name}: {text}" for name, text in a.sources.items()]
    return lines + [f"  hardware.{name}: {text}" for name, text in plan.hardware.sources.items()]


def _gpus(one: Cost) -> list[str]:
    """How many GPUs a stage has, and their hours; none where it asks an API or no model."""
    return ["-", "-"] if one.stage.use in (Use.NONE, Use.API) else [str(one.gpus), _hours(one.hours)]


def _hours(value: float, gpu: bool = True) -> str:
    """Device hours; on a CPU small ones, so minutes and seconds."""
    if gpu or value >= 10:
        return f"{value:,.1f}" if value >= 0.05 or not value else f"{value:.2f}"
    return clock(value * 3600)
