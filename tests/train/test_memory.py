"""What training holds in memory: weights in one process of several, activations of some layers."""

from __future__ import annotations

import json
import multiprocessing
import socket
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig
from transformers.models.auto import auto_factory

from sq.core.errors import ConfigError
from sq.data.collate import collate
from sq.models.attention import choose_attention
from sq.models.load import ModelConfig, empty_model, load_model
from sq.models.pack import TokenSequence
from sq.models.packed_forward import pack_loss
from sq.train.config import Precision
from sq.train.model import checkpoint_layers, trainable_model
from sq.train.shard import ShardStrategy, decoder_layers, lay_out_as_first, shard


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("adapters", [0, 2])
def test_with_fsdp_the_first_process_alone_holds_weights(rank, adapters, job, monkeypatch):
    made = job("qft", "trainer.strategy=fsdp", "trainer.devices=2", f"trainer.lora.rank={adapters}")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    rows = SimpleNamespace(longest=20, train=None, saved_by_sharing=lambda: 1.0, common_prefix=lambda: 0)
    trained = trainable_model(made.model, made.trainer, made.stage, tokenizer=None, rows=rows, seed=0, weights="")
    held = {*trained.model.parameters(), *trained.model.buffers()}
    assert {t.is_meta for t in held} == {rank > 0}
    whole = load_model(made.model).state_dict()
    names = {name.replace(".base_layer", ""): t.shape for name, t in trained.model.state_dict().items()}
    assert {n: s for n, s in names.items() if "lora_" not in n} == {n: t.shape for n, t in whole.items()}
    assert trained.attention.shares_prefix


def test_only_the_first_process_passes_the_parity_gate_of_a_model_in_shards(job, monkeypatch):
    made = job("qft", "trainer.strategy=fsdp", "trainer.devices=2", "trainer.parity_check=true")
    passed = []
    monkeypatch.setattr("sq.train.model.check_parity_gate", lambda model, *args, **more: passed.append(model.device))
    rows = SimpleNamespace(longest=20, train=None, saved_by_sharing=lambda: 1.0, common_prefix=lambda: 0)
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        trainable_model(made.model, made.trainer, made.stage, tokenizer=None, rows=rows, seed=0, weights="")
    assert passed == [torch.device("cpu")]


def test_weights_that_the_files_hold_apart_are_apart_in_every_process(tiny_model, monkeypatch):
    """Its config ties them; the first process has found two, and would send one more than the others wait for."""
    sent, config = [], ModelConfig(name="tiny", path=str(tiny_model))
    first, other = load_model(config), empty_model(config)
    first.lm_head.weight = torch.nn.Parameter(first.lm_head.weight.detach().clone(), requires_grad=False)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda values, _: sent.append(values[0]))
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", lambda values, own: values.__setitem__(0, own))
    lay_out_as_first(first)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda values, _: values.__setitem__(0, sent[0]))
    assert other.lm_head.weight is other.get_input_embeddings().weight
    lay_out_as_first(other)
    told = [[(name, p.requires_grad) for name, p in model.named_parameters()] for model in (first, other)]
    assert told[0] == told[1] and told[1][-1] == ("lm_head.weight", False)


def test_a_model_with_more_positions_has_them_without_weights_too(tiny_model):
    config = ModelConfig(name="tiny", path=str(tiny_model), positions=4096)
    assert empty_model(config).config.max_position_embeddings == 4096


def _process(rank: int, port: int, path: str, answers: Any) -> None:
    """One of two processes that shard a model: its tensors and logits, and whether gradients are reduced once."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
        )
        config = ModelConfig(name="m", path=path)
        model = empty_model(config) if rank else load_model(config)
        if path.endswith("other") and rank:
            model.lm_head.weight = torch.nn.Parameter(torch.empty(3, 32, device="meta"))
        shard(model, model, None, Precision.FP32, init_device_mesh("cpu", (2,)), torch.device("cpu"))
        tensors = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
        tensors |= dict(model.named_buffers()) | {"logits": model.eval()(torch.arange(1, 13)[None]).logits.detach()}
        strategy = ShardStrategy(2)
        strategy.cluster_environment, strategy.parallel_devices = LightningEnvironment(), [torch.device("cpu")] * 2
        strategy._global_rank, strategy._model, strategy._gradients_fit = rank, model, lambda _: rank == 0
        strategy.cluster_environment.set_world_size(2)
        with strategy.block_backward_sync():
            tensors["reduced once"] = torch.tensor(float(strategy._reduce_once))
        answers.put((rank, {name: (str(t.dtype), t.double().tolist()) for name, t in tensors.items()}))
        dist.barrier()
        dist.destroy_process_group()
    except Exception as error:
        answers.put((rank, repr(error)))


def _sharded(path: Path) -> list[Any]:
    """What two processes have of the model in `path`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [fork.Process(target=_process, args=(rank, port, str(path), answers)) for rank in range(2)]
    for child in children:
        child.start()
    try:
        return [answer for _, answer in sorted(answers.get(timeout=60) for _ in children)]
    finally:
        for child in children:
            child.kill()


