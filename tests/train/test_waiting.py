"""What would make a GPU wait or compile again, counted on a CPU: the operators and graphs are the same."""

from __future__ import annotations

import random
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.nn.attention.flex_attention as flex
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from sq.data.collate import collate
from sq.data.module import StepPack, prefetched
from sq.models.attention import Attention, Kernel, choose_attention
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss
from sq.train import model, progress
from sq.train.fit import fit
from sq.train.model import checkpoint_layers, compile_layers
from sq.train.module import TrainingModule
from sq.train.optim import make_optimizer, parameter_groups
from sq.train.qft import QFTStage

WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "bincount", "equal", "masked_select", "_unique2"}
"""Operators whose result's value or shape is read from the device: `.item()`, a condition, a mask as an index."""


class Waits(TorchDispatchMode):
    """Counts them by optimiser step."""

    def __init__(self) -> None:
        super().__init__()
        self.module: TrainingModule | None = None
        self.counts: Counter[tuple[int, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        if name in WAITING and self.module is not None:
            self.counts[(self.module.global_step, name)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", ["qft", "qpo", "difficulty", "reward"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_waits_for_the_device_between_logs(stage, precision, job, pairs, labels, graded, monkeypatch):
    source = {"qpo": [f"data.input={pairs}"], "difficulty": [f"data.input={labels}"]}
    source["reward"] = [f"data.input={graded}"]
    waits, own = Waits(), TrainingModule.training_step

    def noted(self, batch, index):
        waits.module = self
        return own(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    logged = []
    report = progress.TrainingProgress._report

    def reported(self, trainer, module, step):
        logged.append(step)
        waits.module = None
        report(self, trainer, module, step)

    monkeypatch.setattr(progress.TrainingProgress, "_report", reported)
    words = (
        "stage.validation=0", "stage.epochs=9", "stage.max_steps=7", "stage.batch_packs=2", "stage.batch_rows=null",
        "stage.pack_tokens=96", "trainer.log_every=4", f"trainer.precision={precision}",
    )  # fmt: skip
    with waits:
        fit(job(stage, *source.get(stage, []), *words))
    assert logged == [4, 7]
    late = {at: count for at, count in waits.counts.items() if at[0] > 0}  # QPO's start is checked in the first step
    assert not late
    assert stage == "qpo" or not waits.counts


def test_the_next_pack_is_made_and_pinned_while_one_is_trained_on():
    second = threading.Event()

    def steps():
        for i in range(3):
            if i == 1:
                second.set()
            yield StepPack(SimpleNamespace(pinned=lambda i=i: f"pinned {i}"), 1.0, i)

    packs = prefetched(steps())
    first = next(packs)
    assert second.wait(30), "made although nobody has asked for it yet"
    assert [step.pack for step in (first, *packs)] == ["pinned 0", "pinned 1", "pinned 2"]


@pytest.mark.parametrize(("kernel", "size"), [("flex", 384), ("flash", 384), ("sdpa", 0)])
@pytest.mark.parametrize("compiled", [None, True, False])
def test_packs_for_a_gpus_kernels_have_one_size_for_which_layers_are_compiled(kernel, size, compiled, job, monkeypatch):
    calls = []
    monkeypatch.setattr(model, "compile_layers", lambda _, *, dynamic: calls.append(dynamic))
    loss = SimpleNamespace(attention=Attention(kernel=Kernel(kernel), reason="", shares_prefix=False))
    trainer = job("qft", f"trainer.compile={'null' if compiled is None else compiled}").trainer
    model.fit_to_packs(None, loss, trainer, 300)
    assert loss.attention.pad_to == size
    wanted = size > 0 if compiled is None else compiled
    assert calls == ([None if size else True] if wanted else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sliding", "graphs", "checkpointing"), [(False, 1, 0), (False, 1, 1), (False, 1, 0.5), (True, 2, 0), (True, 2, 1)]
)
def test_a_step_is_one_graph_for_each_kind_of_layer_and_is_not_compiled_again(
    sliding, graphs, checkpointing, monkeypatch
):
    """FlexAttention's graph with its backward pass, which a CPU does not run as a kernel but as it is written."""
    from transformers import Gemma3TextConfig, LlamaConfig

    monkeypatch.setattr(flex, "_validate_device", lambda *args: None)
    sizes = {
        "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 512,
    }  # fmt: skip
    kinds = ["sliding_attention", "full_attention"] * 2
    config = Gemma3TextConfig(**sizes, sliding_window=6, layer_types=kinds) if sliding else LlamaConfig(**sizes)

    def losses(compiled):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).bfloat16().train()
        chosen = choose_attention(model)
        attention = Attention(kernel=Kernel.FLEX, reason="", shares_prefix=True, windows=chosen.windows).padding_to(250)
        assert attention.pad_to == 256
        if checkpointing:
            checkpoint_layers(model, checkpointing)
        if compiled:
            torch._dynamo.reset()
            counters.clear()
            compile_layers(model, dynamic=None, backend="aot_eager")
        optimizer = make_optimizer(parameter_groups(model, 0.0), QFTStage(name="qft", lr=1e-3))
        draw, found = random.Random(0), []
        for step in range(4):
            own = [draw.choices(range(97), k=draw.randrange(3, 40)) for _ in range(3 + step)]
            rows = [TokenSequence([*range(7), *ids], 7) for ids in own]
            out = pack_loss(model, collate(rows, prefix=7), attention)
            (out.total / out.count).backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(float(out.total.detach()) / out.count)
        return found

    expected = losses(compiled=False)
    assert losses(compiled=True) == pytest.approx(expected, rel=1e-3)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == graphs, "one graph, and none again for other rows, padding or layers"
