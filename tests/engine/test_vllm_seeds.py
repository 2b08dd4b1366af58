"""engine.seeds and engine.args in a real vLLM: what is drawn without seeds of requests, and settings that arrive."""

from dataclasses import replace

import pytest

from sq.engine.base import Request, Sampling
from sq.engine.vllm import VLLMConfig
from sq.models.load import ModelConfig

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")


def test_one_seed_for_all_is_the_first_requests_and_none_is_by_chance(random_tiny):
    model = ModelConfig(name="random", path=str(random_tiny))
    config = VLLMConfig(max_model_len=64, dtype="float32", seeds="engine", args={"max_num_batched_tokens": 512})
    engine = config.create(model)

    def texts(first=100):
        asked = [
            Request(key=f"r{i}", seed=first + i, prompt_ids=(5, 6, 7), sampling=Sampling(n=2, max_tokens=8))
            for i in range(4)
        ]
        return {r.key: [c.token_ids for c in r.completions] for r in engine.generate(asked)}

    try:
        assert engine.llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens == 512
        one = texts()
        assert texts() == one, "the same requests in the same order"
        assert texts(first=101) != one, "a run that goes on with other requests draws anew"
        assert len({ids for completions in one.values() for ids in completions}) == 8, "no two draw the same"
        engine.config = replace(config, seeds="none")
        assert texts() != texts()
        assert list(engine.generate([])) == []
    finally:
        engine.close()
