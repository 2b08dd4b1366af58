"""`sq plan`: what a recipe will take before any of it is run, in the layout of the paper's cost table (Table 4).

Rows flow through the recipe's stages as they would run (flow.py), each stage is priced on a device of the hardware
table (cost.py), and changes of the method are priced too, each named as one: they need a proof of quality that a
forecast cannot give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sq.core.config import flatten
from sq.core.errors import ConfigError, SqError
from sq.core.files import write_files
from sq.recipe.assumptions import AssumptionsConfig, assumption_names, load_assumptions
from sq.recipe.check import check
from sq.recipe.cost import Cost, PlanStage, cost
from sq.recipe.flow import Job, Planned, flow
from sq.recipe.hardware import HardwareConfig, devices_here, hardware_here, hardware_names, load_hardware
from sq.recipe.load import Recipe
from sq.recipe.paper import RECIPE, TOTAL_DOLLARS, TOTAL_HOURS, compare_with_paper
from sq.recipe.sizes import SizesConfig, load_sizes

NAME = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a change of the method would save, in device hours."""

    name: str
    what: str
    hours: float
    saved: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A forecast."""

    recipe: str
    hardware: HardwareConfig
    gpus: int
    assumptions: str
    assume: AssumptionsConfig
    costs: tuple[Cost, ...]
    kept: float
    changes: tuple[Change, ...] = ()

    @property
    def hours(self) -> float:
        """Device hours of all stages."""
        return sum(one.hours for one in self.costs)

    @property
    def price(self) -> float:
        """Dollars of all stages."""
        return sum(one.price for one in self.costs)

    @property
    def seconds(self) -> float:
        """On the wall, one stage after the other."""
        return sum(one.seconds for one in self.costs)


def plan(
    recipe: Recipe,
    *,
    hardware: str | None = None,
    gpus: int | None = None,
    assumptions: str | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: Mapping[str, Job] | None = None,
) -> Plan:
    """The forecast of a recipe.

    Args:
        recipe: As loaded for `sq run`.
        hardware: A name of the hardware table; default: what is here.
        gpus: Devices that work side by side; default: those that are here, one of another kind.
        assumptions: A name of conf/assumptions; default: the recipe's, its domain's, else mathematics.
        changes: Replaced figures by group: hardware, assume, sizes.
        jobs: The stages' jobs by name, where they are composed already.
    """
    given = changes or {}
    device = load_hardware(hardware or hardware_here(), dict(given.get("hardware", {})))
    gpus = gpus or (devices_here() if hardware is None else 1)
    chosen = assumptions or _assumptions_of(recipe)
    assume = load_assumptions(chosen, dict(given.get("assume", {})))
    jobs = check(recipe.stages) if jobs is None else jobs
    planned = [Planned(name=stage.name, job=jobs[stage.name]) for stage in recipe.stages]
    stages, known = flow(planned, assume, _sizes(given.get("sizes", {})))
    costs = tuple(cost(stage, device, gpus) for stage in stages)
    return Plan(
        recipe=recipe.name, hardware=device, gpus=gpus, assumptions=chosen, assume=assume, costs=costs,
        kept=kept_rows(stages), changes=tuple(_changes(stages, assume, device, gpus)),
    )  # fmt: skip


def write_plan(recipe: Recipe, directory: str | Path, **how: Any) -> Path:
    """Put the forecast as plan.json into `directory`; where none can be made the file says why."""
    path = Path(directory) / NAME
    try:
        content = as_json(plan(recipe, **how))
    except SqError as error:
        content = {"recipe": recipe.name, "stages": [], "note": f"no forecast: {error}"}
    Path(directory).mkdir(parents=True, exist_ok=True)
    write_files(Path(directory), {NAME: (json.dumps(content, indent=1) + "\n").encode()})
    return path


def as_json(plan: Plan) -> dict[str, Any]:
    """The forecast as the report and the bill read it."""
    stages = [line(one) for one in plan.costs]
    return {
        "recipe": plan.recipe,
        "hardware": {"name": plan.hardware.name, "gpus": plan.gpus, "price": plan.hardware.price},
        "currency": "USD",
        "assumptions": plan.assumptions,
        "assume": flatten(plan.assume),
        "stages": stages,
        "total": {
            "gpu_hours": plan.hours,
            "seconds": plan.seconds,
            "price": plan.price,
            "kept_rows": plan.kept,
            "per_kept_row": plan.price / plan.kept if plan.kept else None,
        },
        "paper": paper_json(plan) if plan.recipe == RECIPE else None,
        "changes": [vars(change) for change in plan.changes],
    }


def line(one: Cost) -> dict[str, Any]:
    """One stage's forecast, flat."""
    stage = one.stage
    return {
        "name": f"{stage.name} ({stage.what})", "stage": stage.name, "phase": stage.phase, "what": stage.what,
        "model": stage.model, "billions": stage.parameters, "rows": stage.rows, "samples": stage.samples,
        "tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "gpu_hours": one.hours, "seconds": one.seconds,
        "price": one.price, "kept": stage.kept, "measured": False, "note": stage.note,
    }  # fmt: skip


