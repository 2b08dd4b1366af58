"""Loading and export: where models are found, what is refused, and that what is written is what is loaded."""

import json
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file

from sq.core.errors import ConfigError
from sq.core.hub import check_hub
from sq.models.export import export
from sq.models.load import (
    Dtype,
    ModelConfig,
    computed_in,
    context_length,
    fingerprint,
    load_model,
    load_tokenizer,
    locate,
)


def config(path, **more):
    return ModelConfig(name="m", path=str(path), **more)


def test_a_model_is_found_by_directory_package_or_hub_id(random_tiny):
    assert locate(config(random_tiny)) == str(random_tiny)
    assert locate(config("someone/a-model")) == "someone/a-model"
    with pytest.raises(ConfigError, match="no such model in the package, which has .*tiny"):
        locate(config("package:tinny"))
    with pytest.raises(ConfigError, match=r"model\.path='\./nowhere' is no directory"):
        locate(config("./nowhere"))


def test_what_is_no_model_is_told_with_the_path_and_the_choices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be loaded from .* or choose one of model=.*tiny"):
        load_model(config("."))


def test_without_the_hub_its_name_is_told_with_what_needs_no_network(tmp_path, monkeypatch, request):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # which was read when it was imported
    monkeypatch.chdir(tmp_path)
    check_hub.cache_clear()
    request.addfinalizer(check_hub.cache_clear)
    with pytest.raises(ConfigError, match=r"no directory no/tokenizer, .* cannot be asked.*hf download.*model=tiny"):
        load_tokenizer(config("no/tokenizer"))


def test_a_directory_without_a_tokenizer_is_told_with_what_is_missing(random_tiny, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(random_tiny / name, tmp_path / name)
    with pytest.raises(
        ConfigError, match=rf"{tmp_path} has no tokenizer: none of tokenizer\.json.*model\.tokenizer=DIR"
    ):
        load_tokenizer(config(tmp_path))


def test_weights_other_than_safetensors_are_refused(random_tiny, tmp_path):
    for file in random_tiny.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path / file.name)
    torch.save(load_model(config(random_tiny)).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(config(tmp_path))


def test_an_export_loads_to_the_same_logits_and_says_where_it_comes_from(random_tiny, tmp_path):
    model, tokenizer = load_model(config(random_tiny), dtype="float32"), load_tokenizer(config(random_tiny))
    where = export(model, tokenizer, tmp_path / "model", origin={"stage": "sft", "seed": 3})
    ids = torch.arange(5, 40)[None]
    again = load_model(config(where))
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert json.loads((where / "sq.json").read_text()) == {"stage": "sft", "seed": 3}
    assert load_tokenizer(config(where)).chat_template == tokenizer.chat_template
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing half-made stays behind"
    size = (where / "model.safetensors").stat().st_size
    assert size < 4.1 * sum(p.numel() for p in model.parameters()), "tied weights are written once"


def test_an_export_takes_the_place_of_an_earlier_one_and_may_be_smaller(random_tiny, tmp_path):
    model, tokenizer = load_model(config(random_tiny), dtype="float32"), load_tokenizer(config(random_tiny))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_text("x")
    where = export(model, tokenizer, tmp_path / "model", dtype="bfloat16", origin={})
    assert not (where / "old.txt").exists()
    assert load_model(config(where)).dtype == torch.bfloat16
    assert load_model(config(where), dtype="float32").dtype == torch.float32


def test_an_export_holds_a_file_of_weights_at_a_time(random_tiny, tmp_path, monkeypatch):
    """The weights come in fp32 one by one, as from shards, and leave in bf16 in several files."""
    model, tokenizer = load_model(config(random_tiny), dtype="float32"), load_tokenizer(config(random_tiny))
    held, most = {}, 0

    def stream():
        nonlocal most
        for name, tensor in model.state_dict().items():
            tensor = tensor.clone()
            held[name] = weakref.ref(tensor)
            yield name, tensor
            del tensor
            most = max(most, sum(ref() is not None for ref in held.values()))

    monkeypatch.setattr("sq.models.export.FILE_BYTES", 300_000)
    where = export(model, tokenizer, tmp_path / "model", dtype="bfloat16", origin={}, state=stream())
    assert most <= 1, "no weight stays in the format it came in"
    files = sorted(where.glob("*.safetensors"))
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in files]
    largest = max(2 * p.numel() for p in model.parameters())
    assert len(files) > 5 and all(size <= max(300_000, largest) for size in sizes)
    again = load_model(config(where))
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].bfloat16())


