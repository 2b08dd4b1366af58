"""Scores of the Hugging Face engine, for real, by small reward models with random weights."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sq.core.errors import EngineError
from sq.engine.base import ScoreRequest
from sq.engine.hf import HFConfig
from sq.models.load import Dtype, ModelConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def reward(model, tmp_path_factory):
    """A reward model whose padding token is its end token."""
    directory = classifier(model, tmp_path_factory.mktemp("reward"), 1)
    return ModelConfig(name="reward", path=str(directory), dtype=Dtype.FP32)


def classifier(model, directory, labels):
    loaded = AutoModelForSequenceClassification.from_pretrained(model.path, num_labels=labels, dtype=torch.float32)
    with torch.no_grad():
        loaded.score.weight.copy_(torch.randn(labels, 64, generator=torch.Generator().manual_seed(5)))
    loaded.config.pad_token_id = loaded.config.eos_token_id
    loaded.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n{% endfor %}", "<|im_end|>{% endfor %}")
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("questions", [1, 3, 9])
def test_scores_are_those_of_one_at_a_time_also_where_padding_is_the_end_token(reward, questions):
    """Nine replies to one question and three to each of three go in packs, one to each of nine in padded batches."""
    texts = ["apples " * k for k in (1, 9, 2, 30, 29, 28, 31, 3, 30)]
    asked = [
        ScoreRequest(
            key=str(i),
            messages=(
                {"role": "user", "content": "How many? " * (1 + i % questions)},
                {"role": "assistant", "content": f"{text} {i}"},
            ),
        )
        for i, text in enumerate(texts)
    ]
    engine = HFConfig(device="cpu", batch_size=4, window=6).create(reward)
    scores = {s.key: s.score for s in engine.score(asked)}
    plain = AutoModelForSequenceClassification.from_pretrained(reward.path).eval()
    plain.config.pad_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(reward.path)
    for one in asked:
        ids = tokenizer.apply_chat_template(list(one.messages), return_tensors="pt", return_dict=False)
        assert ids[0, -1] == tokenizer.eos_token_id, "the last real token is the one that pads"
        with torch.no_grad():
            assert scores[one.key] == pytest.approx(plain(ids).logits.item(), abs=1e-3)
    assert len({round(s, 3) for s in scores.values()}) == len(asked)
    engine.close()


def test_conversations_that_cannot_be_scored_are_errors(reward):
    engine = HFConfig(device="cpu", max_model_len=64).create(reward)
    asked = [
        ScoreRequest(key="long", messages=({"role": "user", "content": "many words " * 90},)),
        ScoreRequest(key="none", messages=()),
        ScoreRequest(key="good", messages=({"role": "user", "content": "2 + 3"},)),
    ]
    scores = {s.key: s for s in engine.score(asked)}
    assert "tokens, and the model's context 64" in scores["long"].error and "at least one" in scores["none"].error
    assert scores["long"].refused and not scores["none"].refused
    assert scores["good"].score is not None


REMOTE = """
import torch
from transformers import LlamaModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers import LlamaPreTrainedModel

class OddForRewardModel(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = torch.nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        states = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        ends = attention_mask.cumsum(dim=1).argmax(dim=1)
        return SequenceClassifierOutputWithPast(logits=self.v_head(states[torch.arange(len(ends)), ends]))
"""


def test_a_reward_model_with_code_of_its_own_needs_trust_said_aloud(reward, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(f"{reward.path}/model.safetensors")
    state["v_head.weight"] = state.pop("score.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path.__class__(reward.path) / "config.json").read_text())
    config |= {"architectures": ["OddForRewardModel"], "auto_map": {"AutoModel": "odd.OddForRewardModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"reward_token_id": 4}))
    (tmp_path / "odd.py").write_text(REMOTE)
    AutoTokenizer.from_pretrained(reward.path).save_pretrained(tmp_path)
    asked = [ScoreRequest(key=str(k), messages=({"role": "user", "content": "5 apples " * k},)) for k in (1, 20, 19)]
    trusting = ModelConfig(name="odd", path=str(tmp_path), dtype=Dtype.FP32, trust_remote_code=True)
    engine = HFConfig(device="cpu").create(trusting)
    scores = {s.key: s.score for s in engine.score(asked)}
    assert scores == pytest.approx({s.key: s.score for a in asked for s in engine.score([a])}, abs=1e-3)
    assert type(engine._loaded).__name__ == "OddForRewardModel"


def test_each_model_does_what_it_is_for(reward, model, tmp_path):
    with pytest.raises(EngineError, match="lively generates; it cannot score. Choose a reward model"):
        HFConfig(device="cpu").create(model).score([])
    with pytest.raises(EngineError, match="reward scores; it cannot generate"):
        HFConfig(device="cpu").create(reward).generate([])
    three = ModelConfig(name="three", path=str(classifier(model, tmp_path, 3)), dtype=Dtype.FP32)
    asked = ScoreRequest(key="a", messages=({"role": "user", "content": "x"},))
    with pytest.raises(EngineError, match="three gives 3 numbers a conversation; a reward model gives one"):
        list(HFConfig(device="cpu").create(three).score([asked]))
