"""ZeRO-3 by DeepSpeed in two processes gives the losses of DDP; on CPUs, where only Lightning's check forbids it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install deepspeed)")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TINY = ROOT / "sq" / "domains" / "tiny" / "tiny"
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
    "model=tiny", "domain=arithmetic", "stage.lr=0.003", "stage.max_steps=4", "stage.batch_packs=4",
    "stage.pack_tokens=192", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=fp32", "tracking=none",
)  # fmt: skip
QFT = ("stage=qft", "data.limit=60")


def started(place: Path, strategy: str, *more: str) -> subprocess.Popen[str]:
    (place / "sitecustomize.py").write_text(ALLOWED if strategy == "deepspeed" else "")
    path = os.pathsep.join([str(place), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    env = {**os.environ, "PYTHONPATH": path, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *WORDS, *more, f"trainer.strategy={strategy}"]
    return subprocess.Popen(
        [*command, f"output_dir={place / 'out'}"], stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )


def trained(place: Path, strategy: str, *more: str) -> dict[str, float]:
    process = started(place, strategy, *more)
    said = process.communicate()[1]
    assert process.returncode == 0, said[-3000:]
    assert [p.name for p in (place / "out" / "model").glob("*.safetensors")] == ["model.safetensors"]
    return dict(json.loads((place / "out" / "train.json").read_text())["figures"])


@pytest.mark.parametrize("kind", ["qft", "qpo", "lora", "untied"])
def test_two_processes_with_zero_3_train_as_with_ddp(kind: str, pairs: Path, tmp_path: Path) -> None:
    words = (
        ("stage=qpo", f"data.input={pairs}", "stage.batch_rows=null", "stage.validation=0.1") if kind == "qpo" else QFT
    )
    if kind == "lora":
        words += ("trainer.lora.rank=4",)
    if kind == "untied":  # the head's weight is a parameter of its own, which is gathered by itself
        model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach().clone())
        model.save_pretrained(tmp_path / "model")
        AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "model")
        words += (f"model.path={tmp_path / 'model'}",)
    found = {}
    for strategy in ("ddp", "deepspeed"):
        (tmp_path / strategy).mkdir()
        found[strategy] = trained(tmp_path / strategy, strategy, *words)
    for name in ("train/loss", "train/grad_norm", "val/loss"):
        assert found["deepspeed"][name] == pytest.approx(found["ddp"][name], rel=1e-4), name


def test_it_trains_in_bf16_with_checkpointing_and_saves_on_the_way(tmp_path: Path) -> None:
    words = ("trainer.precision=bf16_mixed", "trainer.gradient_checkpointing=true", "trainer.checkpoint_every=2")
    assert trained(tmp_path, "deepspeed", *QFT, *words)["train/loss"] > 0


def test_killed_and_started_again_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    words, weights = (*QFT, "trainer.checkpoint_every=1", "trainer.keep_checkpoints=2"), {}
    for name in ("killed", "whole"):
        place = tmp_path / name
        place.mkdir()
        if name == "killed":
            process, until = started(place, "deepspeed", *words), time.monotonic() + 120
            while not (place / "out/checkpoints/step-00000002.ckpt").exists() and time.monotonic() < until:
                assert process.poll() is None, process.communicate()[1][-3000:]
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert not (place / "out/model").exists()
        trained(place, "deepspeed", *words)
        weights[name] = load_file(place / "out/model/model.safetensors")
    assert all(torch.equal(weights["killed"][key], weights["whole"][key]) for key in weights["whole"])


def test_the_best_checkpoint_is_exported(tmp_path: Path) -> None:
    words = (*QFT, "trainer.export=best", "trainer.checkpoint_every=1", "stage.lr=0.02", "stage.warmup_steps=3")
    found, weights = {}, {}
    for strategy in ("ddp", "deepspeed"):
        place = tmp_path / strategy
        place.mkdir()
        found[strategy] = trained(place, strategy, *words)
        weights[strategy] = load_file(place / "out/model/model.safetensors")
    best = found["deepspeed"]["val/loss_exported"]
    assert best < found["deepspeed"]["val/loss"]
    assert best == pytest.approx(found["ddp"]["val/loss_exported"], rel=1e-3)
    for name, tensor in weights["ddp"].items():
        torch.testing.assert_close(weights["deepspeed"][name], tensor, rtol=2e-2, atol=2e-3)
