"""A model on a pack: loss, log-probabilities and gradients of the chunked head, and what callers build on them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from sq.data.collate import collate
from sq.models.attention import choose_attention
from sq.models.head import Head, chunk_of, head_of
from sq.models.losses import qpo_loss
from sq.models.pack import TokenSequence
from sq.models.packed_forward import hidden_states, last_states, pack_loss, row_logps

Make = Callable[[str], PreTrainedModel]


def logits_of(module: nn.Module, states: Tensor, scale: float, cap: float | None) -> Tensor:
    logits = module(states) * scale
    return logits if cap is None else torch.tanh(logits / cap) * cap


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, None), (1.0, 2.0), (2.0, 1.5)])
@pytest.mark.parametrize("chunk", [16, 1000])
def test_the_head_in_chunks_is_the_head(bias: bool, scale: float, cap: float | None, chunk: int) -> None:
    """Each token's log-probability and, whatever a loss makes of it, its gradient."""
    torch.manual_seed(0)
    module = nn.Linear(12, 40, bias=bias)
    states, targets, weights = torch.randn(50, 12, requires_grad=True), torch.randint(40, (50,)), torch.rand(50)
    head = Head(module=module, chunk=chunk, scale=scale, cap=cap)
    logits = logits_of(module, states, scale, cap)
    expected = logits.log_softmax(-1)[torch.arange(50), targets]
    inputs = [states, *module.parameters()]

    logps, right = head.logps(states, targets)
    torch.testing.assert_close(logps, expected)
    assert right.item() == (logits.argmax(-1) == targets).sum().item()
    found = torch.autograd.grad((logps * weights).sum(), inputs)
    torch.testing.assert_close(found, torch.autograd.grad((expected * weights).sum(), inputs, retain_graph=True))
    total, _ = head.cross_entropy(states, targets)
    torch.testing.assert_close(total, F.cross_entropy(logits, targets, reduction="sum"))
    gradients = torch.autograd.grad(total, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(-expected.sum(), inputs, retain_graph=True))
    total, _ = head.cross_entropy(states, targets, 0.1)
    smoothed = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(total, smoothed)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), torch.autograd.grad(smoothed, inputs))


def test_under_autocast_gradients_of_chunks_meet_in_fp32() -> None:
    """64 chunks are as near to fp32 as one; in a bf16 copy of the weight that they share their sum loses bits."""
    torch.manual_seed(0)
    module = nn.Linear(64, 1000, bias=False)
    states, targets = torch.randn(1024, 64, requires_grad=True), torch.randint(1000, (1024,))
    exact = torch.autograd.grad(F.cross_entropy(module(states), targets, reduction="sum"), module.weight)[0]
    off = []
    for chunk in (1024, 16):
        with torch.autocast("cpu", torch.bfloat16):
            total, _ = Head(module=module, chunk=chunk).cross_entropy(states, targets)
        off.append(float((torch.autograd.grad(total, module.weight)[0] - exact).norm() / exact.norm()))
    assert off[1] < 1.3 * off[0], off


def test_a_head_of_another_kind_runs_as_it_is() -> None:
    """LoRA and quantised layers are modules of their own; their forward is what counts."""

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    module = Doubled(8, 30)
    states, targets = torch.randn(40, 8, requires_grad=True), torch.randint(30, (40,))
    expected = F.cross_entropy(logits_of(module, states, 1.0, 3.0), targets, reduction="sum")
    inputs = [states, *module.parameters()]
    total, _ = Head(module=module, chunk=16, cap=3.0).cross_entropy(states, targets)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), torch.autograd.grad(expected, inputs))


def test_a_frozen_head_gets_no_gradient_and_gives_one() -> None:
    head = Head(module=nn.Linear(8, 30).requires_grad_(False), chunk=16)
    states, targets = torch.randn(5, 8, requires_grad=True), torch.randint(30, (5,))
    head.cross_entropy(states, targets)[0].backward()
    assert states.grad is not None and states.grad.abs().sum() > 0 and head.module.weight.grad is None


def test_logits_are_those_of_a_chunk_and_none_is_kept() -> None:
    module = nn.Linear(8, 500, bias=False)
    made: list[int] = []
    module.register_forward_hook(lambda module, inputs, logits: made.append(len(logits)))
    states, targets = torch.randn(100, 8, requires_grad=True), torch.randint(500, (100,))
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total, _ = Head(module=module, chunk=32).cross_entropy(states, targets)
    assert made == [32, 32, 32, 4]
    assert max(kept) <= 32 * 8, "no more than the states of a chunk"
    total.backward()
    assert sorted(made[4:]) == [4, 32, 32, 32], "and made once more for the backward pass"


