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
from sq.models.losses import qpo_loss
from sq.models.pack import Row
from sq.models.packed import hidden_states, last_states, pack_logps, pack_loss, row_logps

Make = Callable[[str], PreTrainedModel]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, None), (1.0, 2.0), (2.0, 1.5)])
@pytest.mark.parametrize(("chunk", "kept"), [(16, 2000), (16, 1999), (1000, 2000)])
def test_the_head_in_chunks_is_the_head(
    bias: bool, scale: float, cap: float | None, chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = nn.Linear(12, 40, bias=bias)
    states, targets = torch.randn(50, 12, requires_grad=True), torch.randint(40, (50,))
    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", chunk * 40)
    monkeypatch.setattr("sq.models.head.KEPT_ELEMENTS", kept)  # there are 50 by 40
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

    logps = head.logps(states, targets)
    torch.testing.assert_close(logps, logits.detach().log_softmax(-1)[torch.arange(50), targets])
    torch.testing.assert_close(torch.autograd.grad(-logps.sum() * 0.3, inputs, retain_graph=True), wanted)
    torch.testing.assert_close(torch.autograd.grad(-logps.sum() * 0.3, inputs), wanted)  # what was kept is used up


def test_each_token_has_its_own_gradient() -> None:
    """QPO pulls chosen tokens up and rejected ones down within one pack."""
    head = Head(module=nn.Linear(8, 30, bias=False), vocabulary=30)
    states, targets, pull = torch.randn(9, 8, requires_grad=True), torch.randint(30, (9,)), torch.randn(9)
    expected = (head.module(states).log_softmax(-1)[torch.arange(9), targets] * pull).sum()
    inputs = [states, head.module.weight]
    wanted = torch.autograd.grad(expected, inputs)
    torch.testing.assert_close(torch.autograd.grad((head.logps(states, targets) * pull).sum(), inputs), wanted)


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
    torch.testing.assert_close(torch.autograd.grad(total, inputs), torch.autograd.grad(expected, inputs))
    torch.testing.assert_close(-head.logps(states, targets).sum(), expected.detach())


def test_a_frozen_head_gets_no_gradient_and_gives_one() -> None:
    head = Head(module=nn.Linear(8, 30).requires_grad_(False), vocabulary=30)
    states, targets = torch.randn(5, 8, requires_grad=True), torch.randint(30, (5,))
    head.cross_entropy(states, targets)[0].backward()
    assert states.grad is not None and states.grad.abs().sum() > 0 and head.module.weight.grad is None


def test_logits_of_a_pack_are_made_in_chunks_and_kept_only_where_small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    product = _Gradients._product

    def watched(grads: _Gradients, inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return product(grads, inputs)

    monkeypatch.setattr("sq.models.head.CHUNK_ELEMENTS", 32 * 500)
    monkeypatch.setattr("sq.models.head.KEPT_ELEMENTS", 99 * 500)
    head = Head(module=nn.Linear(8, 500, bias=False), vocabulary=500)
    states, targets = torch.randn(100, 8, requires_grad=True), torch.randint(500, (100,))
    monkeypatch.setattr(_Gradients, "_product", watched)
    head.cross_entropy(states, targets)[0].backward()
    head.logps(states, targets).sum().backward()
    assert sizes == [32, 32, 32, 4] * 3

    monkeypatch.setattr("sq.models.head.KEPT_ELEMENTS", 100 * 500)
    sizes.clear()
    head.logps(states, targets).sum().backward()
    assert sizes == [32, 32, 32, 4], "what is small is kept, not made again"
    sizes.clear()
    with torch.no_grad():
        head.logps(states, targets)
    assert sizes == [32, 32, 32, 4]


@pytest.mark.parametrize("vocabulary", [WORDS - 1, WORDS, 2 * WORDS + 5])
def test_a_vocabulary_of_several_slices_gives_the_loss_and_gradients_of_torch(vocabulary: int) -> None:
    head = Head(module=nn.Linear(8, vocabulary, bias=False), vocabulary=vocabulary)
    states, targets = torch.randn(9, 8, requires_grad=True), torch.randint(vocabulary, (9,))
    inputs = [states, *head.module.parameters()]
    expected = nn.functional.cross_entropy(head.module(states), targets, reduction="sum")
    slopes = torch.autograd.grad(expected, inputs)
    for found in (head.cross_entropy(states, targets)[0], -head.logps(states, targets).sum()):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, inputs), slopes)


def test_scales_and_caps_come_from_the_config(make_model: Make) -> None:
    assert head_of(make_model("gemma2-sliding-capped")).cap == 3.0
    assert head_of(make_model("cohere-scaled")).scale == 0.25
    assert head_of(make_model("granite-scaled")).scale == 0.5
    plain = head_of(make_model("llama"))
    assert (plain.scale, plain.cap) == (1.0, None)


def test_row_logps_are_each_rows_own(make_model: Make, rows: list[Row], prefix: int) -> None:
    model = make_model("qwen3").eval()
    attention = choose_attention(model)
    with torch.no_grad():
        together = row_logps(model, collate(rows, prefix=prefix), attention)
        alone = torch.cat([row_logps(model, collate([row]), attention) for row in rows])
        tokens = pack_logps(model, collate(rows, prefix=prefix), attention)
    torch.testing.assert_close(together, alone)
    assert tokens.shape == (sum(len(r.ids) - r.start for r in rows),)


def test_qpo_begins_at_ln_2_and_learns(make_model: Make, rows: list[Row], prefix: int) -> None:
    model = make_model("llama").eval()
    attention = choose_attention(model)
    pack = collate(rows[1:5], prefix=prefix, paired=True)
    with torch.no_grad():
        reference = row_logps(model, pack, attention)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        policy = row_logps(model, pack, attention)
        loss = qpo_loss(policy[0::2], policy[1::2], reference[0::2], reference[1::2], beta=0.1)
        losses.append(loss.loss.item())
        optimizer.zero_grad()
        loss.loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 1e-3


def test_accumulation_over_packs_is_exact(make_model: Make, rows: list[Row]) -> None:
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


def test_last_states_are_those_of_rows_alone(make_model: Make, rows: list[Row], prefix: int) -> None:
    model = make_model("gemma").eval()
    attention = choose_attention(model)
    unsupervised = [Row(row.ids, len(row.ids)) for row in rows]
    with torch.no_grad():
        found = last_states(model, collate(unsupervised, prefix=prefix, keep_last=True), attention)
        model.set_attn_implementation("eager")
        alone = [model.base_model(input_ids=torch.tensor([row.ids])).last_hidden_state[0, -1] for row in rows]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_under_autocast_loss_and_gradients_are_close(make_model: Make, rows: list[Row], prefix: int) -> None:
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
    assert rough.dtype == logps.dtype == weight.grad.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)
    assert -logps.sum().item() == pytest.approx(rough.item(), rel=1e-3)
    assert F.cosine_similarity(weight.grad.flatten(), expected.flatten(), 0) > 0.99


def test_no_gradients_are_kept_without_need(make_model: Make, rows: list[Row]) -> None:
    model = make_model("llama")
    attention = choose_attention(model)
    with torch.no_grad():
        loss = pack_loss(model, collate(rows), attention)
        states = hidden_states(model, collate(rows), attention)
    assert not loss.total.requires_grad and not states.requires_grad
    assert 0 <= loss.correct.item() <= loss.count == collate(rows).supervised


def test_backward_twice_is_refused(make_model: Make, rows: list[Row]) -> None:
    model = make_model("llama")
    total = pack_loss(model, collate(rows), choose_attention(model)).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="runs once"):
        total.backward()
