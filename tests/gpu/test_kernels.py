"""On a GPU: FlexAttention, FlashAttention and the fused heads against rows one by one and our head."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from sq.data.collate import collate
from sq.models.attention import Kernel, choose_attention
from sq.models.fused import HeadKernel, choose_head
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss
from sq.models.varlen import flash_implementation

PREFIX = 24
SIZES = {
    "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.fixture
def rows() -> list[TokenSequence]:
    draw = random.Random(0)
    head = [draw.randrange(1000) for _ in range(PREFIX)]
    return [
        TokenSequence(head + [draw.randrange(1000) for _ in range(draw.randrange(5, 90))], PREFIX) for _ in range(40)
    ]


def make(device, dtype, window=None):
    torch.manual_seed(0)
    if window:
        return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=window)).to(device, dtype)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).to(device, dtype)


def loss_and_gradient(model, rows, kernel, *, prefix=0, head=HeadKernel.CHUNKED, pad_to=0):
    """Of one pack, and of a pack each where the kernel is `unpacked`."""
    attention = choose_attention(model, kernel, share_prefix=prefix > 0).padding_to(pad_to)
    groups = [[row] for row in rows] if kernel is Kernel.UNPACKED else [rows]
    packs = [collate(group, prefix=prefix if attention.shares_prefix else 0).to(model.device) for group in groups]
    model.zero_grad()
    total, count = 0.0, sum(pack.supervised for pack in packs)
    for pack in packs:
        loss = pack_loss(model, pack, attention, head).total / count
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.float().flatten() for p in model.parameters()])


def off(found, expected) -> tuple[float, float]:
    (loss, grads), (wanted, expected_grads) = found, expected
    return abs(loss - wanted) / wanted, float((grads - expected_grads).norm() / expected_grads.norm())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize(
    ("kernel", "prefix", "dtype"),
    [
        (Kernel.SDPA, PREFIX, torch.float32),
        (Kernel.FLEX, 0, torch.bfloat16),
        (Kernel.FLEX, PREFIX, torch.bfloat16),
        (Kernel.FLEX, PREFIX, torch.float32),
        (Kernel.FLASH, 0, torch.bfloat16),
    ],
)
def test_a_pack_is_its_rows_one_by_one(kernel, prefix, dtype, window, checkpointing, rows, device):
    if device == "cpu" and kernel is not Kernel.SDPA:
        pytest.skip("a kernel of GPUs")
    if kernel is Kernel.FLASH and not flash_implementation():
        pytest.skip("no build of FlashAttention is installed")
    model = make(device, dtype, window)
    expected = loss_and_gradient(model, rows, Kernel.UNPACKED)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss, gradient = off(loss_and_gradient(model, rows, kernel, prefix=prefix, pad_to=4096), expected)
    half = dtype is torch.bfloat16
    assert loss < (1e-2 if half else 1e-4) and gradient < (5e-2 if half else 1e-2)  # fp32's products may run in TF32


@pytest.mark.parametrize(
    ("kernel", "package"), [(HeadKernel.CCE, "cut_cross_entropy"), (HeadKernel.LIGER, "liger_kernel")]
)
def test_a_fused_head_is_ours(kernel, package, rows, device, needs):
    needs(package)
    model = make(device, torch.bfloat16)
    assert choose_head(model, kernel, half=True).kernel is kernel
    expected = loss_and_gradient(model, rows, Kernel.SDPA)
    loss, gradient = off(loss_and_gradient(model, rows, Kernel.SDPA, head=kernel), expected)
    assert loss < 1e-2 and gradient < 5e-2