def test_a_pack_without_targets_has_no_gradient() -> None:
    head = Head(module=nn.Linear(8, 30), chunk=16)
    states = torch.randn(0, 8, requires_grad=True)
    head.cross_entropy(states, torch.empty(0, dtype=torch.long))[0].backward()
    assert head.module.weight.grad is not None and not head.module.weight.grad.any()


@pytest.mark.parametrize(("vocabulary", "chunk"), [(152064, 2048), (256000, 2048), (65536, 2048), (32000, 4194)])
def test_a_chunk_of_the_head_is_of_512_mib_or_2048_positions(vocabulary: int, chunk: int) -> None:
    assert chunk_of(vocabulary) == chunk


def test_scales_and_caps_come_from_the_config(make_model: Make) -> None:
    assert head_of(make_model("gemma2-sliding-capped")).cap == 3.0
    assert head_of(make_model("cohere-scaled")).scale == 0.25
    assert head_of(make_model("granite-scaled")).scale == 0.5
    plain = head_of(make_model("llama"))
    assert (plain.scale, plain.cap) == (1.0, None)
    assert plain.chunk * plain.module.weight.shape[0] <= 1 << 27


def test_row_logps_are_each_rows_own(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("qwen3").eval()
    attention = choose_attention(model)
    together = row_logps(model, collate(rows, prefix=prefix), attention)
    alone = torch.cat([row_logps(model, collate([row]), attention) for row in rows])
    torch.testing.assert_close(together, alone)


def test_qpo_begins_at_ln_2_and_learns(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("llama").eval()
    attention = choose_attention(model)
    pack = collate(rows[1:5], prefix=prefix, paired=True)
    with torch.no_grad():
        reference = row_logps(model, pack, attention)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        logps = row_logps(model, pack, attention)
        loss = qpo_loss(logps[0::2], logps[1::2], reference[0::2], reference[1::2], beta=0.1).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 1e-3


def test_accumulation_over_packs_is_exact(make_model: Make, rows: list[TokenSequence]) -> None:
    """Sums over packs, divided by the whole batch's supervised tokens, are the batch's mean however it is cut."""
    model = make_model("llama")
    attention = choose_attention(model)
    whole = pack_loss(model, collate(rows), attention)
    (whole.total / whole.count).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    parts = [collate(rows[:1]), collate(rows[1:4]), collate(rows[4:])]
    count = sum(part.supervised for part in parts)
    for part in parts:
        (pack_loss(model, part, attention).total / count).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_labels_are_smoothed_in_a_pack_as_in_rows_alone(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama").eval()
    pack = collate(rows, prefix=prefix)
    packed = pack_loss(model, pack, choose_attention(model), label_smoothing=0.2)
    model.set_attn_implementation("eager")
    alone = torch.zeros(())
    for row in rows:
        ids, first = torch.tensor(row.ids), max(row.start, 1)
        logits = model(input_ids=ids[None]).logits[0, first - 1 : -1]
        alone += F.cross_entropy(logits, ids[first:], reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(packed.total, alone, rtol=1e-5, atol=1e-4)


def test_last_states_are_those_of_rows_alone(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("gemma").eval()
    attention = choose_attention(model)
    unsupervised = [TokenSequence(row.ids, len(row.ids)) for row in rows]
    with torch.no_grad():
        found = last_states(model, collate(unsupervised, prefix=prefix, keep_last=True), attention)
        model.set_attn_implementation("eager")
        alone = [model.base_model(input_ids=torch.tensor([row.ids])).last_hidden_state[0, -1] for row in rows]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_under_autocast_loss_and_gradients_are_close(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("qwen2")
    attention = choose_attention(model)
    pack = collate(rows, prefix=prefix)
    exact = pack_loss(model, pack, attention).total
    exact.backward()
    weight = model.get_output_embeddings().weight
    expected = weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rough = pack_loss(model, pack, attention).total
        logps = row_logps(model, pack, attention)
    rough.backward()
    assert rough.dtype == weight.grad.dtype == torch.float32 and logps.dtype == torch.float64
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)
    assert -logps.sum().item() == pytest.approx(rough.item(), rel=1e-3)
    assert F.cosine_similarity(weight.grad.flatten(), expected.flatten(), 0) > 0.99


def test_no_gradients_are_kept_without_need(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    attention = choose_attention(model)
    with torch.no_grad():
        loss = pack_loss(model, collate(rows), attention)
        states = hidden_states(model, collate(rows), attention)
    assert not loss.total.requires_grad and not states.requires_grad
    assert 0 <= loss.correct.item() <= loss.count == collate(rows).supervised
