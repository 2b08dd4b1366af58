"""What the tests of stopped trainings share: settings, a kill after a checkpoint, and whether weights are the same."""

import signal
import time
from pathlib import Path

import pytest
from forked_command import ForkedCommand
from safetensors.torch import load_file

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
    process = ForkedCommand("train.py", command)
    deadline = time.monotonic() + 240
    while not any(checkpoints.glob(f"step-{3 * count:08d}.ckpt")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.send_signal(signal.SIGKILL)
            pytest.fail(f"no checkpoint came: {process.stderr[-2000:]}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
