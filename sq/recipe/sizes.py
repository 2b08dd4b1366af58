"""Facts that a forecast needs and no config states: parameters of models, rows of datasets, prices of APIs.

`conf/sizes/known.yaml` has them. A model that is on this disk is counted; one that is not known is read off its name
(`-7B`, and `-A3B` for the active part of a mixture of experts).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sq.core.config import build, conf_dir, setting
from sq.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SizesConfig:
    """What is known of models, datasets and APIs."""

    parameters: dict[str, float] = setting({}, gt=0, help="billion active parameters of a hub model")
    rows: dict[str, int] = setting({}, ge=0, help="rows of a hub dataset, a file or a benchmark")
    api: dict[str, list[float]] = setting({}, help="dollars for a million tokens in, and out")

    def billions(self, path: str) -> float:
        """Billion active parameters of the model at `path`.

        Raises:
            ConfigError: where neither the table, the disk nor the name says.
        """
        if path in self.parameters:
            return self.parameters[path]
        if (counted := _counted(path)) is not None:
            return counted / 1e9
        name = path.rstrip("/").rpartition("/")[2]
        active = re.search(r"(?i)(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])", name)
        whole = re.search(r"(?i)(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", name)
        if active:
            return float(active[1])
        if whole:
            return float(whole[1]) / (1 if whole[2] in "bB" else 1000)
        raise ConfigError(f"the size of model {path} is not known; say it: sizes.parameters.'{path}'=7.6 (in billions)")

    def price(self, model: str) -> tuple[float, float]:
        """Dollars for a token in and a token out of an API's model; the dearest known where it is not listed."""
        price = next((p for name, p in self.api.items() if name in model), None) or max(self.api.values(), default=None)
        return (price[0] / 1e6, price[1] / 1e6) if price else (0.0, 0.0)


def load_sizes(changes: Mapping[str, Any] | None = None) -> SizesConfig:
    """The table, with some of its facts replaced: keys are `rows.NAME` and `parameters.NAME`."""
    node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "sizes" / "known.yaml"))
    for key, value in (changes or {}).items():
        group, _, name = key.partition(".")
        if group not in ("rows", "parameters") or not name:
            raise ConfigError(
                f"sizes.{key}={value!r}: write sizes.rows.NAME=10000 or sizes.parameters.NAME=7.6 (billions)"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(f"sizes.{key}={value!r} must be a number above 0")
        node[group][name] = value
    return build(node, SizesConfig, key="sizes")


def _counted(path: str) -> int | None:
    """Parameters of weights on this disk, from the headers of their safetensors alone; None where there are none."""
    kind, _, name = path.partition(":")
    tiny = {"package": name, "new": "tiny-base"}.get(kind)
    directory = Path(__file__).parent.parent / "domains" / "tiny" / tiny if tiny else Path(path)
    total = 0
    for file in directory.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(about["shape"]) for name, about in header.items() if name != "__metadata__")
    return total or None