def _gemma3(path: Path, dtype: str | None) -> None:
    """A Gemma 3 of bf16 weights, whose config says `dtype`: its buffers are made in the format that is loaded."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    config = Gemma3TextConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(path)
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": dtype}))


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_every_process_of_a_model_in_shards_has_the_first_ones_tensors(dtype, tmp_path):
    _gemma3(tmp_path, dtype)
    whole = load_model(ModelConfig(name="m", path=str(tmp_path))).float().eval()
    expected = dict(whole.named_parameters()) | dict(whole.named_buffers())
    expected["reduced once"] = torch.tensor(0.0)  # the second process's GPU is too small
    expected["logits"] = whole(torch.arange(1, 13)[None]).logits
    first, second = _sharded(tmp_path)
    assert first == second
    assert second.keys() == expected.keys()
    for name, (_, values) in second.items():
        close = 1e-6 if name == "logits" else 0
        assert torch.allclose(torch.tensor(values).double(), expected[name].double(), rtol=0, atol=close), name


def test_models_that_differ_between_processes_are_refused_on_all(tmp_path):
    _gemma3(tmp_path / "other", None)
    first, second = _sharded(tmp_path / "other")
    assert first == second
    assert "process 1: lm_head.weight [3, 32] where process 0 has lm_head.weight [96, 32]. Give all" in first


@pytest.mark.parametrize(("share", "again"), [(1.0, [0, 1, 2, 3]), (0.75, [1, 2, 3]), (0.5, [1, 3]), (0.25, [3])])
def test_a_share_of_the_layers_is_computed_again_and_gradients_are_the_same(share, again):
    sizes = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, intermediate_size=48, max_position_embeddings=64)
    torch.manual_seed(0)
    rows = [TokenSequence([*range(3 * n, 4 * n)], 1) for n in (5, 9, 20)]

    def gradients(share):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config).train()
        attention, calls = choose_attention(model), []
        if share:
            checkpoint_layers(model, share)
        for i, layer in enumerate(decoder_layers(model)):
            layer.mlp.register_forward_pre_hook(lambda *args, i=i: calls.append(i))
        pack_loss(model, collate(rows), attention).total.backward()
        return sorted(calls), [p.grad for p in model.parameters()]

    plain, expected = gradients(0)
    calls, found = gradients(share)
    assert plain == [0, 1, 2, 3] and calls == sorted([*plain, *again])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_share_of_less_than_a_layer_is_refused_with_the_smallest():
    with pytest.raises(ConfigError, match=r"checkpointed_layers=0.3 is less than one .* 3 layers; give at least 0.334"):
        checkpoint_layers(_llama(3), 0.3)
    checkpoint_layers(_llama(3), 0.334)


def test_layers_are_those_of_the_text_decoder_though_another_list_is_longer():
    model = _llama(2)
    model.vision = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(5))
    assert decoder_layers(model) == list(model.model.layers)
    with pytest.raises(ConfigError, match="Linear has no list of layers.*gradient_checkpointing=false"):
        decoder_layers(torch.nn.Linear(1, 1))


def _llama(layers: int) -> Any:
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    return AutoModelForCausalLM.from_config(LlamaConfig(**sizes, num_hidden_layers=layers))


def test_code_of_a_models_repository_is_that_of_its_revision_without_weights_too(tmp_path, monkeypatch):
    names = {"AutoConfig": "m.Config", "AutoModelForCausalLM": "m.Model"}
    (tmp_path / "m.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\n"
        "class Config(LlamaConfig):\n    model_type = 'own-llama'\n\n\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    settings = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_attention_heads=1).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(settings | {"model_type": "own-llama", "auto_map": names}))
    asked, load = [], auto_factory.get_class_from_dynamic_module

    def watched(name: str, path: str, **kwargs: Any) -> Any:
        asked.append(kwargs.get("code_revision") or kwargs.get("revision"))
        return load(name, path, **kwargs)

    monkeypatch.setattr(auto_factory, "get_class_from_dynamic_module", watched)
    model = empty_model(ModelConfig(name="m", path=str(tmp_path), revision="v2", trust_remote_code=True))
    assert type(model).__name__ == "Model" and asked == ["v2"]


@pytest.mark.parametrize(("memory", "once"), [(4 * 4 * 110 - 1, False), (4 * 4 * 110, True)])
def test_gradients_of_a_model_in_shards_are_held_whole_where_they_fit_a_quarter(memory, once, monkeypatch):
    strategy = ShardStrategy(2)
    strategy.parallel_devices = [torch.device("cuda", 0)]
    monkeypatch.setattr(ShardStrategy, "local_rank", 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
    model = torch.nn.Linear(10, 10)
    assert strategy._gradients_fit(model) is once
    model.requires_grad_(False)
    assert strategy._gradients_fit(model)
