"""Reward models of every form, and difficulty regressors, by both engines: the numbers of a plain forward pass."""

import json
import math

import pytest
import reward_models
import torch

from sq.core.errors import EngineError
from sq.data.scoring import score_questions
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.conversations import Conversations
from sq.engine.hf import HFConfig
from sq.engine.vllm import VLLMConfig
from sq.models.load import ModelConfig
from sq.models.regressor import Regressor

STEPS = ["First, and so on.\n\nThen <extra_0> it is.\n\n\nSo \\boxed{5}.", "One step.", "Of two.\n \nSteps."]
ON_VLLM = [pytest.mark.vllm, pytest.mark.slow]
ENGINES = [
    *(
        pytest.param(HFConfig, kind, id=f"hf-{kind}")
        for kind in reward_models.FORMS
        if kind != "InternLM2ForRewardModel"
    ),
    *(
        pytest.param(VLLMConfig, kind, id=f"vllm-{kind}", marks=ON_VLLM)
        for kind in reward_models.FORMS
        if "Llama" not in kind
    ),
]


def engine_of(kind, model, **settings):
    if kind is VLLMConfig:
        pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
        return VLLMConfig(max_model_len=512, window=4, **settings).create(model)
    return HFConfig(device="cpu", batch_size=4, window=6, **settings).create(model)


def conversations():
    texts = [f"apples{' and pears' * k}" for k in (1, 9, 30)] + STEPS
    return [
        ScoreRequest(key=f"{i}-{j}", messages=(
            {"role": "user", "content": f"How many are {i}?"}, {"role": "assistant", "content": text},
        ))
        for i in range(2)
        for j, text in enumerate(texts)
    ]  # fmt: skip


def plain_score(model, kind, request, combine=min):
    """By hand: the last token's number, or the steps' probabilities of being right."""
    if kind != "Qwen2ForProcessRewardModel":
        return model.numbers(model.ids(request.messages))[-1, 0].item()
    question, reply = request.messages
    steps = reply["content"].replace("<extra_0>", "").replace("\n \n", "\n\n").replace("\n\n\n", "\n\n").split("\n\n")
    ids = model.ids((question, reply | {"content": "".join(f"{step}<extra_0>" for step in steps)}))
    ends = [i for i, token in enumerate(ids) if token == model.tokenizer.convert_tokens_to_ids("<extra_0>")]
    assert len(ends) == len(steps)
    return combine(model.numbers(ids)[ends].softmax(dim=-1)[:, 1].tolist())


@pytest.mark.parametrize(("config", "kind"), ENGINES)
def test_scores_are_those_of_a_plain_forward_pass(config, kind, random_tiny, tmp_path):
    model = reward_models.make(kind, random_tiny, tmp_path)
    asked = conversations()
    engine = engine_of(config, model.config)
    try:
        results = {s.key: s for s in engine.score([*asked, ScoreRequest(key="none", messages=())])}
        with pytest.raises(EngineError, match="scores; it cannot generate"):
            engine.generate([Request(key="g", seed=0, prompt_ids=(5,), sampling=Sampling())])
    finally:
        engine.close()
        engine.close()
    assert results.pop("none").error == "a score needs at least one message"
    assert {key: s.score for key, s in results.items()} == pytest.approx(
        {one.key: plain_score(model, kind, one) for one in asked}, abs=1e-3
    )
    assert len({round(s.score, 3) for s in results.values()}) > len(asked) / 2


@pytest.mark.parametrize(("how", "combine"), [("product", math.prod), ("last", lambda rewards: rewards[-1])])
def test_the_rewards_of_steps_are_combined_as_asked(how, combine, random_tiny, tmp_path):
    kind = "Qwen2ForProcessRewardModel"
    model = reward_models.make(kind, random_tiny, tmp_path)
    engine = engine_of(HFConfig, model.config, step_reward=how)
    asked = conversations()
    scores = {s.key: s.score for s in engine.score(asked)}
    assert scores == pytest.approx({one.key: plain_score(model, kind, one, combine) for one in asked}, abs=1e-3)
    counted = HFConfig(step_reward=how).fingerprint_fields(model.config)
    assert counted["engine.step_reward"] == how and HFConfig().fingerprint_fields(model.config) != counted