def paper_json(plan: Plan) -> dict[str, Any]:
    """The paper's table beside the forecast."""
    rows, left = compare_with_paper(plan.costs, plan.assume)
    return {
        "total_hours": TOTAL_HOURS,
        "total_price": TOTAL_DOLLARS,
        "hours": sum(one.hours for one in rows),
        "rows": [
            {
                "phase": one.row.phase, "what": one.row.what, "samples": one.row.samples, "paper_hours": one.row.hours,
                "paper_price": one.row.dollars, "gpu_hours": one.hours, "price": one.dollars, "why": one.explained,
            }
            for one in rows
        ],
        "not_in_it": [line(one) for one in left],
    }  # fmt: skip


def kept_rows(stages: Sequence[PlanStage]) -> float:
    """Rows of the dataset: what the choices among answers leave, but no more than the largest student learns from."""
    chosen = sum(one.kept for one in stages if one.what in ("score answers", "choose by votes"))
    most = max((one.rows for one in stages if one.what == "train student"), default=0.0)
    made = [one.kept for one in stages if one.phase not in ("QFT", "student", "evaluation", "base")]
    return min(chosen, most) if chosen and most else chosen or (made[-1] if made else 0.0)


def elsewhere(stages: Sequence[PlanStage], gpus: int) -> list[tuple[HardwareConfig, float, float]]:
    """Hours and dollars of the same on every device of the table."""
    found = []
    for name in hardware_names():
        device = load_hardware(name)
        costs = [cost(stage, device, gpus) for stage in stages]
        found.append((device, sum(one.hours for one in costs), sum(one.price for one in costs)))
    return found


def _changes(stages: Sequence[PlanStage], assume: AssumptionsConfig, device: HardwareConfig, gpus: int) -> list[Change]:
    """Each change of the method alone, then all together: hours of making the dataset, without students."""
    stages = [stage for stage in stages if stage.phase not in ("student", "evaluation", "base")]
    now = sum(cost(stage, device, gpus).hours for stage in stages)
    short = [_short_judge(stage, assume) for stage in stages]
    fewer = [_adaptive(stage, assume) for stage in stages]
    both = [_adaptive(_short_judge(stage, assume), assume) for stage in stages]
    verdict = f"{assume.verdict:.0f} token a verdict, reasoning where in doubt ({assume.doubtful:.0%} of questions)"
    answers = (
        f"{assume.first} answers first, the others only where these differ ({1 - assume.agree:.0%} of the questions)"
    )
    tried = [("short judge", verdict, short, False), ("adaptive sample counts", answers, fewer, False)]
    if device.decode_fp8:
        tried += [("FP8", "weights and cache in FP8 wherever a model reads or writes", list(stages), True)]
    tried += [("all of them", "together", both, bool(device.decode_fp8))]
    found = []
    for name, what, changed, fp8 in tried:
        hours = sum(cost(stage, device, gpus, fp8=fp8).hours for stage in changed)
        if hours < now:
            found.append(Change(name=name, what=what, hours=hours, saved=now - hours))
    return found if len(found) > 2 else found[:1]


def _short_judge(stage: PlanStage, assume: AssumptionsConfig) -> PlanStage:
    if stage.what != "judge solvability":
        return stage
    return replace(stage, output=assume.verdict, doubtful=assume.doubtful, second=stage.output)


def _adaptive(stage: PlanStage, assume: AssumptionsConfig) -> PlanStage:
    if stage.phase not in ("answers", "reward") or stage.samples <= 1:
        return stage
    return replace(stage, samples=assume.samples(stage.samples))


def _assumptions_of(recipe: Recipe) -> str:
    names = assumption_names()
    return next((name for name in (recipe.name, recipe.domain) if name in names), "math")


def _sizes(changes: Mapping[str, Any]) -> SizesConfig:
    """The table of facts with some replaced: keys are `rows.NAME` and `parameters.NAME`."""
    sizes = load_sizes()
    for key, value in changes.items():
        group, _, name = key.partition(".")
        if group not in ("rows", "parameters") or not name:
            raise ConfigError(
                f"sizes.{key}={value!r}: write sizes.rows.NAME=10000 or sizes.parameters.NAME=7.6 (billions)"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(f"sizes.{key}={value!r} must be a number above 0")
        if group == "rows":
            sizes = replace(sizes, rows={**sizes.rows, name: int(value)})
        else:
            sizes = replace(sizes, parameters={**sizes.parameters, name: float(value)})
    return sizes
