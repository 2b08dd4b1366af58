"""engine.args: any other field of vLLM's EngineArgs, checked by name before vLLM is imported."""

import sys
from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.engine import vllm_environment
from sq.engine.vllm import VLLMConfig
from sq.engine.vllm_start import SETTINGS, SPEED_ONLY

pytest.importorskip("vllm", reason="vLLM is not installed on this platform")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"max_num_batched_token": 9}, "no field of vLLM's EngineArgs, did you mean 'max_num_batched_tokens'"),
        ({"gpu_memory_utilization": 0.5}, "gpu_memory_utilization, which is set by engine.gpu_memory"),
        ({"seed": 3}, "seed, which is set by engine.seeds"),
        ({"data_parallel_size": 2}, "data_parallel_size, which is set by workers=N"),
        ({"max_num_batched_tokens": "many"}, r"max_num_batched_tokens='many', which vLLM takes as int \| None"),
        ({"max_num_batched_tokens": 8.5}, "max_num_batched_tokens=8.5, which vLLM takes as int"),
        ({"pipeline_parallel_size": True}, "pipeline_parallel_size=True, which vLLM takes as int"),
        ({"disable_log_stats": "no"}, "disable_log_stats='no', which vLLM takes as bool"),
        ({"limit_mm_per_prompt": 3}, r"limit_mm_per_prompt=3, which vLLM takes as dict\[str"),
        ({"allowed_media_domains": "a.org"}, "allowed_media_domains='a.org', which vLLM takes as list"),
    ],
)
def test_a_wrong_field_is_told_when_the_config_is_built(args, message):
    with pytest.raises(ConfigError, match=message):
        build(OmegaConf.create({"args": args}), VLLMConfig, key="engine")
    right = {"kv_cache_dtype": "fp8", "max_num_batched_tokens": 64, "download_dir": None, "cpu_offload_gb": 1}
    right |= {"compilation_config": {"level": 3}, "limit_mm_per_prompt": {"image": 0}, "async_scheduling": False}
    assert build(OmegaConf.create({"args": right}), VLLMConfig).args == right


def test_all_gpus_that_share_the_model_are_counted():
    args = {"pipeline_parallel_size": 3, "prefill_context_parallel_size": 2, "decode_context_parallel_size": 2}
    assert [VLLMConfig(tensor_parallel=2, args=given).gpus for given in ({}, args)] == [2, 12]


def test_logits_processors_do_not_replace_our_sampling(monkeypatch):
    config = {"args": {"logits_processors": []}}
    with pytest.raises(ConfigError, match=r"logits_processors, .*: give engine.seeds=engine or none"):
        build(OmegaConf.create(config), VLLMConfig, key="engine")
    assert not build(OmegaConf.create({**config, "seeds": "none"}), VLLMConfig).own_sampling
    monkeypatch.setattr(vllm_environment, "on_cpu", lambda: False)
    assert not build(OmegaConf.create(config), VLLMConfig).own_sampling


@pytest.mark.vllm
@pytest.mark.slow
def test_the_fields_read_from_the_source_are_vllms():
    from vllm.engine.arg_utils import EngineArgs

    known_fields = {field.name for field in fields(EngineArgs)}
    assert vllm_environment.engine_arguments().keys() == known_fields
    assert not (SETTINGS.keys() | SPEED_ONLY) - known_fields


def test_without_vllm_they_are_left_for_it_to_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr(vllm_environment, "engine_arguments", vllm_environment.engine_arguments.__wrapped__)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert VLLMConfig(args={"anything": 1}).args == {"anything": 1}
