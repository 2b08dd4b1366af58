"""The reward stage: from graded solutions to a classifier that `select` and `evaluate` score with."""

import json
import math

import pytest
import torch

from sq.core.errors import ConfigError, RowError
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine.base import ScoreRequest
from sq.engine.hf import HFConfig
from sq.models.load import ModelConfig
from sq.train.fit import fit
from sq.train.reward import within_question


def record(job):
    with open(f"{job.output_dir}/train.json") as file:
        return json.load(file)["figures"]


def rejects(job):
    with open(f"{job.output_dir}/rejects.jsonl") as file:
        return [json.loads(line)["reason"] for line in file]


@pytest.mark.parametrize("objective", ["correctness", "preference", "both"])
def test_it_learns_which_solution_is_right(objective, job, graded):
    made = job("reward", f"data.input={graded}", f"stage.objective={objective}", "stage.lr=0.003", "stage.epochs=6",
               "stage.batch_rows=8", "stage.pack_tokens=512", "stage.validation=0.2")  # fmt: skip
    fit(made)
    metrics = record(made)
    assert metrics["val/pairwise"] > 0.9 and metrics["val/auroc"] > 0.9
    assert {"val/loss", "val/accuracy", "train/loss", "train/accuracy"} <= metrics.keys()


def test_select_scores_what_was_trained_on(job, graded):
    made = job("reward", f"data.input={graded}", "stage.lr=0.003", "stage.epochs=2", "stage.batch_rows=8",
               "stage.pack_tokens=512")  # fmt: skip
    model = fit(made)
    assert not (model / "regressor.json").exists()  # that would make it a scorer of bare questions
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sq.models.regressor import exchange_ids

    rows = [json.loads(line) for line in graded.read_text().splitlines()[:4]]
    texts = [(row["question"], text) for row in rows for text in row["solver_solutions"]]
    tokenizer, classifier = (
        kind.from_pretrained(model) for kind in (AutoTokenizer, AutoModelForSequenceClassification)
    )
    plain = [
        classifier(input_ids=torch.tensor([exchange_ids(tokenizer, question, text)])).logits.item()
        for question, text in texts
    ]
    engine = HFConfig(device="cpu").create(ModelConfig(name="reward", path=str(model)))
    asked = [
        ScoreRequest(key=str(i), messages=({"role": "user", "content": q}, {"role": "assistant", "content": s}))
        for i, (q, s) in enumerate(texts)
    ]
    scored = {result.key: result.score for result in engine.score(asked)}
    engine.close()
    bias = json.loads((model / "reward.json").read_text())["bias"]
    assert [scored[str(i)] for i in range(len(texts))] == pytest.approx(plain, abs=1e-4)
    assert math.isfinite(bias)


def test_the_same_solution_said_twice_is_computed_once_and_counts_twice(job, graded):
    made = job("reward", f"data.input={graded}", "stage.max_steps=1", "stage.validation=0", "stage.pack_tokens=512",
               "stage.batch_rows=160")  # fmt: skip
    fit(made)
    # The head begins with the log odds of being right, 80 of 160 samples: the first loss is ln 2 exactly.
    assert record(made)["train/loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_solutions_that_do_not_match_their_verdicts_are_told(job, graded, tmp_path):
    rows = [json.loads(line) for line in graded.read_text().splitlines()]
    rows[3]["solver_right"] = [True]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = job("reward", f"data.input={path}", "stage.max_steps=1", "stage.validation=0", "stage.pack_tokens=512")
    fit(made)
    assert rejects(made) == ["ungraded"]


@pytest.mark.parametrize("together", [True, False])
def test_candidates_are_graded_by_themselves_or_by_their_reference(job, tmp_path, together):
    rows = []
    for i, seed in enumerate(ArithmeticDomain().seeds(20, 1)):
        known = {"answer": seed["answer"]} if i % 2 else {}
        for text, correct in ((seed["solution"], True), ("It is \\boxed{999}.", False)):
            told = {} if i % 2 else {"correct": correct}
            rows.append({"question": seed["question"], "response": text, **known, **told})
    rows.append({"question": "How many?", "response": "Nobody graded \\boxed{3}."})
    if not together:  # all right ones, then all wrong ones
        rows = [*rows[:-1:2], *rows[1:-1:2], rows[-1]]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = job("reward", f"data.input={path}", "stage.objective=preference", "stage.max_steps=1", "stage.validation=0",
               "stage.pack_tokens=512", "stage.batch_rows=8")  # fmt: skip
    fit(made)
    assert rejects(made) == ["ungraded"]
    assert record(made)["train/loss"] == pytest.approx(math.log(2), abs=1e-6)  # of 20 pairs, the head being zero


def test_what_cannot_be_trained_on_is_told(job, graded, tmp_path):
    path = tmp_path / "right.jsonl"
    rows = [{**json.loads(line), "solver_right": [True] * 4} for line in graded.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RowError, match="one-sided"):
        fit(job("reward", f"data.input={path}", "stage.objective=preference"))
    with pytest.raises(RowError, match="only right solutions are left"):
        fit(job("reward", f"data.input={path}", f"output_dir={tmp_path / 'one'}", "stage.pack_tokens=512"))
    path.write_text("".join(json.dumps({**row, "solver_solutions": []}) + "\n" for row in rows))
    with pytest.raises(RowError, match="stage.keep_solutions=true"):
        fit(job("reward", f"data.input={path}", f"output_dir={tmp_path / 'bare'}"))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"question": "q?", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(RowError, match=r"has pairs \(chosen, rejected\), .*give the directory of stage=answers"):
        fit(job("reward", f"data.input={pairs}", f"output_dir={tmp_path / 'pairs'}"))
    with pytest.raises(ConfigError, match="give data.input="):
        fit(job("reward", f"output_dir={tmp_path / 'none'}"))
    with pytest.raises(ConfigError, match="data.too_long=truncate would cut"):
        fit(job("reward", f"data.input={graded}", f"output_dir={tmp_path / 'two'}", "data.too_long=truncate"))


def test_pairwise_accuracy_is_within_a_question():
    scores, right = torch.tensor([3.0, 1.0, 0.0, 0.0, 5.0, 2.0]), torch.tensor([1, 0, 0, 1, 0, 1])
    # Question 0: one pair won; question 1: a tie; questions 2 and 3 have no pair.
    assert within_question(scores, right, torch.tensor([0, 0, 1, 1, 2, 3])) == pytest.approx(0.75)
    assert math.isnan(within_question(scores[:1], right[:1], torch.tensor([0])))