@pytest.mark.parametrize(
    ("own", "asked", "device", "computed"),
    [
        (Dtype.AUTO, "auto", "cpu", "float32"),
        (Dtype.AUTO, "auto", "cuda", "bfloat16"),
        (Dtype.BF16, "auto", "cpu", "float32"),
        (Dtype.BF16, "auto", "cuda", "bfloat16"),
        (Dtype.BF16, "bfloat16", "cpu", "bfloat16"),
        (Dtype.FP16, "auto", "cpu", "float16"),
        (Dtype.AUTO, "bfloat16", "cpu", "bfloat16"),
        (Dtype.FP16, "float32", "cuda", "float32"),
    ],
)
def test_engines_compute_in_fp32_on_a_processor_without_bf16_unless_told(monkeypatch, own, asked, device, computed):
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: False)
    assert computed_in(config("package:tiny-other", dtype=own), asked, device) == computed
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: True)
    for written in (Dtype.AUTO, Dtype.BF16):
        assert computed_in(config("package:tiny-other", dtype=written), "auto", "cpu") == "bfloat16"


def test_a_fingerprint_is_of_the_content_alone(random_tiny, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(random_tiny, copy)
    assert fingerprint(config(copy)) == fingerprint(config(random_tiny))
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fingerprint(config(copy)) != fingerprint(config(random_tiny))


def test_a_hub_models_fingerprint_is_of_its_commit(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--a--b"
    for commit in ("1" * 40, "2" * 40):
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "config.json").write_text("{}")
    (cache / "refs").mkdir()
    for name, commit in {"main": "1" * 40, "v2": "1" * 40}.items():
        (cache / "refs" / name).write_text(commit)
    first = fingerprint(config("a/b"))
    assert fingerprint(config("a/b", revision="v2")) == fingerprint(config("a/b", revision="1" * 40)) == first
    (cache / "refs" / "main").write_text("2" * 40)
    assert fingerprint(config("a/b")) == fingerprint(config("a/b", revision="2" * 40)) != first
    assert fingerprint(config("a/b", revision="v2")) == first
    with pytest.raises(ConfigError, match=r"model\.path='a/c': its config cannot be loaded"):
        fingerprint(config("a/c"))


def test_code_from_a_model_runs_only_where_it_is_said(random_tiny, tmp_path):
    copy = tmp_path / "remote"
    shutil.copytree(random_tiny, copy)
    told = json.loads((copy / "config.json").read_text())
    told |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (copy / "config.json").write_text(json.dumps(told))
    (copy / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(config(copy))
    assert not (tmp_path / "ran").exists()


def test_a_longer_context_is_given_to_rotary_positions_alone(tmp_path):
    longer = ModelConfig(name="tiny", path="package:tiny", positions=2048)
    assert context_length(ModelConfig(name="tiny", path="package:tiny")) == 1024 and context_length(longer) == 2048
    assert context_length(ModelConfig(name="tiny", path="package:tiny", max_length=100)) == 100
    model = load_model(longer, dtype="float32")
    assert model.config.max_position_embeddings == 2048
    ids = torch.arange(1500).reshape(1, -1) % 900
    with torch.no_grad():
        again = load_model(ModelConfig(name="tiny", path="package:tiny"), dtype="float32")(ids[:, :1000]).logits
        torch.testing.assert_close(model(ids).logits[:, :1000], again, rtol=1e-4, atol=1e-4)
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=64, n_positions=32)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no rotary positions"):
        load_model(ModelConfig(name="old", path=str(tmp_path), positions=64))
