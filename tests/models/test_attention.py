"""Attention over packs against a dense mask written out, the choice of kernel and its refusals."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import MambaConfig, MambaForCausalLM, PreTrainedModel
from transformers.modeling_utils import AttentionInterface

from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.models import attention as attention_module
from sq.models.attention import NAME, Attention, Kernel, attention_arguments, choose_attention, packed_attention
from sq.models.flex import BLOCK, flex_layout_of
from sq.models.layout import WASTE, layout_of
from sq.models.pack import Pack, TokenSequence
from sq.models.packed_forward import hidden_states

Make = Callable[[str], PreTrainedModel]


@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize("window", [None, 1, 4, 9, 500])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("longest", [20, 90])  # by products, and by the fused kernel (above 64 in fp32)
def test_it_is_masked_attention(
    shared: int, window: int | None, softcap: float | None, sinks: bool, longest: int
) -> None:
    pack = _pack(shared, longest)
    torch.manual_seed(1)
    q = torch.randn(1, 4, pack.tokens, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(1, 2, pack.tokens, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    s_aux = torch.randn(4, dtype=torch.float64) if sinks else None
    out, _ = packed_attention(
        nn.Module(), q, k, v, None, pack_layout=layout_of(pack), scaling=0.4, sliding_window=window, softcap=softcap,
        s_aux=s_aux,
    )  # fmt: skip
    expected = _written_out(q, k, v, pack, 0.4, window, softcap, s_aux)
    torch.testing.assert_close(out[0], expected, rtol=1e-10, atol=1e-10)
    upstream = torch.randn_like(expected)
    found = torch.autograd.grad(out[0], (q, k, v), upstream)
    wanted = torch.autograd.grad(expected, (q, k, v), upstream)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (None, 1.5)])
def test_flex_is_masked_attention(shared: int, window: int | None, softcap: float | None) -> None:
    pack = _pack(shared, 20)
    q, k, v = (torch.randn(1, heads, pack.tokens, 16) for heads in (4, 2, 2))
    out, _ = packed_attention(
        nn.Module(), q, k, v, None, pack_layout=flex_layout_of(pack, (None, window)), scaling=0.4,
        sliding_window=window, softcap=softcap,
    )  # fmt: skip
    expected = _written_out(q, k, v, pack, 0.4, window, softcap, None)
    torch.testing.assert_close(out[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [0, 5, 128, 200, 300])
@pytest.mark.parametrize("window", [None, 1, 64, 128, 129, 255, 256, 400])
def test_flex_visits_the_blocks_that_hold_something_and_skips_the_rule_in_whole_ones(
    shared: int, window: int | None
) -> None:
    draw = random.Random(shared)
    own = [draw.choice((1, 3, 40, 127, 128, 129, 500)) for _ in range(8)]
    rows = [TokenSequence([0] * (300 + n + 1), 300) for n in own]
    pack = collate(rows, prefix=shared).padded(0 if window else 2500)
    segments, positions = pack.segment_ids, pack.position_ids
    mask = flex_layout_of(pack, (window,)).masks[window]
    i, j = torch.meshgrid(*(2 * [torch.arange(pack.tokens)]), indexing="ij")
    rule = mask.mask_mod(None, None, i, j)
    distance = positions[:, None] - positions[None, :]
    expected = ((segments[:, None] == segments[None, :]) | (segments[None, :] < 0)) & (i >= j)
    expected &= distance < (window or 1 << 30)
    assert torch.equal(rule, expected)
    count = -(-pack.tokens // BLOCK)
    more = count * BLOCK - pack.tokens
    blocks, filled = (
        nn.functional.pad(expected, (0, more, 0, more), value=beyond)
        .view(count, BLOCK, count, BLOCK).permute(0, 2, 1, 3).flatten(2)
        for beyond in (False, True)
    )  # fmt: skip
    partial, whole = _dense(mask.kv_num_blocks, mask.kv_indices), _dense(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert not (partial & whole).any()
    assert filled[whole].all(), "a block taken as whole has a pair that must not see each other"
    assert (blocks.any(-1) <= (partial | whole)).all(), "a block that holds something is left out"
    if window is None:
        assert torch.equal(blocks.any(-1), partial | whole), "a block that holds nothing is visited"
    assert mask.kv_indices.dtype == torch.int32 and mask.kv_indices.numel() == count**2


@pytest.mark.parametrize("window", [None, 4])
def test_flash_attention_by_torch_is_masked_attention(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel needs a GPU: a function that takes its arguments as its documentation has them stands in."""
    from torch.nn.attention import varlen

    def row_by_row(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):  # type: ignore[no-untyped-def]
        assert enable_gqa and window_size[1] == 0 and max_q == max_k >= cu_seq_q.diff().max()
        parts = []
        for start, stop in zip(cu_seq_q.tolist(), cu_seq_k.tolist()[1:], strict=False):
            allowed = torch.ones(stop - start, stop - start, dtype=torch.bool).tril()
            allowed = allowed if window_size[0] < 0 else allowed.triu(-window_size[0])
            one = (x[start:stop].transpose(0, 1)[None] for x in (q, k, v))
            out = nn.functional.scaled_dot_product_attention(*one, attn_mask=allowed, scale=scale, enable_gqa=True)
            parts.append(out[0].transpose(0, 1))
        return torch.cat(parts)

    assert {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen.varlen_attn).parameters)
    monkeypatch.setattr(varlen, "varlen_attn", row_by_row)
    pack = _pack(0, 20)
    q, k, v = (torch.randn(1, heads, pack.tokens, 16) for heads in (4, 2, 2))
    attention = Attention(kernel=Kernel.FLASH, reason="", shares_prefix=False, flash="torch")
    layout = attention_arguments(attention, pack)["pack_layout"]
    out, _ = packed_attention(nn.Module(), q, k, v, None, pack_layout=layout, scaling=0.4, sliding_window=window)
    torch.testing.assert_close(out[0], _written_out(q, k, v, pack, 0.4, window, None, None), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [Kernel.FLEX, Kernel.SDPA])
