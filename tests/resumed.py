"""What the tests of stopped trainings share: settings, a kill after a checkpoint, and whether weights are the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
SETTINGS = (
    "data.limit=60", "stage.lr=0.01", "stage.epochs=6", "stage.batch_packs=2", "stage.pack_tokens=192",
    "stage.validation=0.1",
    "trainer.checkpoint_every=3", "trainer.keep_checkpoints=2", "trainer.lora.rank=0",
)  # fmt: skip


def weights(output: Path) -> dict[str, object]:
    return load_file(output / "model" / "model.safetensors")


def same(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def killed_after(command: list[str], checkpoints: Path, count: int) -> None:
    """Start training, wait for its `count`th checkpoint, and kill it."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 240
    while not any(checkpoints.glob(f"step-{3 * count:08d}.ckpt")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint came: {process.communicate()[0].decode()[-2000:]}")
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
