"""What decides an engine's results is part of a stage's identity: every field of every engine's config, by name."""

import json
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import pytest
import yaml

from sq.core.config import conf_dir, load_target, setting
from sq.engine.config import EngineConfig
from sq.engine.hf import HFConfig
from sq.engine.vllm import VLLMConfig
from sq.models.load import Dtype, ModelConfig

TINY = ModelConfig(name="tiny", path="package:tiny-other")  # in bf16
COUNTED = {
    "HFConfig": {"dtype", "max_model_len"},
    "OpenAIConfig": {"served", "ids", "extra", "omit", "seed_bits"},
    "OracleConfig": {"domain", "role", "error_rate"},
    "VLLMConfig": {"dtype", "max_model_len", "quantization", "lora", "args", "seeds"},
}
"""Fields that decide what is generated. A new field goes here, or with a reason into its class's `ignored_fields`."""


def engines():
    paths = {yaml.safe_load(file.read_text())["_target_"] for file in (conf_dir() / "engine").glob("*.yaml")}
    return sorted({load_target(path) for path in paths}, key=lambda kind: kind.__name__)


def ignored(kind):
    return {name: why for base in kind.__mro__ for name, why in vars(base).get("ignored_fields", {}).items()}


def other(config, field, tmp_path):
    """Another value of the field than `config` has."""
    value = getattr(config, field.name)
    if field.name == "lora":
        (tmp_path / "adapter_config.json").write_text('{"r": 4}')
        (tmp_path / "adapter_model.safetensors").write_text("weights")
        return str(tmp_path)
    if field.name == "domain":  # that of another oracle
        return "programs"
    if choices := field.metadata.get("choices"):
        return next(choice for choice in ("float32", *choices) if choice in choices and choice != value)
    if isinstance(value, EngineConfig):
        return replace(value, dtype="float32")
    samples = {
        bool: lambda: not value,
        int: lambda: value + 17,
        float: lambda: value / 2 + 0.1,
        str: lambda: value + "X",
    }
    if type(value) in samples:
        return samples[type(value)]()
    if field.name == "args":
        return {"kv_cache_dtype": "fp8"}
    kinds = {"int | None": 48, "float | None": 2.0, "str | None": "other", "bool | None": True}
    return kinds.get(str(field.type)) or {"dict[str, Any]": {"min_p": 0.1}, "list[str]": ["seed"]}[str(field.type)]


def identity(config, model=TINY):
    return config.identity(model), config.fingerprint_fields(model)


def misplaced_fields(kind, counted, tmp_path):
    """Fields that are neither counted nor ignored with a reason, or that are not what they are said to be."""
    config = kind()
    reasons = ignored(kind)
    misplaced = []
    for field in fields(kind):
        changes = identity(config) != identity(replace(config, **{field.name: other(config, field, tmp_path)}))
        declared = (field.name in counted, bool(reasons.get(field.name)))
        if declared != (changes, not changes):
            misplaced.append(field.name)
    return misplaced + sorted({*counted, *reasons} - {field.name for field in fields(kind)})


@pytest.mark.parametrize("kind", engines(), ids=lambda kind: kind.__name__)
def test_every_field_decides_the_identity_or_is_ignored_for_a_reason(kind, tmp_path):
    assert misplaced_fields(kind, COUNTED[kind.__name__], tmp_path) == []


def test_a_new_field_that_nobody_has_thought_of_is_found(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Grown(HFConfig):
        penalty: float = setting(1.0)
        forgotten: int = setting(1)
        ignored_fields: ClassVar = {"forgotten": "", "renamed": "is gone"}

    assert misplaced_fields(Grown, COUNTED["HFConfig"], tmp_path) == ["penalty", "forgotten", "renamed"]


@pytest.mark.parametrize("kind", [HFConfig, VLLMConfig])
def test_auto_is_what_it_comes_to(kind, monkeypatch):
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: True)
    auto = identity(kind())
    assert auto == identity(kind(dtype="bfloat16")) == identity(kind(), replace(TINY, dtype=Dtype.BF16))
    assert auto[1]["engine.dtype"] == "bfloat16"
    assert identity(kind(max_model_len=256)) == identity(kind(), replace(TINY, max_length=256)) != auto
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: False)
    assert identity(kind()) == identity(kind(dtype="float32")) != auto


