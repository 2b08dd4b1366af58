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
from sq.models.head import WORDS, Head, _Gradients, head_of
from sq.models.losses import qpo_loss, sum_by_owner
from sq.models.pack import TokenSequence
from sq.models.packed_forward import hidden_states, last_states, pack_loss, row_logps, rows_loss

Make = Callable[[str], PreTrainedModel]


def rows_alone(head: Head, states: Tensor, targets: Tensor, owners: Tensor, count: int, group: int = 1) -> Tensor:
    """The rows' log-probabilities, as a reference has them."""
    with torch.no_grad():
        return head.rows_loss(states, targets, owners, count, lambda logps, rows: logps.sum(), group=group)[1]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, None), (1.0, 2.0), (2.0, 1.5)])
@pytest.mark.parametrize("chunk", [16, 1000])
def test_the_head_in_chunks_is_the_head(
    bias: bool, scale: float, cap: float | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = nn.Linear(12, 40, bias=bias)
    states, targets = torch.randn(50, 12, requires_grad=True), torch.randint(40, (50,))
    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", chunk * 40)
    head = Head(module=module, vocabulary=40, scale=scale, cap=cap)
    assert head.chunk == chunk
    logits = module(states) * scale
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    expected = F.cross_entropy(logits, targets, reduction="sum")
    inputs = [states, *module.parameters()]
    wanted = torch.autograd.grad(expected * 0.3, inputs)

    total, right = head.cross_entropy(states, targets)
    torch.testing.assert_close(total, expected.detach())
    assert right.item() == (logits.argmax(-1) == targets).sum().item()
    torch.testing.assert_close(torch.autograd.grad(total * 0.3, inputs), wanted)


LENGTHS = [0, 0, 20, 14, 3, 5, 1, 1, 2, 0, 4, 4]
"""Supervised tokens of six pairs' sides."""


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, 2.0)])
@pytest.mark.parametrize(("chunk", "whole"), [(16, 54), (16, 34), (16, 33), (1000, 54)])
def test_a_loss_over_pairs_in_chunks_is_the_loss(
    bias: bool, scale: float, cap: float | None, chunk: int, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token has its row's gradient, also where the logits of a pair are too many to be held at once."""
    torch.manual_seed(0)
    module = nn.Linear(12, 40, bias=bias)
    owners = torch.repeat_interleave(torch.arange(12), torch.tensor(LENGTHS))
    states, targets = torch.randn(54, 12, requires_grad=True), torch.randint(40, (54,))
    weights = torch.rand(6) + 0.5
    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", chunk * 40)
    monkeypatch.setattr("sq.models.head.WHOLE_ELEMENTS", whole * 40)
    head = Head(module=module, vocabulary=40, scale=scale, cap=cap)

    def loss(rows: Tensor, where: slice) -> Tensor:
        margins = rows[0::2] - rows[1::2]
        return -(F.logsigmoid(margins.float() * 0.1) * weights[where.start // 2 : where.stop // 2]).sum()

    logits = module(states) * scale
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    rows = sum_by_owner(logits.log_softmax(-1)[torch.arange(54), targets], owners, 12)
    expected = loss(rows, slice(0, 12))
    inputs = [states, *module.parameters()]
    wanted = torch.autograd.grad(expected * 0.3, inputs)

    total, found = head.rows_loss(states, targets, owners, 12, loss, group=2)
    assert not found.requires_grad
    torch.testing.assert_close(found.float(), rows.detach().float())
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(total * 0.3, inputs), wanted)
    alone = rows_alone(head, states, targets, owners, 12, group=2)
    assert not alone.requires_grad
    assert torch.equal(alone, found), "a reference is computed in the very chunks of training"


def test_pairs_are_not_cut_and_fill_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", 16 * 40)
    head = Head(module=nn.Linear(2, 40), vocabulary=40)
    pieces, rows = head._pieces(LENGTHS, 2)
    assert pieces == [slice(0, 0), slice(0, 34), slice(34, 46), slice(46, 54)]
    assert rows == [slice(0, 2), slice(2, 4), slice(4, 10), slice(10, 12)]
    assert head._pieces([], 2) == ([], [])


def test_a_head_of_another_kind_goes_through_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """LoRA and quantised layers are modules of their own; their forward is what counts."""

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", 16 * 30)
    head = Head(module=Doubled(8, 30), vocabulary=30, cap=3.0)
    states, targets = torch.randn(40, 8, requires_grad=True), torch.randint(30, (40,))
    logits = torch.tanh(head.module(states) / 3.0) * 3.0
    expected = F.cross_entropy(logits, targets, reduction="sum")
    inputs = [states, *head.module.parameters()]
    total, right = head.cross_entropy(states, targets)
    torch.testing.assert_close(total, expected)
    assert right.item() == (logits.argmax(-1) == targets).sum().item()
    wanted = torch.autograd.grad(expected, inputs)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), wanted)
    owners = torch.arange(40) // 8
    one, _ = head.rows_loss(states, targets, owners, 5, lambda logps, rows: -logps.sum())
    torch.testing.assert_close(torch.autograd.grad(one, inputs), wanted)
    torch.testing.assert_close(-rows_alone(head, states, targets, owners, 5).sum().float(), expected.detach())


