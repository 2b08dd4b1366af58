"""The hardware table: what a GPU (or a CPU) does in a second and costs in an hour, each number with its source.

One YAML a kind in `conf/hardware/`. A rate is given for a model of `reference` billion parameters and scaled by the
parameters that are active; `most_*` is what the engine itself manages with a model so small that arithmetic is free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from omegaconf import OmegaConf

from sq.core.config import build, conf_dir, nearest, setting
from sq.core.cpu import cpu_has_bf16
from sq.core.errors import ConfigError

SOURCED = ("peak", "decode", "prefill_share", "train_share", "start", "price")
"""Numbers that must say where they are from."""


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """One device: a GPU, or a machine without one."""

    name: str = setting(help="as one says it: H200")
    about: str = setting("", help="which model exactly")
    gpu: bool = setting(True, help="false: a machine that computes on its CPU")
    peak: float = setting(gt=0, help="dense bf16 TFLOP/s by the data sheet")
    reference: float = setting(7.6, gt=0, help="billion parameters of the model that `decode` is of")
    decode: float = setting(gt=0, help="tokens generated in a second, bf16, hundreds of sequences together")
    prefill_share: float = setting(gt=0, le=1, help="share of the peak that reading a prompt reaches")
    train_share: float = setting(gt=0, le=1, help="share of the peak that training reaches, packed")
    most_decode: float = setting(60_000, gt=0, help="tokens/s that the engine generates however small the model")
    most_prefill: float = setting(1_000_000, gt=0, help="tokens/s that it reads however small the model")
    most_train: float = setting(500_000, gt=0, help="tokens/s that training sees however small the model")
    start_engine: float = setting(ge=0, help="seconds from a command to the first token")
    start_train: float = setting(ge=0, help="seconds from a command to the first step, and to write the weights")
    start_other: float = setting(15, ge=0, help="seconds that a command without a model takes")
    price: float = setting(ge=0, help="US dollars an hour")
    sources: dict[str, str] = setting({}, help="where each number is from")

    def __post_init__(self) -> None:
        if missing := [name for name in SOURCED if name not in self.sources]:
            raise ValueError(f"sources={sorted(self.sources)} does not say where {', '.join(missing)} is from")

    def decode_seconds(self, parameters: float) -> float:
        """Seconds to generate one token with a model of so many billion active parameters."""
        overhead = min(1 / self.most_decode, 1 / self.decode)
        return overhead + (1 / self.decode - overhead) * parameters / self.reference

    def prefill_seconds(self, parameters: float) -> float:
        """Seconds to read one token of a prompt: 2 FLOPs a parameter at a share of the peak."""
        return 1 / self.most_prefill + 2 * parameters * 1e9 / (self.peak * 1e12 * self.prefill_share)

    def train_seconds(self, parameters: float, *, forward_only: float = 0.0, recompute: bool = False) -> float:
        """Seconds to train on one token: 6 FLOPs a parameter, 8 with activations recomputed, 2 a forward pass."""
        flops = (8 if recompute else 6) + 2 * forward_only
        return 1 / self.most_train + flops * parameters * 1e9 / (self.peak * 1e12 * self.train_share)


def hardware_names() -> list[str]:
    """What is in the table, by file name."""
    return sorted(path.stem for path in (conf_dir() / "hardware").glob("*.yaml"))


def load_hardware(name: str, overrides: dict[str, object] | None = None) -> HardwareConfig:
    """An entry of the table, with some of its numbers replaced."""
    names = hardware_names()
    if name.lower() not in names:
        raise ConfigError(f"--hardware {name} is not one of {', '.join(names)}{nearest(name.lower(), names)}")
    node = OmegaConf.load(conf_dir() / "hardware" / f"{name.lower()}.yaml")
    for key, value in (overrides or {}).items():
        OmegaConf.update(node, key, value)
    return build(node, HardwareConfig, key="hardware")


def hardware_here() -> str:
    """The name of this machine's device in the table."""
    from sq.core.provenance import hardware

    gpu = hardware()["gpus"].split("; ")[0]
    if gpu == "none":
        return "cpu" if cpu_has_bf16() else "cpu-avx2"
    if "A100" in gpu:
        memory = re.search(r"(\d+) MiB", gpu)
        return "a100-40g" if memory and int(memory[1]) < 60_000 else "a100-80g"
    words = re.findall(r"[a-z]*\d+[a-z]*", gpu.lower())
    named = next((name for name in hardware_names() if any(word.removeprefix("g") == name for word in words)), None)
    if named is None:
        raise ConfigError(
            f"{gpu.partition(',')[0]} is not in the hardware table: say --hardware {' | '.join(hardware_names())}, or "
            "add a YAML to conf/hardware"
        )
    return named


def devices_here() -> int:
    """GPUs that can be seen here; a machine without one is one device."""
    from sq.core.provenance import hardware, visible_gpus

    return max(1, len(visible_gpus(hardware()["gpus"])))
