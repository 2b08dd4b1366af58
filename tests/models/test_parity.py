"""The parity gate holds for every family that is trained on packs, and fails when a pack's rows see each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from sq.data.collate import collate
from sq.domains.arithmetic import ArithmeticDomain
from sq.models import parity
from sq.models.attention import Kernel, choose_attention
from sq.models.load import ModelConfig, load_model, load_tokenizer
from sq.models.pack import Pack, TokenSequence
from sq.models.parity import ParityCheck, ParityError, ParityReport, check_parity, fp32_products

Make = Callable[[str], PreTrainedModel]
TINY = ModelConfig(name="tiny", path="package:tiny")
PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.bmm)


def test_packed_is_unpacked(make_model: Make, rows: list[TokenSequence], prefix: int, family: str) -> None:
    model = make_model(family)
    attention = choose_attention(model)
    report = check_parity(model, rows, attention, collate, prefix=prefix)
    assert [c.name for c in report.checks] == ["packed", "packed, prefix of 7 tokens shared"]
    assert report.passed, report.describe()
    assert max(c.worst_error for c in report.checks) < 1e-5, report.describe()
    assert max(c.loss_error for c in report.checks) < 1e-6, report.describe()


class TF32(TorchDispatchMode):
    """Products as a GPU's TF32 makes them: of operands rounded to 10 bits, where fp32's precision is not "highest"."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCTS and torch.get_float32_matmul_precision() != "highest":
            args = [(a.contiguous().view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32) for a in args]
        return func(*args, **(kwargs or {}))


