"""vLLM as a scorer, for real: the numbers of transformers one at a time, for reward models and regressors."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaForSequenceClassification

from sq.core.errors import EngineError
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.vllm import VLLMConfig
from sq.models.load import Dtype, ModelConfig, load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")


@pytest.fixture
def reward(random_tiny, tmp_path):
    model = LlamaForSequenceClassification.from_pretrained(random_tiny, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=torch.Generator().manual_seed(5)))
    model.save_pretrained(tmp_path / "reward")
    load_tokenizer(ModelConfig(name="tiny", path=str(random_tiny))).save_pretrained(tmp_path / "reward")
    return ModelConfig(name="reward", path=str(tmp_path / "reward"), dtype=Dtype.FP32)


def test_scores_are_those_of_transformers_one_at_a_time(reward):
    texts = [f"apples {'and pears ' * k}" for k in (1, 9, 2, 30, 12)]
    asked = [
        ScoreRequest(
            key=f"{i}-{j}",
            messages=({"role": "user", "content": f"How many are {i}?"}, {"role": "assistant", "content": text}),
        )
        for i in range(3)
        for j, text in enumerate(texts)
    ]
    engine = VLLMConfig(max_model_len=512, window=4).create(reward)
    try:
        found = {s.key: s for s in engine.score([*asked, ScoreRequest(key="none", messages=())])}
        with pytest.raises(EngineError, match="reward scores; it cannot generate"):
            engine.generate([Request(key="g", seed=0, prompt_ids=(5,), sampling=Sampling())])
    finally:
        engine.close()
        engine.close()
    assert found.pop("none").error == "a score needs at least one message"
    assert not {s.error for s in found.values() if s.error}
    plain = AutoModelForSequenceClassification.from_pretrained(reward.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(reward.path)
    for one in asked:
        ids = tokenizer.apply_chat_template(list(one.messages), return_tensors="pt", return_dict=False)
        plain.config.pad_token_id = None
        with torch.no_grad():
            assert found[one.key].score == pytest.approx(plain(ids).logits.item(), abs=1e-3)
        assert found[one.key].tokens == ids.numel()
    assert len({round(s.score, 3) for s in found.values()}) > 10
