"""LoRA adapters and attention backends on vLLM."""

import json

import pytest
import torch

from sq.core.errors import EngineError
from sq.engine.base import Request, Sampling
from sq.engine.hf import HFConfig
from sq.engine.vllm import VLLMConfig
from sq.models.load import Dtype, ModelConfig, load_model, load_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
peft = pytest.importorskip("peft", reason="peft is not installed")


@pytest.fixture(scope="module")
def base(random_tiny):
    return ModelConfig(name="random", path=str(random_tiny), dtype=Dtype.FP32)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """An adapter that changes much, and the model with it merged in."""
    directory = tmp_path_factory.mktemp("adapter")
    model = peft.get_peft_model(
        load_model(base), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(directory / "lora")
    model.merge_and_unload().save_pretrained(directory / "merged")
    load_tokenizer(base).save_pretrained(directory / "merged")
    return directory


def requests():
    for i in range(6):
        prompt = tuple(5 + (7 * i + j) % 90 for j in range(3 + i % 7))
        yield Request(key=f"r{i}", seed=i, prompt_ids=prompt, sampling=Sampling(temperature=0.0, max_tokens=8))


def ids_of(results):
    return {r.key: [c.token_ids for c in r.completions] for r in results}


@pytest.mark.slow
@pytest.mark.vllm
def test_an_adapter_gives_the_texts_of_the_merged_model(base, adapter):
    config = VLLMConfig(max_model_len=64, dtype="float32", lora=str(adapter / "lora"), attention="CPU_ATTN")
    served = config.create(base)
    texts = ids_of(served.generate(requests()))
    served.close()
    merged = HFConfig(device="cpu").create(ModelConfig(name="m", path=str(adapter / "merged"), dtype=Dtype.FP32))
    plain = HFConfig(device="cpu").create(base)
    assert texts == ids_of(merged.generate(requests()))
    assert texts != ids_of(plain.generate(requests()))


def test_the_adapter_is_part_of_who_an_engine_is(base, adapter):
    plain, with_adapter = VLLMConfig(), VLLMConfig(lora=str(adapter / "lora"))
    assert with_adapter.identity(base).startswith(plain.identity(base) + "+")


def test_an_adapter_that_is_none_is_told(base, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    with pytest.raises(EngineError, match=r"engine.lora='.*' has no adapter_model.safetensors: give the directory"):
        VLLMConfig(lora=str(tmp_path)).identity(base)


@pytest.mark.slow
@pytest.mark.vllm
def test_an_unknown_attention_is_told_with_those_there_are(base):
    with pytest.raises(EngineError, match="engine.attention='flash', did you mean.*vLLM has .*FLASH_ATTN"):
        VLLMConfig(attention="flash").create(base)