def test_products_of_the_gate_are_fp32_where_those_of_training_are_tf32(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama")
    attention = choose_attention(model)
    with fp32_products("high"), TF32():
        rough = model(input_ids=torch.tensor([[1, 2, 3]])).logits
        report = check_parity(model, rows, attention, collate, prefix=prefix)
        assert torch.get_float32_matmul_precision() == "high"
    assert report.passed, report.describe()
    assert not torch.allclose(rough, model(input_ids=torch.tensor([[1, 2, 3]])).logits, rtol=1e-5)


@pytest.mark.parametrize("leaking", ["llama", "gpt-neox"])
def test_it_fails_when_attention_leaks_between_rows(make_model: Make, rows: list[TokenSequence], leaking: str) -> None:
    model = make_model(leaking)
    attention = choose_attention(model)
    AttentionInterface.register("leaky", _leaky)
    model.set_attn_implementation("leaky")
    report = check_parity(model, rows, attention, collate)
    assert not report.passed
    assert report.checks[0].gradient_error > 0.1
    with pytest.raises(ParityError, match=r"FAILS.*\n.*packed: loss .*\n.*attention=unpacked"):
        report.require()


def test_it_fails_when_positions_run_on(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("llama")
    attention = choose_attention(model)

    def runs_on(wanted: list[TokenSequence], prefix: int) -> Pack:
        pack = collate(wanted, prefix=prefix)
        pack.position_ids[:] = torch.arange(pack.tokens)
        return pack

    # Rotary positions are relative: shifting a whole row changes nothing, so only the shared prefix shows it.
    assert not check_parity(model, rows, attention, runs_on, prefix=prefix).passed


def test_it_fails_when_the_end_token_is_not_supervised(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama")
    attention = choose_attention(model)
    longer = [r for r in rows if len(r.ids) > prefix + 1]

    def endless(wanted: list[TokenSequence], prefix: int) -> Pack:
        return collate([TokenSequence(r.ids[:-1], r.start) for r in wanted], prefix=prefix)

    assert not check_parity(model, longer, attention, endless).passed


def test_it_fails_on_nan(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    assert not check_parity(model, rows, choose_attention(model), collate).passed


@pytest.mark.parametrize("name", ["loss_error", "gradient_error", "worst_error"])
@pytest.mark.parametrize("value", [0.02, 0.6, float("nan")])
def test_each_error_alone_fails_it(name: str, value: float) -> None:
    sound = {"loss_error": 0.0, "gradient_error": 0.0, "worst_error": 0.0}
    passes = []
    for errors in (sound, sound | {name: value}):
        check = ParityCheck(name="packed", loss=1.0, expected=1.0, worst="weight", **errors)
        passes.append(ParityReport(checks=(check,), rtol=0.01, dtype="float32", rows=2, kernel="sdpa").passed)
    assert passes == [True, name == "worst_error" and value == 0.02]


@pytest.mark.parametrize(
    ("loss", "error", "passes"),
    [(0.8, 4e-5, False), (0.002, 4e-5, True), (0.002, 2e-4, False), (1e-9, 0.005, True), (1e-9, 0.02, False)],
)
def test_a_small_loss_is_held_to_what_fp32_can_tell(loss: float, error: float, passes: bool) -> None:
    errors = {"loss_error": error, "gradient_error": error, "worst_error": error}
    check = ParityCheck(name="packed", loss=loss, expected=loss, worst="weight", **errors)
    assert ParityReport(checks=(check,), rtol=1e-5, dtype="float32", rows=2, kernel="sdpa").passed is passes


def test_it_leaves_the_model_as_it_was(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    model = make_model("qwen3")
    attention = choose_attention(model)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    kernel = model.config._attn_implementation
    check_parity(model, rows, attention, collate, prefix=prefix)
    assert model.training and model.config._attn_implementation == kernel
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())


def test_a_model_in_half_precision_is_checked_as_an_fp32_copy(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama").to(torch.bfloat16)
    report = check_parity(model, rows, choose_attention(model), collate, prefix=prefix)
    assert report.passed and report.dtype == "float32" and report.rtol == 1e-5
    assert model.dtype == torch.bfloat16


@pytest.fixture(scope="module")
def trained_rows() -> list[TokenSequence]:
    """Six problems with solutions, for the tiny model that comes with the package, behind the prefix of a question."""
    tokenizer = load_tokenizer(TINY)
    prefix = tokenizer.encode("<|im_start|>user\n", add_special_tokens=False)
    texts = [f"{seed['question']} {seed['solution']}" for seed in ArithmeticDomain().seeds(6, 0)]
    rows = [[*prefix, *tokenizer.encode(text, add_special_tokens=False)] for text in texts]
    return [TokenSequence(ids, len(prefix)) for ids in rows]


def _rows_moved(pack: Pack) -> Pack:
    first, *middle, last = pack.lengths
    return replace(pack, lengths=(first + 1, *middle, last - 1))


FAULTS: dict[str, Callable[[Pack], Pack]] = {
    "none": lambda pack: pack,
    "a row sees the one before it": lambda pack: replace(pack, lengths=(sum(pack.lengths[:2]), *pack.lengths[2:])),
    "rows end a token late": _rows_moved,
    "positions behind the prefix are one too far": lambda pack: replace(
        pack, position_ids=pack.position_ids + (torch.arange(pack.tokens) >= pack.prefix)
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_in_half_precision_rounding_passes_and_faults_do_not(
    fault: str, trained_rows: list[TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "COPY_LIMIT", 0)
    model = load_model(TINY, dtype="bfloat16")

    def faulty(rows: list[TokenSequence], prefix: int) -> Pack:
        return FAULTS[fault](collate(rows, prefix=prefix))

    report = check_parity(model, trained_rows, choose_attention(model), faulty, prefix=trained_rows[0].start)
    assert report.dtype == "bfloat16" and report.rtol == 0.05
    assert report.passed is (fault == "none"), report.describe()
    if fault == "none":
        assert max(check.gradient_error for check in report.checks) < 0.02, report.describe()


@pytest.fixture(scope="module")
def overfitted() -> PreTrainedModel:
    """To six rows of random tokens, until their gradients cancel: what is left of them in bf16 is rounding."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))
    ids, optimizer = torch.randint(1, 256, (6, 40)), torch.optim.AdamW(model.parameters(), 3e-3)
    ids[:, :5] = ids[0, :5]
    for _ in range(120):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.rows = [TokenSequence(row.tolist(), 5) for row in ids]
    return model.to(torch.bfloat16)


@pytest.mark.parametrize("fault", FAULTS)
def test_gradients_that_cancel_are_held_to_what_rounding_does_to_them(
    fault: str, overfitted: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "COPY_LIMIT", 0)

    def faulty(rows: list[TokenSequence], prefix: int) -> Pack:
        return FAULTS[fault](collate(rows, prefix=prefix))

    report = check_parity(overfitted, overfitted.rows, choose_attention(overfitted), faulty, prefix=5)
    assert report.passed is (fault == "none"), report.describe()
    if fault == "none":
        assert max(check.gradient_error for check in report.checks) > parity.HALF_RTOL, report.describe()
    assert not any(module._forward_hooks for module in overfitted.modules())


def test_frozen_weights_are_left_out(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    report = check_parity(model, rows, choose_attention(model), collate)
    assert report.passed and "layers.1" in report.checks[0].worst
    with pytest.raises(ParityError, match="needs trainable parameters"):
        check_parity(model.requires_grad_(False), rows, choose_attention(model), collate)


def test_rows_of_a_regression_are_compared_by_their_own_tokens(
    make_model: Make, rows: list[TokenSequence], prefix: int
) -> None:
    model = make_model("llama")
    plain = [TokenSequence(row.ids, len(row.ids)) for row in rows]
    report = check_parity(model, plain, choose_attention(model), collate, prefix=prefix)
    assert report.passed and len(report.checks) == 2 and report.checks[0].loss > 0


def test_one_row_proves_nothing(make_model: Make, rows: list[TokenSequence]) -> None:
    model = make_model("llama")
    with pytest.raises(ParityError, match="at least two rows, got 1"):
        check_parity(model, rows[:1], choose_attention(model), collate)


def test_unpacked_is_in_parity_too(make_model: Make, rows: list[TokenSequence], prefix: int) -> None:
    for family in ("mistral-sliding", "gemma2-sliding-capped"):
        model = make_model(family)
        attention = choose_attention(model, Kernel.UNPACKED)
        report = check_parity(model, rows, attention, collate, prefix=prefix)
        assert report.passed and len(report.checks) == 1


def test_a_model_that_cannot_pack_trains_unpacked(rows: list[TokenSequence], prefix: int) -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=2, state_size=4))
    report = check_parity(model, rows, choose_attention(model), collate, prefix=prefix)
    assert report.passed and report.kernel == "unpacked", report.describe()


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [Kernel.SDPA, Kernel.FLEX, Kernel.FLASH])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_packed_is_unpacked_on_a_gpu(make_model: Make, rows: list[TokenSequence], prefix: int, kernel: Kernel) -> None:
    model = make_model("qwen3-wide").cuda()
    if kernel is Kernel.FLASH:
        pytest.importorskip("flash_attn")
        model = model.to(torch.bfloat16)
    attention = choose_attention(model, kernel)
    report = check_parity(model, rows, attention, collate, prefix=prefix)
    assert report.passed, report.describe()


def _leaky(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """Stock SDPA without a mask: causal over the whole pack."""
    return sdpa_attention_forward(module, query, key, value, None, scaling=kwargs["scaling"])  # type: ignore[arg-type]
