"""Lean layers give what plain ones give, in value and gradient, keep less, and leave alone what they do not know."""

import copy

import pytest
import torch
from torch import nn

from sq.models import lean
from sq.models.lean import make_lean

VOCABULARY = 97
CHANGED = {"llama": 13, "llama-tied-bias": 13, "qwen2": 13, "qwen2-sliding": 13, "qwen3": 19, "qwen3-wide": 19}
"""Blocks, attention and norms of three layers, and the last norm; Qwen3 has norms of its queries and keys too."""
CHANGED |= {"mistral-sliding": 13, "granite-scaled": 13, "gemma": 3, "gemma2-sliding-capped": 3, "gemma3-sliding": 3}
CHANGED |= {"gpt-neox": 0, "cohere-scaled": 3}


def losses(model, ids):
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def gradients(model, ids, half=False):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = losses(model, ids)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def ids():
    return torch.randint(0, VOCABULARY, (2, 19), generator=torch.Generator().manual_seed(1))


def test_every_family_computes_the_same(family, make_model, ids):
    model = make_model(family)
    loss, grads = gradients(model, ids)
    assert make_lean(model) == CHANGED[family]
    again, lean = gradients(model, ids)
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=0)
    assert lean.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(lean[name], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max()), msg=name)


@pytest.mark.parametrize("family", ["llama", "llama-tied-bias", "qwen3"])
def test_under_autocast_too(family, make_model, ids):
    model = make_model(family)
    loss, grads = gradients(model, ids, half=True)
    make_lean(model)
    again, lean = gradients(model, ids, half=True)
    torch.testing.assert_close(again, loss, rtol=1e-2, atol=0)
    for name, grad in grads.items():
        # bf16 has three digits, and its errors add up over the layers.
        assert float((lean[name] - grad).norm() / grad.norm()) < 0.05, name
        assert lean[name].dtype == grad.dtype


def test_wholly_in_half_precision(make_model, ids):
    model = make_model("llama").bfloat16()
    loss, grads = gradients(model, ids)
    make_lean(model)
    again, lean = gradients(model, ids)
    torch.testing.assert_close(again, loss, rtol=2e-3, atol=0)  # a rotation rounds once where it rounded three times
    assert all(float((lean[n].float() - g.float()).norm() / g.float().norm()) < 0.05 for n, g in grads.items())


def test_gradients_are_right_by_differences():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    block = LlamaMLP(LlamaConfig(hidden_size=6, num_attention_heads=2, intermediate_size=10, mlp_bias=True)).double()
    assert make_lean(block) == 1
    x = torch.randn(2, 3, 6, dtype=torch.double, requires_grad=True)
    weights = list(block.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (x, *weights))


def test_less_is_kept_for_the_backward_pass(make_model, ids):
    def kept(model):
        seen = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: seen.update({t.data_ptr(): t.nbytes}) or t, lambda t: t
        ):
            losses(model, ids)
        own = {p.data_ptr() for p in model.parameters()}
        return sum(size for place, size in seen.items() if place not in own)

    model = make_model("llama")
    plain = kept(model)
    make_lean(model)
    assert kept(model) < 0.85 * plain


def test_a_copy_is_a_model_of_its_own(make_model, ids):
    model = make_model("llama")
    make_lean(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert twin.model.layers[0].mlp.forward.__self__ is twin.model.layers[0].mlp
    assert float(gradients(twin, ids)[1]["model.layers.0.mlp.up_proj.weight"].norm()) > 0


def test_what_only_looks_alike_is_left_alone():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)
            self.act_fn = nn.SiLU()

        def forward(self, x):
            return 2 * self.down_proj(self.act_fn(self.gate_proj(x)).mul(self.up_proj(x)))

    assert make_lean(Doubled()) == 0


def test_a_block_with_adapters_is_left_alone_and_the_others_are_not(make_model, ids):
    model = make_model("llama")
    model.model.layers[0].mlp.down_proj = nn.Sequential(model.model.layers[0].mlp.down_proj)
    assert make_lean(model) == CHANGED["llama"] - 1


def test_only_the_changed_model_rotates_in_the_new_way(make_model):
    from transformers.models.llama import modeling_llama

    model, other = make_model("llama"), make_model("llama")
    plain = modeling_llama.apply_rotary_pos_emb
    make_lean(model)
    assert modeling_llama.apply_rotary_pos_emb is plain
    assert "forward" not in vars(other.model.layers[0].self_attn)
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 1, 5, 8)
    cos, sin = torch.randn(1, 5, 8), torch.randn(1, 5, 8)  # halves that differ: neither is taken for the other
    q.requires_grad_()
    expected, expected_k = plain(q, k, cos, sin)
    found, found_k = lean._rotate(q, k, cos, sin)
    torch.testing.assert_close((found, found_k), (expected, expected_k))
    pull = torch.randn_like(q)
    slopes = [torch.autograd.grad((x * pull).sum(), q)[0] for x in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_with_a_frozen_weight_only_what_is_wanted_is_computed(make_model, ids):
    model = make_model("llama")
    for name, p in model.named_parameters():
        p.requires_grad = "gate_proj" in name
    _, grads = gradients(model, ids)
    make_lean(model)
    _, lean = gradients(model, ids)
    assert lean.keys() == grads.keys() and all("gate_proj" in name for name in lean)
    for name, grad in grads.items():
        torch.testing.assert_close(lean[name], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max()), msg=name)
