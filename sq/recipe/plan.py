"""`sq plan`: what a recipe will take before any of it is run, in the layout of the paper's cost table (Table 4).

Rows flow through the recipe's stages as they would run (flow.py), and each stage is priced on a device of the hardware
table (cost.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sq.core.config import flatten
from sq.core.errors import SqError
from sq.core.files import digest_of, read_json, write_files
from sq.core.manifest import canonical
from sq.domains.base import DomainConfig
from sq.eval.config import EvalJob
from sq.recipe.assumptions import AssumptionsConfig, assumption_names, load_assumptions
from sq.recipe.cost import Cost, PlanStage, Use, cost, measured
from sq.recipe.devices import gpus_needed
from sq.recipe.flow import Job, flow
from sq.recipe.hardware import HardwareConfig, devices_here, hardware_here, load_hardware
from sq.recipe.jobs import check
from sq.recipe.load import Recipe
from sq.recipe.paper import RECIPE, beside_the_paper
from sq.recipe.profile import ProfileConfig
from sq.recipe.rates import add_ratio, keys, measured_ratio, ratio_of, read_rates
from sq.recipe.record import StageRecord
from sq.recipe.sizes import load_sizes

NAME = "plan.json"


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

    @property
    def paper(self) -> dict[str, Any] | None:
        """The paper's table beside the forecast of its recipe; none for another recipe."""
        return beside_the_paper(self.costs) if self.recipe == RECIPE else None


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
        hardware: A name of the hardware table; default: what is here, without a GPU here what the profile says.
        gpus: Devices that each stage has; default: as many as it uses, of the profile's, else of those that can be seen
            here, one of another kind.
        assumptions: A name of conf/assumptions; default: of the recipe's name, else what its domain says.
        changes: Replaced numbers by group: hardware, assume, sizes.
        jobs: The stages' jobs by name, where they are composed already.
    """
    given = changes or {}
    profile = recipe.config.profile
    device = load_hardware(hardware or _hardware(profile), dict(given.get("hardware", {})))
    jobs = check(recipe.stages, None if hardware or gpus else profile) if jobs is None else jobs
    most = gpus or profile.all_gpus or (devices_here() if hardware is None else 1)
    used = {name: gpus or min(most, gpus_needed(job)) for name, job in jobs.items()}
    chosen = assumptions or (
        recipe.name if recipe.name in assumption_names() else _of_domain(recipe.config.domain, jobs.values())
    )
    assume = load_assumptions(chosen, dict(given.get("assume", {})))
    stages = flow(jobs, assume, load_sizes(given.get("sizes")))
    costs = tuple(cost(stage, device, max(1, used[stage.name])) for stage in stages)
    if not given.get("hardware"):
        costs = costs_measured(recipe, device, most, costs)
    return Plan(
        recipe=recipe.name, hardware=device, gpus=most, assumptions=chosen, assume=assume,
        costs=costs, kept=kept_rows(stages),
    )  # fmt: skip


def costs_measured(recipe: Recipe, device: HardwareConfig, gpus: int, costs: Sequence[Cost]) -> tuple[Cost, ...]:
    """The stages' costs by what this machine took in earlier runs, where it has run such stages."""
    rates, ratios = read_rates(), dict[str, float | None]()
    for stage in recipe.stages:
        models = [one.stage.model for one in costs if one.stage.name == stage.name]
        ratios[stage.name] = ratio_of(rates, keys(recipe, stage, device, gpus, models))
    return tuple(measured(one, ratios[one.stage.name], device.price) for one in costs)


def learn(recipe: Recipe, record: StageRecord) -> None:
    """Keep what a stage has taken, for later forecasts of this machine."""
    document = json.loads((recipe.output_dir / NAME).read_text())
    lines = [line for line in document["stages"] if line["stage"] == record.name]
    if lines and (ratio := measured_ratio(record, lines)) is not None:
        stage = next(stage for stage in recipe.stages if stage.name == record.name)
        device, gpus = load_hardware(document["hardware"]["name"]), document["hardware"]["gpus"]
        add_ratio(keys(recipe, stage, device, gpus, [line["model"] for line in lines]), ratio)


