"""What stages took on this machine in earlier runs, as shares of what the hardware table had said: forecasts follow it.

Kept for a device, model, engine (or trainer) and stage, the last few runs of each, in `$SQ_RATES`, else in
`~/.cache/sq/rates.json`; with `SQ_RATES=` nothing is kept. A file that cannot be read is passed over, and replaced.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from sq.core.files import write_files
from sq.core.provenance import hardware
from sq.recipe.hardware import HardwareConfig
from sq.recipe.load import Recipe
from sq.recipe.record import TRAINED, StageRecord, ledgers
from sq.recipe.stages import Stage
from sq.synth.stage_metrics import read_stage_metrics

log = logging.getLogger(__name__)
Rates = dict[str, list[float]]
RUNS, STAGES = 5, 1000
"""Runs of a stage, and stages, that are kept: the latest."""
PLAUSIBLE = (0.02, 50.0)
"""Ratios outside these are of a stage that did something else than was planned."""


def rates_file() -> Path | None:
    """Where they are kept; None where they are not."""
    given = os.environ.get("SQ_RATES")
    return Path(given or "~/.cache/sq/rates.json").expanduser() if given != "" else None


def read_rates() -> Rates:
    """What was measured here: key -> ratios, the latest last."""
    path = rates_file()
    if path is None or not path.is_file():
        return {}
    try:
        rates = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): [float(ratio) for ratio in ratios][-RUNS:] for key, ratios in rates.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s is passed over: it cannot be read (%s). The next stage that ends replaces it", path, error)
        return {}


def keys(recipe: Recipe, stage: Stage, device: HardwareConfig, gpus: int, models: Sequence[str]) -> list[str]:
    """Under which names a stage's ratios are kept: as itself, and as one of its kind."""
    machine = f"{gpus} x {device.name}" if device.gpu else f"{hardware()['cores']} cores, {device.name}"
    runs_on = stage.settings.get("trainer" if stage.script == "train" else "engine", "default")
    runs_on = f"{runs_on} x {stage.settings.get('workers', 1)}"
    given = [
        f"{machine}, {recipe.config.parallel} side by side",
        "+".join(filter(None, dict.fromkeys(models))),
        runs_on,
    ]
    return [" | ".join([*given, name]) for name in (f"{recipe.name}/{stage.name}", stage.kind or stage.script)]


def ratio_of(rates: Rates, names: Sequence[str]) -> float | None:
    """The median of the first of these names that was measured."""
    return next((median(rates[name]) for name in names if rates.get(name)), None)


def measured_ratio(record: StageRecord, lines: Sequence[Mapping[str, Any]]) -> float | None:
    """What a stage took over what the table says for the rows that it had; `lines` are its own of plan.json.

    None where that says nothing: a stage that was stopped in between, an API, an oracle in a model's place.
    """
    by_table = [{key: line[key] / (line["ratio"] or 1.0) for key in ("seconds", "start")} for line in lines]
    start = sum(line["start"] for line in by_table)
    busy = sum(line["seconds"] for line in by_table) - start
    done, planned = _items(record), sum(line["items"] for line in lines if line["what"] == lines[0]["what"])
    if record.attempts != 1 or not done or not planned or not start + busy:
        return None
    ratio = record.seconds / (start + busy * done / planned)
    return ratio if PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1] else None


def add_ratio(names: Sequence[str], ratio: float) -> None:
    """Keep one more measurement. Where the file cannot be written nothing is kept."""
    path = rates_file()
    if path is None:
        return
    rates = read_rates()
    for name in names:
        rates[name] = [*rates.pop(name, []), round(ratio, 4)][-RUNS:]
    kept = dict(list(rates.items())[-STAGES:])
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files(path.parent, {path.name: (json.dumps(kept, indent=1) + "\n").encode()})


def _items(record: StageRecord) -> float | None:
    directory = Path(record.output_dir)
    with suppress(OSError, ValueError):
        if record.script == "train":
            rows = json.loads((directory / TRAINED).read_text()).get("rows")
            return float(rows) if rows else None
        read = ledgers(directory, record.script).items()
        items = float(sum(one.items for place, one in read if place == "." or "/answers" in place))
        usage = read_stage_metrics(directory).get("usage") or {}
        asked = usage.get("usage/requests", 0) + usage.get("usage/scored", 0)
        if stored := usage.get("usage/stored", 0):  # replies of an earlier run took no time
            items *= asked / (asked + stored)
        return items
    return None