@pytest.mark.parametrize("how", ["min", "product", "last"])
@pytest.mark.parametrize("bad", [[math.nan, 1.0], [1.0, math.nan], [math.inf, 0.0], [0.0, -math.inf]])
@pytest.mark.parametrize("place", [0, 1])
def test_numbers_of_a_step_that_overflowed_are_no_score(how, bad, place, random_tiny, tmp_path):
    model = reward_models.make("Qwen2ForProcessRewardModel", random_tiny, tmp_path)
    steps = Conversations(model.config, json.loads((tmp_path / "config.json").read_text()), 512, how)
    numbers = [[0.0, 2.0], [0.0, 3.0]]
    assert steps.result("fine", (1, 2), numbers).score > 0.8
    numbers[place] = bad
    result = steps.result("bad", (1, 2), numbers)
    assert result.score is None and "overflowed" in result.error


def test_a_process_reward_model_whose_tokenizer_ends_no_steps_is_refused(random_tiny, tmp_path):
    model = reward_models.make("Qwen2ForProcessRewardModel", random_tiny, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((random_tiny / name).read_text())
    with pytest.raises(EngineError, match="rewards steps, and its tokenizer has no <extra_0>"):
        list(engine_of(HFConfig, model.config).score(conversations()))


def regressor(random_tiny, directory):
    """A difficulty regressor of ours: a classifier, its bias and the chat it was trained in beside it."""
    from sq.core.chat import ChatFormat

    model = reward_models.make("LlamaForSequenceClassification", random_tiny, directory)
    chat = ChatFormat.from_tokenizer(model.tokenizer, model.config.chat)
    (directory / "regressor.json").write_text(json.dumps({"bias": 0.3, "chat": chat.record()}))
    return model, chat


@pytest.mark.parametrize("config", [HFConfig, pytest.param(VLLMConfig, marks=ON_VLLM)])
def test_a_difficulty_regressor_scores_a_question_as_a_plain_forward_pass_and_its_bias(config, random_tiny, tmp_path):
    model, chat = regressor(random_tiny, tmp_path)
    questions = [f"How many apples are {i} and {i * i} apples" + " more" * i + "?" for i in range(12)]
    engine = engine_of(config, model.config)
    asked = [ScoreRequest(key=q, messages=({"role": "user", "content": q},)) for q in questions]
    two = ScoreRequest(key="two", messages=(*asked[0].messages, {"role": "assistant", "content": "5"}))
    try:
        scores = {s.key: s for s in engine.score([*asked, two])}
    finally:
        engine.close()
    assert "scores one question, and there are 2 messages" in scores["two"].error
    wanted = [model.numbers(chat.question_ids(q).ids)[-1, 0].item() + 0.3 for q in questions]
    assert [scores[q].score for q in questions] == pytest.approx(wanted, abs=1e-3)
    assert wanted == pytest.approx(score_questions(Regressor(model.config), questions), abs=1e-3)
    assert len({round(s, 3) for s in wanted}) > 6


def test_the_head_computes_in_fp32_whatever_the_weights_are_in(random_tiny, tmp_path):
    model = reward_models.make("LlamaForSequenceClassification", random_tiny, tmp_path)
    engine = engine_of(HFConfig, model.config, dtype="bfloat16")
    scores = [s.score for s in engine.score(conversations())]
    assert any(float(torch.tensor(score).bfloat16()) != score for score in scores), "bf16 has three digits"


OLD_CODE = """
from transformers import DynamicCache, LlamaModel, LlamaPreTrainedModel

class OldForRewardModel(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return DynamicCache.from_legacy_cache(None)
"""


def test_code_written_for_another_transformers_is_named_with_the_way_out(random_tiny, tmp_path):
    model = reward_models.make("LlamaForSequenceClassification", random_tiny, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"architectures": ["OldForRewardModel"], "auto_map": {"AutoModel": "old.OldForRewardModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "old.py").write_text(OLD_CODE)
    trusting = ModelConfig(name="old", path=model.config.path, trust_remote_code=True)
    with pytest.raises(EngineError, match=r"the code of model old does not run with transformers .*Use engine=vllm"):
        list(engine_of(HFConfig, trusting).score(conversations()[:1]))