def _hardware(profile: ProfileConfig) -> str:
    """The device of this machine, unless the profile has GPUs and this machine has none."""
    here = hardware_here()
    return profile.hardware if profile.all_gpus and not load_hardware(here).gpu else here


def _of_domain(name: str, jobs: Iterable[Job]) -> str:
    """What the recipe's domain supposes, as its stages have it."""
    domains = (job.domain for job in jobs if not isinstance(job, EvalJob))
    return next((domain.assumptions for domain in domains if domain.name == name), DomainConfig.assumptions)


def write_plan(recipe: Recipe, directory: str | Path, **how: Any) -> Path:
    """Put the forecast as plan.json into `directory`; where none can be made the file says why."""
    path = Path(directory) / NAME
    try:
        content = as_json(plan(recipe, **how))
    except SqError as error:
        content = {"recipe": recipe.name, "stages": [], "total": None, "note": str(error)}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)
    return path


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_files(path.parent, {NAME: (json.dumps(content, indent=1) + "\n").encode()})


def renew_plan(recipe: Recipe, done: Collection[str]) -> None:
    """Write the plan of a run, or the lines of what is not done anew where they are for other GPUs or settings."""
    path = recipe.output_dir / NAME
    before, given_gpus = read_json(path), recipe.config.profile.all_gpus or devices_here()
    made_for = digest_of(canonical([stage.settings for stage in recipe.stages]), str(given_gpus))
    if done and before.get("made_for") == made_for:
        return
    document = read_json(write_plan(recipe, recipe.output_dir))
    kept = [line for line in before.get("stages") or [] if line["stage"] in done]
    known, place = {line["stage"] for line in kept}, {stage.name: i for i, stage in enumerate(recipe.stages)}
    lines = [*kept, *(line for line in document["stages"] if line["stage"] not in known)]
    document["stages"] = sorted(lines, key=lambda line: place.get(line["stage"], -1))
    if total := document["total"]:
        total |= {key: sum(line[key] for line in lines) for key in ("gpu_hours", "seconds", "price")}
        total["per_kept_row"] = total["price"] / total["kept_rows"] if total["kept_rows"] else None
    _write(path, document | {"made_for": made_for})


def as_json(plan: Plan) -> dict[str, Any]:
    """The forecast as the report and the bill read it."""
    return {
        "recipe": plan.recipe,
        "hardware": {"name": plan.hardware.name, "gpus": plan.gpus, "price": plan.hardware.price},
        "currency": "USD",
        "assumptions": plan.assumptions,
        "assume": flatten(plan.assume),
        "stages": [_line(one) for one in plan.costs],
        "total": {
            "gpu_hours": plan.hours,
            "seconds": plan.seconds,
            "price": plan.price,
            "kept_rows": plan.kept,
            "per_kept_row": plan.price / plan.kept if plan.kept else None,
        },
        "paper": plan.paper,
    }


def kept_rows(stages: Sequence[PlanStage]) -> float:
    """Rows of the dataset: what the choices among answers leave, but no more than the largest student learns from."""
    chosen = sum(one.kept for one in stages if one.what in ("score answers", "choose by votes"))
    most = max((one.rows for one in stages if one.what == "train student"), default=0.0)
    rows = [one.kept for one in stages if one.use is not Use.TRAIN and one.phase != "evaluation"]
    return min(chosen, most) if chosen and most else chosen or (rows[-1] if rows else 0.0)


def _line(one: Cost) -> dict[str, Any]:
    stage = one.stage
    return {
        "name": f"{stage.name} ({stage.what})", "stage": stage.name, "phase": stage.phase, "what": stage.what,
        "model": stage.model, "billions": stage.parameters, "rows": stage.rows, "items": stage.items,
        "samples": stage.samples, "tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "gpus": one.gpus,
        "gpu_hours": one.hours, "seconds": one.seconds, "start": one.start, "ratio": one.ratio, "price": one.price,
        "kept": stage.kept, "measured": False, "note": stage.note,
    }  # fmt: skip
