"""Wheels for a machine without a network: fetched by `gpu.py --pack DIR`, used by `gpu.py --wheels DIR`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NEEDED = ("hydra-core==1.3.2", "omegaconf==2.3.0", "antlr4-python3-runtime==4.9.3", "liger-kernel", "bitsandbytes")
OTHER_GPUS = ("cuda11", "cuda12", "rocm", "xpu")
LIMIT = 64 << 20


def pack_wheels(directory: Path) -> None:
    """Fetch what is needed into `directory`; of bitsandbytes only the builds for CUDA 13 and CPUs are kept."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), *NEEDED]
    subprocess.run(command, check=True)
    for wheel in directory.glob("bitsandbytes-*.whl"):
        smaller = wheel.with_suffix(".part")
        with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as kept:
            for name in whole.namelist():
                if not (name.endswith(".so") and any(gpu in name for gpu in OTHER_GPUS)):
                    kept.writestr(name, whole.read(name))
        smaller.replace(wheel)
    size = sum(wheel.stat().st_size for wheel in directory.glob("*.whl"))
    print(f"{size / 2**20:.1f} MiB in {directory}; with the tree it must stay below {LIMIT >> 20} MiB")


def use_wheels(directory: Path) -> None:
    """Unpack wheels where this process finds them, behind what is installed."""
    place = tempfile.mkdtemp(prefix="wheels-")
    for wheel in sorted(directory.glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(place)
    sys.path.append(place)
