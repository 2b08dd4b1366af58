"""What a recipe runs on: one YAML of conf/profile/ sets engine, trainer and launcher of every stage.

A stage that has chosen another engine (an API, an oracle) or trainer keeps it, and gets nothing of the profile's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sq.core.config import setting

_CHOICE = {"train": "trainer", "synthesize": "engine", "evaluate": "engine"}
"""The setting of a script by which a stage may have chosen otherwise."""


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """A machine or a cluster. {gpus}, {nodes}, {cpus}, {all} (GPUs of all nodes) and {address} stand for its fields."""

    name: str = setting("none", help="as one gives it: profile=NAME")
    gpus: int = setting(0, ge=0, help="GPUs of each machine; 0: those that are here")
    cpus: int = setting(8, ge=1, help="cores of each of a training's processes, one a GPU, that {cpus} stands for")
    nodes: int = setting(1, ge=1, help="machines")
    address: str | None = setting(None, help="of the Ray cluster; default: this machine alone")
    hardware: str = setting("h200", help="of conf/hardware, for the forecast where no GPU is here")
    engine: str | None = setting(None, help="what {engine} stands for, where the recipe's engine is auto")
    set: dict[str, dict[str, Any]] = setting({}, help="overrides for the stages of a script: train -> key -> value")
    launch: dict[str, str] = setting({}, help="words before the commands of a script's stages: train -> srun ...")

    @property
    def all_gpus(self) -> int:
        """GPUs of all machines; 0 where it does not say."""
        return self.gpus * self.nodes

    @property
    def words(self) -> dict[str, Any]:
        """What {WORD} stands for in its settings."""
        return {
            "gpus": self.gpus,
            "cpus": self.cpus,
            "nodes": self.nodes,
            "all": self.all_gpus,
            "address": self.address,
        }

    def settings(self, script: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """What it sets of a stage with these settings of its own."""
        choice = _CHOICE[script]
        engine = {"engine": self.engine} if choice == "engine" and self.engine else {}
        sets = {**engine, **self.set.get(script, {})}
        if choice in own and own[choice] != sets.get(choice):
            return {}
        each = max([1, *(n for key, n in own.items() if key.endswith("engine.tensor_parallel") and isinstance(n, int))])
        if isinstance(sets.get("workers"), int) and self.gpus >= each:  # those that there is room for
            sets["workers"] = min(sets["workers"], self.nodes * (self.gpus // each))
        return sets
