"""Pretraining from random weights: the loss falls, and what is exported is a model with a tokenizer of its own."""

import json
import math

from sq.core.chat import ChatFormat
from sq.data.sources import SourceConfig
from sq.domains.arithmetic import ArithmeticConfig
from sq.models.load import ModelConfig, load_model, load_tokenizer
from sq.train import pretrain
from sq.train.fit import fit
from sq.train.stage import RowContext


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
    assert load_tokenizer(config).tokenize("40") == ["40"]


def test_a_given_question_of_the_corpus_carries_no_loss(tiny_model):
    tokenizer = load_tokenizer(ModelConfig(name="tiny", path=str(tiny_model)))
    chat, domain = ChatFormat.from_tokenizer(tokenizer), ArithmeticConfig(worked=1.0).create()
    context = RowContext(chat=chat, tokenizer=tokenizer, domain=domain, source=SourceConfig(), seed=1)
    encoding = pretrain.PretrainStage(documents=40).encoding(context)
    starts = {}
    for row in encoding.generate():
        (tokens,) = encoding.encode(row).sequences
        starts.setdefault("text" if row["text"] else "chat", set()).add(
            tokenizer.decode(tokens.ids[: tokens.start])[-10:]
        )
    assert starts == {"text": {""}, "chat": {"assistant\n"}}