def test_padding_changes_nothing(
    make_model: Make, rows: list[TokenSequence], prefix: int, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gemma3-sliding").eval()
    attention = choose_attention(model)
    pack = collate(rows, prefix=prefix)
    with torch.no_grad():
        expected = hidden_states(model, pack, attention)
        padded = replace(attention, kernel=kernel, pad_to=128)
        sizes: list[int] = []
        model.base_model.register_forward_pre_hook(
            lambda _, args, kwargs: sizes.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        torch.testing.assert_close(hidden_states(model, pack, padded), expected, rtol=1e-4, atol=1e-5)
    assert sizes == [128]


def test_groups_hold_little_padding_and_every_token_once() -> None:
    draw = random.Random(0)
    rows = [TokenSequence(list(range(draw.randrange(2, 90))), 1) for _ in range(60)]
    pack = collate(rows)
    layout = layout_of(pack)
    assert sum(n * length for n, length in layout.groups) == len(layout.gather)
    assert len(layout.gather) <= pack.tokens / (1 - WASTE)
    assert layout.gather[layout.scatter].tolist() == list(range(pack.tokens))
    assert sum(n for n, _ in layout.groups) == sum(1 for n in pack.lengths if n)


def test_equal_rows_are_one_group_without_padding() -> None:
    layout = layout_of(collate([TokenSequence([1, 2, 3, 4], 1)] * 6))
    assert layout.groups == ((6, 3),) and len(layout.gather) == 18


def test_the_choice_is_logged_with_its_reason(make_model: Make, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("llama")
    with caplog.at_level(logging.INFO):
        attention = choose_attention(model)
    assert attention.kernel is Kernel.SDPA and attention.shares_prefix and attention.packs
    assert "sdpa, prefix shared (no GPU" in caplog.text
    assert model.config._attn_implementation == NAME
    assert not choose_attention(model, share_prefix=False).shares_prefix


@pytest.mark.parametrize("wanted", [Kernel.FLASH, Kernel.FLEX])
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_gpu_kernels_are_refused_without_a_gpu(make_model: Make, wanted: Kernel) -> None:
    with pytest.raises(ConfigError, match=f"attention={wanted.value} needs a GPU.*use attention=auto"):
        choose_attention(make_model("llama"), wanted)


@pytest.mark.parametrize(
    ("build", "half", "share", "saved", "kernel", "reason"),
    [
        ("torch", True, True, 0.3, Kernel.FLEX, "a shared prefix saves 30% of the tokens"),
        ("torch", True, True, 0.09, Kernel.FLASH, "by torch"),
        ("flash_attention_3", True, False, 0.3, Kernel.FLASH, "by flash_attention_3"),
        ("flash_attention_2", False, True, 0.09, Kernel.FLEX, "computes in half precision alone"),
        ("", True, True, 0.0, Kernel.FLEX, "needs the flash-attn package"),
    ],
)
def test_on_a_gpu_the_choice_is_by_what_a_prefix_saves_and_what_is_there(
    build: str, half: bool, share: bool, saved: float, kernel: Kernel, reason: str, make_model: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = _as_on_gpu(make_model("llama"), monkeypatch, build)
    attention = choose_attention(model, share_prefix=share, half=half, saved=saved)
    assert attention.kernel is kernel and reason in attention.reason
    assert attention.flash == (build if kernel is Kernel.FLASH else "")


def test_a_gpu_before_ampere_has_no_flash_attention(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = choose_attention(_as_on_gpu(make_model("llama"), monkeypatch, "torch", 7), half=True, saved=0.0)
    assert attention.kernel is Kernel.FLEX and "compute capability 8" in attention.reason


def test_flash_attention_in_fp32_is_refused_with_the_setting(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _as_on_gpu(make_model("llama"), monkeypatch, "flash_attention_2")
    with pytest.raises(ConfigError, match=r"attention=flash computes in half.*trainer\.precision=bf16.*attention=auto"):
        choose_attention(model, Kernel.FLASH)


@pytest.mark.parametrize(
    ("family", "windows"),
    [("llama", (None,)), ("mistral-sliding", (6,)), ("qwen2-sliding", (None, 5)), ("gemma3-sliding", (6, None))],
)
def test_the_windows_of_a_models_layers(family: str, windows: tuple[int | None, ...], make_model: Make) -> None:
    assert choose_attention(make_model(family)).windows == windows


def test_a_model_that_cannot_keep_rows_apart_runs_unpacked(rows: list[TokenSequence]) -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=1, state_size=4))
    attention = choose_attention(model)
    assert attention.kernel is Kernel.UNPACKED and not attention.shares_prefix
    assert "MambaForCausalLM does not take its attention from transformers' registry" in attention.reason
    with pytest.raises(ConfigError, match="attention=sdpa cannot be used: MambaForCausalLM"):
        choose_attention(model, Kernel.SDPA)


def test_layers_of_another_kind_are_seen(make_model: Make) -> None:
    model = make_model("qwen3")
    model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    assert "layers of kind linear_attention" in choose_attention(model).reason


def test_unpacked_gives_the_same_states(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("gemma3-sliding").eval()
    pack = collate(rows)
    with torch.no_grad():
        packed = hidden_states(model, pack, choose_attention(model))
        one_by_one = Attention(kernel=Kernel.UNPACKED, reason="asked for", shares_prefix=False)
        model.set_attn_implementation("eager")
        torch.testing.assert_close(packed, hidden_states(model, pack, one_by_one), rtol=1e-4, atol=1e-5)


def test_flash_attention_is_told_the_rows_bounds(rows: list[TokenSequence]) -> None:
    attention = Attention(kernel=Kernel.FLASH, reason="", shares_prefix=False, flash="flash_attention_3")
    arguments = attention_arguments(attention, collate(rows[:3]))
    assert arguments["cu_seq_lens_q"].tolist() == arguments["cu_seq_lens_k"].tolist() == [0, 7, 18, 36]
    assert arguments["cu_seq_lens_q"].dtype == torch.int32
    assert arguments["max_length_q"] == arguments["max_length_k"] == 32


def test_a_pack_with_a_shared_prefix_needs_a_kernel_that_shares(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama")
    pack = collate(rows, prefix=prefix)
    for kernel in (Kernel.FLASH, Kernel.UNPACKED):
        with pytest.raises(ValueError, match="prefix"):
            hidden_states(model, pack, Attention(kernel=kernel, reason="", shares_prefix=False))


def test_a_model_that_drops_the_layout_is_refused(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    attention = choose_attention(model)

    def forgetful(*args, pack_layout=None, **kwargs):  # type: ignore[no-untyped-def]
        return packed_attention(*args, **kwargs)

    AttentionInterface.register("forgetful", forgetful)
    model.set_attn_implementation("forgetful")
    with pytest.raises(RuntimeError, match="LlamaAttention did not receive the pack's layout"):
        hidden_states(model, collate(rows), attention)


def test_plain_batches_and_generation_go_on_working(make_model: Make) -> None:
    model = make_model("qwen2").eval()
    ids = torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 7]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        model.set_attn_implementation("sdpa")
        expected = model(input_ids=ids, attention_mask=mask).logits
        words = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
        choose_attention(model)
        torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, expected)
        again = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert torch.equal(words, again)


def test_gradient_checkpointing_changes_nothing(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("mistral-sliding")
    attention = choose_attention(model)
    pack = collate(rows, prefix=prefix)
    hidden_states(model, pack, attention).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    hidden_states(model, pack, attention).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name])


def _as_on_gpu(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, build: str, capability: int = 9
) -> PreTrainedModel:
    on_gpu = SimpleNamespace(is_cuda=True, dtype=torch.float32, device="cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    monkeypatch.setattr(model, "parameters", lambda: iter([on_gpu]))
    monkeypatch.setattr(model, "set_attn_implementation", lambda name: None)
    monkeypatch.setattr(attention_module, "flash_implementation", lambda: build)
    return model


def _dense(counts: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(indices.shape[2:], dtype=torch.bool)
    for row, (count, order) in enumerate(zip(counts.flatten().tolist(), indices[0, 0].tolist(), strict=True)):
        found[row, order[:count]] = True
    return found


def _pack(shared: int, longest: int) -> Pack:
    draw = random.Random(4)
    head = [draw.randrange(50) for _ in range(5)]
    own = (1, 3, longest, 12, 12, 11, longest - 1)
    return collate([TokenSequence(head + [draw.randrange(50) for _ in range(n)], 5) for n in own], prefix=shared)


def _written_out(q, k, v, pack, scale, window, softcap, s_aux):  # type: ignore[no-untyped-def]
    """[T, H, D] by a dense mask over the whole pack."""
    segments, positions = pack.segment_ids, pack.position_ids
    distance = positions[:, None] - positions[None, :]
    allowed = ((segments[:, None] == segments[None, :]) | (segments[None, :] < 0)) & (distance >= 0)
    if window is not None:
        allowed &= distance < window
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = q @ k.transpose(2, 3) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~allowed, float("-inf"))
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.view(1, -1, 1, 1).expand(1, -1, pack.tokens, 1)], dim=-1)
    weights = scores.softmax(-1)[..., : pack.tokens]
    return (weights @ v)[0].transpose(0, 1)
