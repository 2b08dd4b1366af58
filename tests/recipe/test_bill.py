"""The bill: its tokens are those of the stages' rows and rejects, its hours those of recipe.json."""

import json

import pytest

from sq.core.errors import ConfigError
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import CANDIDATE, EXAMPLE, QUESTION, SCORE
from sq.recipe.bill import bill, make_bill


def base(identity):
    return {"id": identity, "run": "r", "parents": [], "question": f"What is {identity}?"}


def ledger(place, schema, stage, outcomes):
    with Ledger.open(place, schema=schema, config={"stage.name": stage}, inputs={}) as made:
        for _ in made.todo(iter([WorkItem(key, None) for key in outcomes])):
            pass
        for key, (rows, rejects) in outcomes.items():
            made.record(key, rows, [Reject(row=r, reason="bad", detail="") for r in rejects])
        made.finish()


@pytest.fixture
def run(tmp_path):
    """Two questions kept of three, three answers each, one example chosen of each, and a student."""
    questions = {
        f"q{i}": ([], [base(f"q{i}") | {"question_tokens": 100, "question_prompt_tokens": 4}]) if i == 2
        else ([base(f"q{i}") | {"question_tokens": 10 + i, "question_prompt_tokens": 4}], [])
        for i in range(3)
    }  # fmt: skip
    ledger(tmp_path / "questions", QUESTION, "questions", questions)
    candidates = {f"q{i}": ([candidate(i, n) for n in range(3)], []) for i in range(2)}
    ledger(tmp_path / "answers", CANDIDATE, "answers", candidates)
    chosen = {
        f"q{i}": (
            [candidate(i, 0) | {"query": "q", "selected_by": "majority"}], [candidate(i, 1), candidate(i, 2)]
        ) for i in range(2)
    }  # fmt: skip
    ledger(tmp_path / "select", EXAMPLE, "select", chosen)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "train.json").write_text(json.dumps({"figures": {}, "rows": 2, "tokens": 500}))
    stages = [
        {"name": name, "script": "train" if name == "sft" else "synthesize", "stage": name, "variant": None,
         "output_dir": str(tmp_path / name), "status": "done", "seconds": seconds, "cpu_seconds": seconds}
        for name, seconds in (("questions", 30.0), ("answers", 60.0), ("select", 0.5), ("sft", 9.5))
    ] + [{"name": "evaluate", "script": "evaluate", "stage": None, "output_dir": str(tmp_path / "evaluate"),
          "status": "waiting", "seconds": 0.0}]  # fmt: skip
    recipe = {"recipe": "mine", "status": "done", "seconds": 101.0, "hardware": {"gpus": []}, "stages": stages}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    return tmp_path


def candidate(question, index):
    return base(f"q{question}a{index}") | {
        "question_id": f"q{question}", "response": "so", "response_index": index, "response_tokens": 20,
        "response_prompt_tokens": 15, "question_tokens": 10, "question_prompt_tokens": 4,
    }  # fmt: skip


def test_the_bill_counts_each_stages_own_tokens_once(run):
    found = {stage["name"]: stage for stage in make_bill(run, hardware="cpu")["stages"]}
    assert list(found) == ["questions", "answers", "select", "sft"], "what did not run is not on the bill"
    one = found["questions"]
    assert (one["rows"], one["kept"], one["rejects"]) == (3, 2, 1)
    assert (one["tokens_in"], one["tokens_out"]) == (12, 10 + 11 + 100), "what a reject cost was paid too"
    # six answers of 20 tokens; the prompt of each question was read once for three of them
    assert (found["answers"]["tokens_in"], found["answers"]["tokens_out"]) == (30, 120)
    assert (found["select"]["tokens_in"], found["select"]["tokens_out"]) == (0, 0), "a vote asks nobody"
    assert found["sft"]["tokens_in"] == 500


def test_totals_reconcile_with_the_stages_and_are_told_per_kept_row(run):
    found = make_bill(run, hardware="cpu")
    total = found["total"]
    for key in ("seconds", "gpu_hours", "price", "tokens_in", "tokens_out"):
        assert total[key] == pytest.approx(sum(stage[key] or 0 for stage in found["stages"]))
    assert total["seconds"] == 100 and total["kept_rows"] == 2
    assert total["seconds_per_kept_row"] == 50 and total["tokens_per_kept_row"] == (12 + 121 + 30 + 120 + 500) / 2
    assert total["per_kept_row"] == pytest.approx(100 / 3600 * 0.10 / 2)