def test_engines_do_not_mix():
    assert identity(HFConfig()) != identity(VLLMConfig())


def test_workers_on_gpus_are_told_the_number_format_by_a_coordinator_that_has_none(monkeypatch):
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: False)
    assert HFConfig().on_gpu().resolved(TINY).dtype == "bfloat16"
    assert HFConfig().resolved(TINY).dtype == "float32"


@pytest.mark.parametrize(
    ("stored", "chosen", "cpu", "dtype"),
    [
        (Dtype.FP32, "auto", False, "bfloat16"),
        (Dtype.FP32, "float32", False, "float32"),
        (Dtype.FP32, "auto", True, "float32"),
        (Dtype.FP16, "auto", False, "float16"),
    ],
)
def test_vllm_on_a_gpu_generates_in_bf16_with_weights_in_fp32(
    monkeypatch, random_tiny, tmp_path, stored, chosen, cpu, dtype
):
    monkeypatch.setattr("sq.engine.vllm_environment.on_cpu", lambda: cpu)
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: True)
    config = json.loads((random_tiny / "config.json").read_text()) | {"dtype": stored.value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = ModelConfig(name="random", path=str(tmp_path))
    assert VLLMConfig(dtype=chosen).resolved(model).dtype == dtype
    assert VLLMConfig().resolved(replace(model, dtype=stored)).dtype == stored.value
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForSequenceClassification"]}))
    assert VLLMConfig().resolved(model).dtype == stored.value, "a score keeps the weights' own format"


def test_vllm_on_a_gpu_is_known_to_tell_fewer_seeds_apart(monkeypatch):
    monkeypatch.setattr("sq.engine.vllm_environment.on_cpu", lambda: False)
    assert VLLMConfig().seed_bits == 32
    monkeypatch.setattr("sq.engine.vllm_environment.on_cpu", lambda: True)
    assert VLLMConfig().seed_bits == 63


def test_fields_of_vllm_that_only_change_its_speed_may_change():
    plain = identity(VLLMConfig())
    assert identity(VLLMConfig(args={"max_num_batched_tokens": 512, "async_scheduling": False})) == plain
    assert identity(VLLMConfig(args={"load_format": "dummy"})) != plain, "its weights are random"
    draft = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}
    assert identity(VLLMConfig(args=draft))[1]["engine.args.speculative_config.num_speculative_tokens"] == 3


@pytest.mark.parametrize(
    ("config", "cpu", "invariant", "repeats"),
    [
        (HFConfig(dtype="float32"), True, "0", "in any batch"),
        (HFConfig(dtype="bfloat16"), True, "0", "in batches of the same size"),
        (VLLMConfig(dtype="float32"), True, "0", "in any batch"),
        (VLLMConfig(dtype="float32"), False, "0", "in batches of the same size"),
        (VLLMConfig(dtype="bfloat16"), False, "1", "in any batch"),
        (VLLMConfig(dtype="bfloat16", seeds="engine"), False, "1", "in the same order and batches"),
        (VLLMConfig(dtype="float32", seeds="none"), True, "0", "never"),
    ],
)
def test_an_engine_says_when_it_repeats_itself(config, cpu, invariant, repeats, monkeypatch):
    monkeypatch.setattr("sq.engine.vllm_environment.on_cpu", lambda: cpu)
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", invariant)
    said = config.determinism(TINY)
    assert said["repeats"] == repeats and said["dtype"] == config.dtype
    assert said.get("batch_invariant") == (None if cpu else {"0": "off", "1": "on"}[invariant])
    assert ("position" in said.get("sampler", "")) is not cpu
