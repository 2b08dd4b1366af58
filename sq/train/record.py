"""`train.json`: what decided the weights in a directory, how rows were put into steps, and the final metrics. It says
whether a run is done, the same one to be continued, or another one that must not be mixed with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sq.core.errors import ConfigError
from sq.core.files import write_files
from sq.train.config import TrainerConfig

NAME = "train.json"
_IGNORED = ("output_dir", "tracking.", "trainer.", "domain.benchmarks")
_DECIDING = ("trainer.precision", "trainer.lora.", "trainer.export", "trainer.attention")


def identity(settings: Mapping[str, Any], *, data: str, model: str) -> dict[str, str]:
    """What decides the weights: the job's settings, but neither where they go nor on which hardware and how it is
    watched. Of data and model the content counts, not where it is."""
    places = ("data.input", "model.path", "model.name")
    deciding = {k: v for k, v in settings.items() if not k.startswith(_IGNORED) or k.startswith(_DECIDING)}
    mine = {k: str(v) for k, v in deciding.items() if k not in places}
    return {**mine, "data (content)": data, "model (weights)": model}


def read_record(output: Path, mine: dict[str, str]) -> dict[str, Any] | None:
    """The record of an earlier run of this very configuration, or None.

    Raises:
        ConfigError: where another run is in the directory, naming each setting that differs.
    """
    path = output / NAME
    if not path.exists():
        return None
    try:
        earlier: dict[str, Any] = json.loads(path.read_text())
        config = earlier["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); delete {output}, or give another output_dir=") from error
    if "figures" not in earlier and config != mine and not (output / "checkpoints").is_dir():
        return None  # it came to nothing, by a mistake perhaps, and does not stand in the way of the corrected command
    keys = sorted(k for k in mine | config if mine.get(k) != config.get(k))
    if keys:
        differ = ", ".join(f"{k} ({config.get(k)} there, {mine.get(k)} now)" for k in keys)
        raise ConfigError(
            f"{output} holds a run with another configuration: {differ}. Give another output_dir=, or delete it"
        )
    return earlier


def plan_to_follow(record: Mapping[str, Any], trainer: TrainerConfig, output: Path) -> dict[str, int]:
    """The plan that the checkpoints in `output` belong to.

    Raises:
        ConfigError: where as many processes as there are now cannot follow it.
    """
    plan: dict[str, int] | None = record.get("plan")
    stopped = f"{output} was stopped in the midst of training"
    if plan is None:
        raise ConfigError(f"{stopped} by a version that kept no plan of its steps; start again in another output_dir=")
    packs, nodes, world = plan["packs_per_step"], trainer.nodes, trainer.world
    able = [n for n in range(1, packs + 1) if packs % n == 0]
    why = f"its steps of {packs} packs cannot be shared evenly by {world} processes"
    if trainer.strategy == "deepspeed":
        able, why = [plan["processes"]], f"DeepSpeed's checkpoints cannot be read by {world} processes"
    if world not in able:
        key = f"trainer.devices={trainer.devices}" + (f" with trainer.nodes={nodes}" if nodes > 1 else "")
        devices = " or ".join(str(n // nodes) for n in able if n % nodes == 0)
        raise ConfigError(
            f"{key}: {stopped}, which was planned for {plan['processes']}, and {why}. Set trainer.devices to "
            f"{devices or 'another number, and trainer.nodes'}, or start again in another output_dir="
        )
    return plan


def update_record(output: Path, **entries: Any) -> None:
    """Put more into the record that is there."""
    write_record(output, {**json.loads((output / NAME).read_text()), **entries})


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Put the record in place, whole."""
    write_files(output, {NAME: json.dumps(record, indent=1, sort_keys=True).encode()})
