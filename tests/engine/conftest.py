"""An endpoint that misbehaves as it is told, engines that ask it, and a small model for those that run here."""

import pytest
from openai_endpoint import KEY, MODEL, Endpoint

from sq.engine.openai import OpenAIConfig
from sq.models.load import Dtype, ModelConfig

FAST = {"backoff": 0.01, "backoff_max": 0.05}


@pytest.fixture
def endpoint(monkeypatch):
    endpoint = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{endpoint.port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield endpoint
    endpoint.close()


@pytest.fixture
def start(endpoint):
    engines = []

    def start(**settings):
        engines.append(OpenAIConfig(**{**FAST, **settings}).create(MODEL))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def one_thread():
    """Models this small are slower on two threads than on one, much slower where the cores are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(random_tiny, tmp_path_factory):
    """Small, and with weights large enough that texts differ from each other and from one repeated token."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("lively")
    tokenizer = AutoTokenizer.from_pretrained(random_tiny)
    config = LlamaConfig.from_pretrained(random_tiny)
    config.update({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "initializer_range": 0.3})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return ModelConfig(name="lively", path=str(directory), dtype=Dtype.FP32)
