"""On a GPU: the engines write and score there as they do on a CPU."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.hf import HFConfig
from sq.models.load import Dtype, ModelConfig, load_tokenizer, locate

TINY = ModelConfig(name="tiny", path="package:tiny", dtype=Dtype.FP32)
QUESTIONS = [f"Ann has {i} apples and buys {3 * i} more. How many has she now?" for i in range(1, 9)]


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    """A sequence classifier with random weights."""
    directory = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(locate(TINY), num_labels=1, dtype=torch.float32)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(locate(TINY)).save_pretrained(directory)
    return ModelConfig(name="reward", path=str(directory), dtype=Dtype.FP32)


def scores(config, reward):
    engine = config.create(reward)
    try:
        asked = [
            ScoreRequest(key=q, messages=({"role": "user", "content": q}, {"role": "assistant", "content": "4"}))
            for q in QUESTIONS
        ]
        return {result.key: result.score for result in engine.score(asked)}
    finally:
        engine.close()


def texts(config):
    tokenizer = load_tokenizer(TINY)
    engine = config.create(TINY)
    try:
        greedy = Sampling(temperature=0.0, max_tokens=24)
        asked = [
            Request(key=q, prompt_ids=tuple(tokenizer.encode(q, add_special_tokens=False)), sampling=greedy, seed=0)
            for q in QUESTIONS
        ]
        return {result.key: result.completions[0].text for result in engine.generate(asked)}
    finally:
        engine.close()


def test_hugging_face_scores_as_on_a_cpu(reward, device):
    here, there = scores(HFConfig(device="cpu"), reward), scores(HFConfig(device=device), reward)
    assert there == pytest.approx(here, abs=1e-2)


def test_hugging_face_writes_as_on_a_cpu(device):
    here, there = texts(HFConfig(device="cpu")), texts(HFConfig(device=device))
    same = sum(there[q] == here[q] for q in QUESTIONS)
    assert same >= len(QUESTIONS) - 2  # a tie may fall the other way in another order of sums


def test_vllm_scores_and_writes_as_hugging_face(reward, device, needs):
    needs("vllm")
    if device != "cuda":
        pytest.skip("tests/engine runs vLLM on a CPU")
    from sq.engine.vllm import VLLMConfig

    expected = scores(HFConfig(device=device), reward)
    assert scores(VLLMConfig(max_model_len=512), reward) == pytest.approx(expected, abs=2e-2)
    here, there = texts(HFConfig(device=device)), texts(VLLMConfig(max_model_len=512))
    assert sum(there[q] == here[q] for q in QUESTIONS) >= len(QUESTIONS) - 2
