"""`train.json`: what decided the weights in a directory, and the final figures. It says whether a run is done, the same
one to be continued, or another one that must not be mixed with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sq.core.config import flatten
from sq.core.errors import ConfigError
from sq.core.files import write_files
from sq.train.config import TrainJob

NAME = "train.json"
_HABITS = ("output_dir", "tracking.", "trainer.")
_DECIDING = ("trainer.precision", "trainer.lora.", "trainer.export", "trainer.attention")


def identity(job: TrainJob, *, data: str, model: str) -> dict[str, str]:
    """What decides the weights: the config, but neither where they go nor on which hardware and how it is watched."""
    settings = {k: str(v) for k, v in flatten(job).items() if not k.startswith(_HABITS) or k.startswith(_DECIDING)}
    settings = {k: v for k, v in settings.items() if not k.startswith("domain.benchmarks")}
    for place in ("data.input", "model.path", "model.name"):  # their content counts, below
        settings.pop(place, None)
    return {**settings, "data (content)": data, "model (weights)": model}


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


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Put the record in place, whole."""
    write_files(output, {NAME: json.dumps(record, indent=1, sort_keys=True).encode()})
