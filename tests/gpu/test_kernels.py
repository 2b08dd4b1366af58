"""On a GPU: FlexAttention, FlashAttention and the fused heads against SDPA and our head, and training with them."""

from __future__ import annotations

import importlib.util
import json
import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sq.data.collate import collate
from sq.models.attention import Kernel, choose_attention
from sq.models.fused import HeadKernel, choose_head
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]
PREFIX = 24


def installed(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def rows() -> list[TokenSequence]:
    draw = random.Random(0)
    head = [draw.randrange(1000) for _ in range(PREFIX)]
    return [
        TokenSequence(head + [draw.randrange(1000) for _ in range(draw.randrange(5, 90))], PREFIX) for _ in range(40)
    ]


def make(dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    return LlamaForCausalLM(config).to("cuda", dtype)


def outcome(model, rows, kernel, *, prefix, head=HeadKernel.CHUNKED):
    """Loss and flattened gradient of one pack."""
    attention = choose_attention(model, kernel, share_prefix=prefix > 0)
    pack = collate(rows, prefix=prefix if attention.shares_prefix else 0).to("cuda")
    model.zero_grad()
    out = pack_loss(model, pack, attention, head)
    (out.total / out.count).backward()
    return float(out.total.detach()) / out.count, torch.cat([p.grad.float().flatten() for p in model.parameters()])


def off(found, expected) -> tuple[float, float]:
    (loss, grads), (wanted, expected_grads) = found, expected
    return abs(loss - wanted) / wanted, float((grads - expected_grads).norm() / expected_grads.norm())


def test_flex_with_a_shared_prefix_is_sdpa_without(rows):
    model = make(torch.float32)
    expected = outcome(model, rows, Kernel.SDPA, prefix=0)
    loss, gradient = off(outcome(model, rows, Kernel.FLEX, prefix=PREFIX), expected)
    assert loss < 1e-4 and gradient < 1e-2  # its products may run in TF32


def test_sdpa_on_a_gpu_shares_the_prefix_exactly(rows):
    model = make(torch.float32)
    expected = outcome(model, rows, Kernel.SDPA, prefix=0)
    loss, gradient = off(outcome(model, rows, Kernel.SDPA, prefix=PREFIX), expected)
    assert loss < 1e-5 and gradient < 1e-4


def test_flash_is_sdpa(rows):
    installed("flash_attn")
    model = make(torch.bfloat16)
    expected = outcome(model, rows, Kernel.SDPA, prefix=0)
    loss, gradient = off(outcome(model, rows, Kernel.FLASH, prefix=0), expected)
    assert loss < 1e-2 and gradient < 5e-2


@pytest.mark.parametrize(
    ("kernel", "package"), [(HeadKernel.CCE, "cut_cross_entropy"), (HeadKernel.LIGER, "liger_kernel")]
)
def test_a_fused_head_is_ours(kernel, package, rows):
    installed(package)
    model = make(torch.bfloat16)
    assert choose_head(model, kernel, half=True).kernel is kernel
    expected = outcome(model, rows, Kernel.SDPA, prefix=0)
    loss, gradient = off(outcome(model, rows, Kernel.SDPA, prefix=0, head=kernel), expected)
    assert loss < 1e-2 and gradient < 5e-2


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["trainer.precision=bf16"], None),
        (["trainer.precision=bf16", "trainer.compile=true"], None),
        (["trainer.precision=bf16_mixed", "stage.optimizer=adamw_8bit"], "bitsandbytes"),
        (["trainer.precision=bf16_mixed", "stage.optimizer=paged_adamw_32bit"], "bitsandbytes"),
        (["trainer.precision=bf16_mixed", "trainer.lora.rank=8", "trainer.lora.quantize=true"], "bitsandbytes"),
    ],
)
@pytest.mark.parametrize("stage", ["qft", "qpo"])
def test_training_on_a_gpu(stage, words, package, tmp_path):
    """From the tiny model to weights, with what only a GPU runs; QPO checks by itself that it starts at ln 2."""
    if package:
        installed(package)
    from hydra import compose, initialize_config_dir

    from sq.core.config import build, conf_dir
    from sq.domains.arithmetic import ArithmeticDomain, poor
    from sq.train.fit import fit

    given = [f"stage={stage}", "model=tiny", "tracking=none", "trainer=gpu", f"++output_dir={tmp_path / 'out'}",
             "++stage.max_steps=4", "++stage.batch_rows=16", "++stage.batch_packs=null"]  # fmt: skip
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
    assert metrics["train/loss"] > 0 and metrics["train/memory_gib"] > 0