def test_a_frozen_head_gets_no_gradient_and_gives_one() -> None:
    head = Head(module=nn.Linear(8, 30).requires_grad_(False), vocabulary=30)
    states, targets = torch.randn(5, 8, requires_grad=True), torch.randint(30, (5,))
    head.cross_entropy(states, targets)[0].backward()
    assert states.grad is not None and states.grad.abs().sum() > 0 and head.module.weight.grad is None


def test_logits_are_made_once_a_chunk_at_a_time_and_none_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    product = _Gradients._product

    def watched(grads: _Gradients, inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return product(grads, inputs)

    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", 32 * 500)
    head = Head(module=nn.Linear(8, 500, bias=False), vocabulary=500)
    states, targets = torch.randn(100, 8, requires_grad=True), torch.randint(500, (100,))
    monkeypatch.setattr(_Gradients, "_product", watched)
    total, _ = head.cross_entropy(states, targets)
    assert _largest_kept(total) < 500 * 8 * 2, "states and weight at most"
    total.backward()
    assert sizes == [32, 32, 32, 4]

    sizes.clear()
    owners = torch.arange(100) // 10
    pairs = head.rows_loss(states, targets, owners, 10, lambda logps, rows: logps.square().sum(), group=2)[0]
    assert _largest_kept(pairs) < 500 * 8 * 2
    pairs.backward()
    assert sizes == [20] * 5

    sizes.clear()
    monkeypatch.setattr("sq.models.head.WHOLE_ELEMENTS", 49 * 500)
    head.rows_loss(states, targets, torch.arange(100) // 50, 2, lambda logps, rows: logps.sum(), group=1)[0].backward()
    assert sizes == [32, 18, 32, 18] * 2, "a row too long to be held is made twice"
    sizes.clear()
    rows_alone(head, states, targets, torch.arange(100) // 50, 2)
    assert sizes == [32, 18] * 2


def _largest_kept(loss: Tensor) -> int:
    """Elements of the largest tensor that the loss holds for its backward pass."""
    node = loss.grad_fn
    assert node is not None
    return max(grad.numel() for grad in node.grads if grad is not None)  # type: ignore[attr-defined]


def test_a_pack_without_targets_has_no_gradient() -> None:
    head = Head(module=nn.Linear(8, 30), vocabulary=30)
    states = torch.randn(0, 8, requires_grad=True)
    head.cross_entropy(states, torch.empty(0, dtype=torch.long))[0].backward()
    assert head.module.weight.grad is not None and not head.module.weight.grad.any()


@pytest.mark.parametrize("vocabulary", [WORDS - 1, WORDS, 2 * WORDS + 5])
def test_a_vocabulary_of_several_slices_gives_the_loss_and_gradients_of_torch(vocabulary: int) -> None:
    head = Head(module=nn.Linear(8, vocabulary, bias=False), vocabulary=vocabulary)
    states, targets = torch.randn(9, 8, requires_grad=True), torch.randint(vocabulary, (9,))
    inputs = [states, *head.module.parameters()]
    expected = nn.functional.cross_entropy(head.module(states), targets, reduction="sum")
    slopes = torch.autograd.grad(expected, inputs)
    of_rows = head.rows_loss(states, targets, torch.arange(9) // 3, 3, lambda logps, rows: -logps.sum())[0]
    for found in (head.cross_entropy(states, targets)[0], of_rows):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, inputs), slopes)


def test_scales_and_caps_come_from_the_config(make_model: Make) -> None:
    assert head_of(make_model("gemma2-sliding-capped")).cap == 3.0
    assert head_of(make_model("cohere-scaled")).scale == 0.25
    assert head_of(make_model("granite-scaled")).scale == 0.5
    plain = head_of(make_model("llama"))
    assert (plain.scale, plain.cap) == (1.0, None)


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
    reference = row_logps(model, pack, attention)

    def loss_of(logps: Tensor, rows: slice) -> Tensor:
        first = reference[rows]
        return qpo_loss(logps[0::2], logps[1::2], first[0::2], first[1::2], beta=0.1).loss * (len(logps) / 4)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        loss, _ = rows_loss(model, pack, attention, loss_of)
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


def test_backward_twice_is_refused(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    total = pack_loss(model, collate(rows), choose_attention(model)).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="runs once"):
        total.backward()
