"""On a GPU: from the tiny model to weights, with each thing that only a GPU runs; QPO checks its start by itself."""

from __future__ import annotations

import json
import random

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.domains.arithmetic import ArithmeticDomain, poor
from sq.train.fit import fit

PLAIN = "trainer.compile=false"
QLORA = ["trainer.lora.rank=8", "trainer.lora.quantize=true", PLAIN]


@pytest.mark.parametrize(
    ("stage", "words", "package"),
    [
        ("qft", ["trainer.compile=true"], None),
        ("qpo", ["trainer.compile=true", "trainer.gradient_checkpointing=true"], None),
        ("qpo", [PLAIN], None),
        ("qft", [PLAIN, "trainer.precision=fp32"], None),
        ("qft", [PLAIN, "stage.share_prefix=false"], None),
        ("qft", [PLAIN, "trainer.strategy=fsdp", "trainer.checkpoint_every=2", "trainer.export=best"], None),
        ("qft", [PLAIN, "trainer.strategy=ddp"], None),
        ("qft", [PLAIN, "stage.optimizer=adamw_8bit"], "bitsandbytes"),
        ("qft", [PLAIN, "stage.optimizer=paged_adamw_32bit"], "bitsandbytes"),
        ("qft", QLORA, "bitsandbytes"),
    ],
)
def test_training(stage, words, package, tmp_path, device, needs):
    needs(package)
    given = [f"stage={stage}", "model=tiny", "tracking=none", "trainer=gpu", f"++output_dir={tmp_path / 'out'}",
             f"++trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}", "++stage.max_steps=4",
             "++stage.batch_rows=16", "++stage.batch_packs=null", "++trainer.log_every=1"]  # fmt: skip
    if stage == "qpo":
        draw = random.Random(0)
        seeds = ArithmeticDomain().seeds(80, 1)
        lines = [json.dumps({"chosen": s["question"], "rejected": poor(draw) or "What?"}) for s in seeds]
        (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
        given.append(f"++data.input={tmp_path / 'pairs.jsonl'}")
    else:
        given.append("++data.limit=80")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        job = build(compose("train", overrides=[*given, *(f"++{w}" for w in words)]))
    assert (fit(job) / "model.safetensors").is_file()
    metrics = json.loads((tmp_path / "out" / "train.json").read_text())["figures"]
    assert metrics["train/loss"] > 0
    if device == "cuda":
        assert metrics["train/memory_gib"] > 0
