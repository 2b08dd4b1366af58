"""Every stage from its configuration to exported weights, on a tiny random model."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from sq.core.errors import ConfigError
from sq.train.fit import fit
from sq.train.module import TrainingModule


def record(job):
    with open(f"{job.output_dir}/train.json") as file:
        return json.load(file)


@pytest.mark.parametrize("stage", ["qft", "sft"])
def test_a_token_stage_learns_and_exports(stage, job):
    made = job(stage, "data.limit=60", "stage.lr=0.01", "stage.epochs=4", "stage.batch_packs=2", "stage.validation=0.1")
    model = fit(made)
    metrics = record(made)["figures"]
    assert metrics["val/loss"] < math.log(1024) - 1
    assert metrics["val/perplexity"] == pytest.approx(math.exp(metrics["val/loss"]))
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert loaded.dtype is torch.float32 and AutoTokenizer.from_pretrained(model).chat_template
    assert not (model.parent / "checkpoints").exists() and not (model.parent / "cache").exists()


def test_one_optimiser_step_in_all_is_said_with_a_way_out(job, caplog):
    fit(job("qft", "data.limit=10", "stage.epochs=1", "stage.batch_packs=4", "stage.pack_tokens=2048"))
    assert (
        "qft takes one optimiser step in all" in caplog.text
        and "For more steps give a smaller stage.pack_tokens" in caplog.text
    )


def test_one_step_that_was_asked_for_is_said_to_be(job, caplog):
    caplog.set_level("INFO", "sq")
    fit(job("qft", "data.limit=10", "stage.max_steps=1", "stage.validation=0.1", "stage.pack_tokens=2048"))
    assert "in all, as stage.max_steps=1 says" in caplog.text and "stage.epochs" not in caplog.text
    assert "reading the source beyond data.limit" in caplog.text


@pytest.mark.parametrize("stage", ["qft", "qpo", "difficulty", "reward"])
def test_a_smaller_last_step_is_its_own_packs_and_nothing_else(stage, job, pairs, labels, graded, monkeypatch):
    """What stands in for the missing packs leaves gradients as they were, to the bit, and is in no figure."""
    sources = {"qpo": pairs, "difficulty": labels, "reward": graded, "qft": labels}
    made = job(stage, f"data.input={sources[stage]}", "stage.batch_rows=null", "stage.batch_packs=7", "stage.epochs=1",
               "stage.validation=0", "stage.pack_tokens=448")  # fmt: skip
    losses, gradients, standing_in = [], [], []
    step = TrainingModule.training_step

    def noted(module, batch, index):
        loss = step(module, batch, index)
        losses.append(float(loss.detach()))
        standing_in.append(not batch.divisor)
        return loss

    def after(module):
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    monkeypatch.setattr(TrainingModule, "on_after_backward", after)
    fit(made)
    assert any(standing_in[-6:]) and not any(standing_in[:-6]) and len(losses) % 7 == 0
    for i, stands_in in enumerate(standing_in):
        assert not stands_in or gradients[i].equal(gradients[i - 1])
    assert record(made)["figures"]["train/loss"] == pytest.approx(sum(losses[-7:]) / 7, rel=1e-5)


def test_qpo_starts_at_ln_2_and_prefers_the_chosen(job, pairs):
    made = job("qpo", f"data.input={pairs}", "stage.lr=0.003", "stage.epochs=6", "stage.batch_rows=8",
               "stage.warmup_steps=0", "stage.validation=0.1")  # fmt: skip
    fit(made)
    metrics = record(made)["figures"]
    assert metrics["train/loss"] < math.log(2) - 0.05
    assert metrics["train/accuracy"] > 0.8 and metrics["train/margin"] > 0
    wanted = {
        "reward_chosen",
        "reward_rejected",
        "logp_chosen",
        "logp_rejected",
        "tokens_chosen",
        "tokens_rejected",
        "kl",
    }
    assert {f"val/{name}" for name in wanted} <= metrics.keys()


def test_difficulty_orders_questions_and_its_export_is_a_classifier(job, labels):
    made = job("difficulty", f"data.input={labels}", "stage.lr=0.003", "stage.head_lr=0.01", "stage.epochs=10",
               "stage.batch_rows=8", "stage.validation=0.2")  # fmt: skip
    model = fit(made)
    metrics = record(made)["figures"]
    assert {"val/spearman", "val/kendall", "val/calibration", "val/mae"} <= metrics.keys()
    assert metrics["train/loss"] < 0.05
    from sq.data.scoring import score_questions
    from sq.models.regressor import Regressor

    questions = [json.loads(line)["question"] for line in labels.read_text().splitlines()[:9]]
    regressor = Regressor(type(made.model)(name="scorer", path=str(model)))
    ours = score_questions(regressor, questions, pack_tokens=128)
    classifier = AutoModelForSequenceClassification.from_pretrained(model)
    bias = json.loads((model / "regressor.json").read_text())["bias"]
    theirs = []
    for text in questions:
        ids = torch.tensor([regressor.chat.question_ids(text).ids])
        theirs.append(classifier(input_ids=ids).logits.item() + bias)
    assert ours == pytest.approx(theirs, abs=1e-5)
    note = json.loads((model / "regressor.json").read_text())
    note["chat"]["question_prefix_ids"][-1] += 1
    (model / "regressor.json").write_text(json.dumps(note))
    with pytest.raises(ConfigError, match="was trained with the question prefix"):
        Regressor(type(made.model)(name="scorer", path=str(model)))


def test_calibration_is_the_distance_in_each_bin():
    from sq.train.difficulty import calibration

    bins, error = calibration(torch.tensor([0.05, 0.07, 0.95, 1.3]), torch.tensor([0.0, 0.0, 1.0, 0.5]))
    assert error == pytest.approx((0.12 + abs(2.25 - 1.5)) / 4)
    assert [(row["from"], row["rows"]) for row in bins] == [(0.0, 2.0), (0.9, 2.0)]


def test_a_label_of_more_samples_counts_for_more():
    from sq.train.difficulty import certainty

    assert certainty(0.5, 64) > certainty(0.5, 8) > certainty(0.5, 2)
    assert certainty(0.0, 5) > certainty(0.4, 5)  # none of five is surer than two of five, but not certain
