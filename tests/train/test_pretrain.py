"""Pretraining from random weights: the loss falls, and what is exported is a model with a tokenizer of its own."""

import json
import math

from sq.models.load import ModelConfig, load_model, load_tokenizer
from sq.train import pretrain
from sq.train.fit import fit


def test_a_short_run_from_nothing_lowers_the_loss(job, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "TOKENIZER_DOCUMENTS", 500)
    short = (
        "model=tiny-new",
        "model.path=new:tiny",
        "stage.documents=120",
        "stage.validation=0.1",
        "stage.batch_packs=1",
    )
    model = fit(job("pretrain", *short))
    metrics = json.loads((tmp_path / "out" / "train.json").read_text())["figures"]
    config = ModelConfig(name="new", path=str(model))
    vocabulary = load_model(config).config.vocab_size
    assert metrics["val/loss"] < 0.8 * math.log(vocabulary), "random weights are at the logarithm of the vocabulary"
    assert load_tokenizer(config).tokenize("40")[-2:] == ["4", "0"]
