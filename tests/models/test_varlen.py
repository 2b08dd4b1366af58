"""PyTorch's FlashAttention over packs as torch.compile sees it: its own operator with its shapes and its backward pass.

The kernels behind the operator need a GPU. Here functions on a CPU stand in for them, below what is compiled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.nn.attention import varlen
from transformers import AutoModelForCausalLM, LlamaConfig

from sq.data.collate import collate
from sq.models.attention import Attention, Kernel, choose_attention
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss
from sq.train.model import checkpoint_layers, compile_layers

CONFIG = LlamaConfig(
    vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=512,
)  # fmt: skip


def _row_by_row(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, scale: float) -> Tensor:
    parts = []
    for start, stop in zip(bounds.tolist(), bounds.tolist()[1:], strict=False):
        one = (x[start:stop].transpose(0, 1)[None] for x in (q, k, v))
        out = F.scaled_dot_product_attention(*one, is_causal=True, scale=scale, enable_gqa=True)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def _forward(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, _, _, causal, scale, window, gqa, *_ = rest
    assert causal and window == [-1, 0] and gqa
    sums = torch.empty(q.shape[1], q.shape[0], dtype=torch.float32)
    return _row_by_row(q, k, v, bounds, scale), sums, torch.zeros(2, dtype=torch.uint64)


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """By hand: below an operator there is no autograd."""
    bounds, scale, times = rest[2].tolist(), rest[8], q.shape[1] // k.shape[1]
    found = tuple(torch.zeros_like(x) for x in (q, k, v))
    for start, stop in zip(bounds, bounds[1:], strict=False):
        g, one = (x[start:stop].transpose(0, 1) for x in (grad, q))
        keys, values = (x[start:stop].transpose(0, 1).repeat_interleave(times, 0) for x in (k, v))
        scores = scale * one @ keys.mT
        shares = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        of_shares = g @ values.mT
        of_scores = scale * shares * (of_shares - (of_shares * shares).sum(-1, keepdim=True))
        for into, part in zip(found, (of_scores @ keys, of_scores.mT @ one, shares.mT @ g), strict=True):
            into[start:stop] = part.unflatten(0, (into.shape[1], -1)).sum(1).transpose(0, 1)
    return found


@pytest.fixture
def kernels() -> Iterator[None]:
    """The stand-ins, in place of PyTorch's operators on a CPU."""
    operators = (varlen._varlen_attn, _forward), (varlen._varlen_attn_backward, _backward)
    for operator, function in operators:
        operator.register_kernel("cpu")(function)
    yield
    for operator, _ in operators:
        operator._backend_fns.pop("cpu")


def _losses(kernel: Kernel, *, compiled: bool = False, checkpointing: float = 0) -> list[float]:
    """Of four steps of gradient descent on packs of other rows, which are padded to one size."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG).train()
    attention = choose_attention(model, share_prefix=False)
    if kernel is Kernel.FLASH:
        attention = Attention(kernel=kernel, reason="", shares_prefix=False, flash="torch").padding_to(250)
    if checkpointing:
        checkpoint_layers(model, checkpointing)
    if compiled:
        torch._dynamo.reset()
        counters.clear()
        compile_layers(model, dynamic=None, backend="aot_eager")
    optimizer, draw, found = torch.optim.SGD(model.parameters(), 0.1), random.Random(0), []
    for step in range(4):
        rows = [TokenSequence(draw.choices(range(97), k=draw.randrange(3, 40)), 1) for _ in range(3 + step)]
        out = pack_loss(model, collate(rows), attention)
        (out.total / out.count).backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(out.total.detach()) / out.count)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [0, 0.5])
def test_flash_attention_by_torch_is_compiled_whole_and_not_again(kernels: None, checkpointing: float) -> None:
    expected = _losses(Kernel.SDPA)
    assert _losses(Kernel.FLASH) == pytest.approx(expected, rel=1e-5)
    assert _losses(Kernel.FLASH, compiled=True, checkpointing=checkpointing) == pytest.approx(expected, rel=1e-5)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 2, "again once, where the number of rows is seen to change"