def test_the_forecast_stands_beside_what_it_took(run):
    line = {"stage": "answers", "rows": 2.0, "kept": 6.0, "tokens_in": 40, "tokens_out": 100, "gpu_hours": 0.01,
            "seconds": 36.0, "price": 0.001}  # fmt: skip
    plan = {"hardware": {"name": "CPU", "gpus": 1}, "stages": [line], "total": {"seconds": 50.0, "price": 0.002}}
    (run / "plan.json").write_text(json.dumps(plan))
    text = bill(run)
    assert "forecast: 36 s" in text and "it took 1.67 times as long" in text, "stages without a forecast stay out"
    kept = json.loads((run / "bill.json").read_text())
    assert kept["stages"][1]["forecast"]["seconds"] == 36 and kept["stages"][0]["forecast"] is None


def test_what_was_asked_again_after_a_kill_is_on_the_bill(run):
    usage = {"usage/prompt_tokens": 45.0, "usage/output_tokens": 180.0, "usage/requests": 3.0}
    (run / "answers" / "figures.json").write_text(json.dumps({"usage": usage}))
    found = make_bill(run, hardware="cpu")["stages"][1]
    assert (found["tokens_in"], found["tokens_out"]) == (45, 180)


def test_a_gpu_is_paid_for_all_of_them_but_not_while_no_model_works(run):
    line = {"stage": "select", "rows": 2.0, "kept": 2.0, "tokens_in": 0, "tokens_out": 0, "gpu_hours": 0.0,
            "seconds": 1.0, "price": 0.0}  # fmt: skip
    plan = {"hardware": {"name": "H200", "gpus": 8}, "stages": [line], "total": {"seconds": 1.0, "price": 0.0}}
    (run / "plan.json").write_text(json.dumps(plan))
    found = {stage["name"]: stage for stage in make_bill(run)["stages"]}
    assert found["answers"]["gpu_hours"] == pytest.approx(60 * 8 / 3600)
    assert found["answers"]["price"] == pytest.approx(60 * 8 / 3600 * 3.29) and found["select"]["price"] == 0


def test_a_stage_that_was_stopped_is_billed_for_what_it_did(run):
    place = run / "evaluate" / "gsm8k" / "answers"
    with Ledger.open(place, schema=SCORE, config={"benchmark": "gsm8k"}, inputs={}) as made:
        for item in made.todo(iter([WorkItem("a", None), WorkItem("b", None)])):
            made.record(item.key, [])
            break
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["stages"][-1] |= {"status": "stopped", "seconds": 3.0}
    (run / "recipe.json").write_text(json.dumps(recipe))
    found = make_bill(run, hardware="cpu")["stages"][-1]
    assert (found["name"], found["status"], found["seconds"]) == ("evaluate", "stopped", 3.0)
    assert "evaluate" in bill(run, hardware="cpu")


def test_an_oracle_costs_no_tokens_and_an_api_costs_its_price(run):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["stages"][0]["overrides"] = ["stage=questions", "engine=oracle"]
    recipe["stages"][1]["overrides"] = ["stage=answers", "engine=openai", "engine.served=gpt-4o-mini"]
    (run / "recipe.json").write_text(json.dumps(recipe))
    line = {"stage": "answers", "rows": 2.0, "kept": 6.0, "tokens_in": 40, "tokens_out": 100, "gpu_hours": 0.0,
            "seconds": 36.0, "price": 0.001}  # fmt: skip
    plan = {"hardware": {"name": "H200", "gpus": 1}, "stages": [line], "total": {"seconds": 50.0, "price": 0.002}}
    (run / "plan.json").write_text(json.dumps(plan))
    found = {stage["name"]: stage for stage in make_bill(run)["stages"]}
    assert found["questions"]["tokens_out"] == 0 and "oracle" in found["questions"]["note"]
    assert found["answers"]["gpu_hours"] == 0
    assert found["answers"]["price"] == pytest.approx(30 * 0.15e-6 + 120 * 0.60e-6)


def test_a_directory_without_a_recipe_is_told(tmp_path):
    with pytest.raises(ConfigError, match="has no recipe.json: no recipe was run in it"):
        bill(tmp_path)
