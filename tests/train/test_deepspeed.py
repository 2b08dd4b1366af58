"""ZeRO-3 by DeepSpeed in two processes gives the losses of DDP; on CPUs, where only Lightning's check forbids it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install deepspeed)")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ALLOWED = """
import os
import deepspeed
import lightning.pytorch.strategies.deepspeed as theirs

initialize = deepspeed.initialize


def on_a_cpu(args=None, **more):
    args.device_rank = args.local_rank = int(os.environ.get("LOCAL_RANK", 0))
    return initialize(args=args, **more)


theirs.CUDAAccelerator, theirs._validate_device_index_selection = object, lambda *devices: None
deepspeed.initialize = on_a_cpu
"""
WORDS = (
    "stage=qft", "model=tiny", "domain=arithmetic", "data.limit=60", "stage.lr=0.003", "stage.max_steps=4",
    "stage.batch_packs=4", "stage.pack_tokens=192", "trainer.accelerator=cpu", "trainer.devices=2", "tracking=none",
)  # fmt: skip


def trained(place: Path, strategy: str, *more: str) -> dict[str, float]:
    (place / "sitecustomize.py").write_text(ALLOWED if strategy == "deepspeed" else "")
    path = os.pathsep.join([str(place), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    env = {**os.environ, "PYTHONPATH": path, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *WORDS, f"trainer.strategy={strategy}", *more]
    done = subprocess.run([*command, f"output_dir={place / 'out'}"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [p.name for p in (place / "out" / "model").glob("*.safetensors")] == ["model.safetensors"]
    return dict(json.loads((place / "out" / "train.json").read_text())["figures"])


def test_two_processes_with_zero_3_train_as_with_ddp(tmp_path: Path) -> None:
    found = {}
    for strategy in ("ddp", "deepspeed"):
        (tmp_path / strategy).mkdir()
        found[strategy] = trained(tmp_path / strategy, strategy)
    for name in ("train/loss", "train/grad_norm", "val/loss_before", "val/loss"):
        assert found["deepspeed"][name] == pytest.approx(found["ddp"][name], rel=1e-4), name


def test_it_trains_in_bf16_with_checkpointing_and_saves_on_the_way(tmp_path: Path) -> None:
    words = ("trainer.precision=bf16_mixed", "trainer.gradient_checkpointing=true", "trainer.checkpoint_every=2")
    assert trained(tmp_path, "deepspeed", *words)["train/loss"] > 0
