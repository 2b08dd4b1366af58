"""The bill: its tokens are those that the stages' engines were asked for, its hours those of recipe.json."""

import json
from types import SimpleNamespace

import pytest
import yaml

from sq.core import provenance
from sq.core.errors import ConfigError
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import CANDIDATE, EXAMPLE, QUESTION, SCORE
from sq.recipe import devices, record
from sq.recipe.bill import bill, make_bill
from sq.recipe.devices import Devices
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe
from sq.recipe.plan import plan, renew_plan
from sq.recipe.progress import ProgressDisplay
from sq.recipe.run import _Run


def row(identity, **columns):
    return {"id": identity, "run": "r", "parents": [], "question": f"What is {identity}?", **columns}


def candidate(identity):
    return row(identity, question_id="q", response="so", response_index=0)


def example(identity):
    return candidate(identity) | {"query": "q", "selected_by": "majority"}


def score(identity, sample):
    asked = {"prediction_tokens": 20, "prediction_prompt_tokens": 7}
    return row(identity, benchmark="gsm8k", item="i", sample=sample, profile="strict", prediction="so", reference="1",
               correct=True, verdict="correct", **asked)  # fmt: skip


def write_ledger(place, schema, stage, results):
    with Ledger.open(place, schema=schema, config={"stage.name": stage}, inputs={}) as ledger:
        for _ in ledger.todo(iter([WorkItem(key, None) for key in results])):
            pass
        for key, (rows, rejects) in results.items():
            ledger.record(key, rows, [Reject(row=r, reason="bad", detail="") for r in rejects])
        ledger.finish()


def write_usage(place, **tokens):
    usage = {f"usage/{name}_tokens": float(count) for name, count in tokens.items()}
    (place / "figures.json").write_text(json.dumps({"usage": usage}))


def change(place, **changes):
    """Change stages of recipe.json, by name."""
    recipe = json.loads((place / "recipe.json").read_text())
    for stage in recipe["stages"]:
        stage |= changes.get(stage["name"], {})
    (place / "recipe.json").write_text(json.dumps(recipe))


def write_plan(place, gpus=1, hardware="CPU", **lines):
    common = {"rows": 2.0, "kept": 6.0, "tokens_in": 40, "tokens_out": 100, "price": 0.001, "seconds": 36.0}
    stages = [{"stage": name, **common, "gpu_hours": hours} for name, hours in lines.items()]
    plan = {"hardware": {"name": hardware, "gpus": gpus}, "stages": stages, "total": {"seconds": 50.0}}
    (place / "plan.json").write_text(json.dumps(plan))


def stages_of(place, **how):
    return {stage["name"]: stage for stage in make_bill(place, **how)["stages"]}


@pytest.fixture
def run(tmp_path):
    """Two questions kept of three, three answers each, one example chosen of each, and a student."""
    written = {
        "questions": (QUESTION, {f"q{i}": ([row(f"q{i}")], []) if i < 2 else ([], [row("q2")]) for i in range(3)}),
        "answers": (CANDIDATE, {f"q{i}": ([candidate(f"q{i}a{n}") for n in range(3)], []) for i in range(2)}),
        "select": (EXAMPLE, {f"q{i}": ([example(f"q{i}")], [candidate(f"q{i}a1")] * 2) for i in range(2)}),
    }
    for name, (schema, results) in written.items():
        write_ledger(tmp_path / name, schema, name, results)
    write_usage(tmp_path / "questions", prompt=12, output=121)
    write_usage(tmp_path / "answers", prompt=30, output=120)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "train.json").write_text(json.dumps({"figures": {}, "rows": 2, "tokens": 500}))
    stages = [
        {"name": name, "script": script, "stage": name, "variant": None, "output_dir": str(tmp_path / name),
         "status": "done" if seconds else "waiting", "seconds": seconds, "cpu_seconds": seconds}
        for name, script, seconds in (
            ("questions", "synthesize", 30.0), ("answers", "synthesize", 60.0), ("select", "synthesize", 0.5),
            ("sft", "train", 9.5), ("evaluate", "evaluate", 0.0),
        )
    ]  # fmt: skip
    recipe = {"recipe": "mine", "status": "done", "seconds": 101.0, "hardware": {"gpus": []}, "stages": stages}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    return tmp_path


def test_each_stage_has_its_rows_and_the_tokens_it_was_asked_for(run):
    found = stages_of(run, hardware="cpu")
    assert list(found) == ["questions", "answers", "select", "sft"], "what did not run is not on the bill"
    keys = ("rows", "kept", "rejects", "tokens_in", "tokens_out")
    assert [tuple(found[name][key] for key in keys) for name in found] == [
        (3, 2, 1, 12, 121), (2, 6, 0, 30, 120), (2, 2, 4, 0, 0), (2, None, None, 500, None)
    ]  # fmt: skip


def test_totals_reconcile_with_the_stages_and_are_given_per_kept_row(run):
    found = make_bill(run, hardware="cpu")
    total = found["total"]
    for key in ("seconds", "cpu_seconds", "gpu_hours", "price", "tokens_in", "tokens_out"):
        assert total[key] == pytest.approx(sum(stage[key] or 0 for stage in found["stages"]))
    assert total["seconds"] == 100 and total["kept_rows"] == 2
    assert total["seconds_per_kept_row"] == 50 and total["tokens_per_kept_row"] == (12 + 121 + 30 + 120 + 500) / 2
    assert total["per_kept_row"] == pytest.approx(100 / 3600 * 0.10 / 2)


def test_no_more_rows_are_kept_than_the_largest_student_learnt_from(run):
    (run / "sft" / "train.json").write_text(json.dumps({"figures": {}, "rows": 1, "tokens": 500}))
    assert make_bill(run, hardware="cpu")["total"]["kept_rows"] == 1


def test_the_forecast_stands_beside_what_it_took(run):
    write_plan(run, answers=0.01)
    text = bill(run)
    assert "forecast: 36 s" in text and "it took 1.67 times as long" in text, "stages without a forecast stay out"
    stages = json.loads((run / "bill.json").read_text())["stages"]
    assert stages[1]["forecast"]["seconds"] == 36 and stages[0]["forecast"] is None


def test_a_gpu_is_paid_for_all_of_them_but_not_while_no_model_works(run):
    write_plan(run, gpus=8, hardware="H200", answers=0.01, select=0.0)
    found = stages_of(run)
    assert found["answers"]["gpu_hours"] == pytest.approx(60 * 8 / 3600)
    assert found["answers"]["price"] == pytest.approx(60 * 8 / 3600 * 3.29) and found["select"]["price"] == 0


def test_a_stopped_evaluation_is_billed_for_what_it_did_and_its_prompts_once(run):
    place = run / "evaluate" / "gsm8k" / "answers"
    write_ledger(place, SCORE, "", {"a": ([score("a0", 0), score("a1", 1)], [])})
    change(run, evaluate={"status": "stopped", "seconds": 3.0})
    found = stages_of(run, hardware="cpu")["evaluate"]
    assert (found["status"], found["seconds"], found["tokens_in"], found["tokens_out"]) == ("stopped", 3.0, 7, 40)
    assert "evaluate" in bill(run, hardware="cpu")


def test_an_oracle_costs_no_tokens_and_an_api_costs_its_price(run):
    change(run, questions={"overrides": ["engine=oracle"]},
           answers={"overrides": ["engine=openai", "engine.served=gpt-4o-mini"]})  # fmt: skip
    write_plan(run, hardware="H200", answers=0.0)
    found = stages_of(run)
    assert found["questions"]["tokens_out"] == 0 and "oracle" in found["questions"]["note"]
    assert found["answers"]["gpu_hours"] == 0
    assert found["answers"]["price"] == pytest.approx(30 * 0.15e-6 + 120 * 0.60e-6)


USED = {"prompt": 30, "output": 120}


@pytest.mark.parametrize(
    ("overrides", "tokens", "dollars"),
    [
        (["engine=openai", "engine.served=gpt-4o-mini"], USED | {"scored": 5e6}, 30 * 0.15e-6 + 120 * 0.60e-6),
        (["engine=openai", "engine.served=gpt-4o-mini"], USED | {"api_prompt": 10, "api_output": 20},
         10 * 0.15e-6 + 20 * 0.60e-6),
        (["engine=openai", "engine.price_in=9"], USED | {"scored": 5e6}, 30 * 9e-6),
        (["engine=vllm", "+engine@stage.judge_engine=openai", "stage.judge_engine.price_in=2.5"],
         USED | {"api_prompt": 10, "api_output": 20}, 10 * 2.5e-6),
        (["engine=vllm"], USED, 0.0),
    ],
)  # fmt: skip
def test_what_is_paid_for_are_the_tokens_of_models_behind_an_api(run, overrides, tokens, dollars):
    """Not what a scorer on this machine reads, but a judge's too."""
    change(run, answers={"overrides": overrides})
    write_usage(run / "answers", **tokens)
    write_plan(run, hardware="H200", answers=0.0)
    assert stages_of(run)["answers"]["price"] == pytest.approx(dollars)


@pytest.mark.parametrize("script", ["synthesize", "evaluate"])
def test_what_asked_an_api_held_no_gpu(run, script):
    change(run, answers={"script": script, "overrides": ["engine=openai"]})
    write_plan(run, gpus=8, hardware="H200", answers=0.0)
    assert stages_of(run)["answers"]["gpu_hours"] == 0


TWO = {
    "labels": {"script": "synthesize", "set": {"stage": "fail_rate", "model": "tiny", "input": "domain", "limit": 50}},
    "answers": {"script": "synthesize", "set": {"stage": "answers", "model": "tiny", "input": "@labels"}},
    "api": {"script": "synthesize", "set": {"stage": "answers", "input": "@labels", "engine": "openai"}},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """`recipe("profile=node", ...)` -> two stages on GPUs and one over an API, on a machine of eight H200."""
    facts = {"cores": "8", "gpus": "; ".join(["NVIDIA H200, 143771 MiB, 570"] * 8), "cpu": "x", "system": "Linux"}
    for module in (devices, provenance, record):
        monkeypatch.setattr(module, "hardware", lambda: facts)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"title": "Two", "domain": "arithmetic", "stages": TWO}))
    return lambda *overrides: load_recipe(str(path), [f"output_dir={tmp_path / 'two'}", *overrides])


def test_a_stage_is_billed_for_the_gpus_that_it_had_each_time_it_ran(recipe):
    for hours, words in ((1, ["profile=gpu"]), (2, ["profile=node"])):
        loaded = recipe(*words)
        kept = record.updated_record(loaded, "sq run")
        running = _Run(loaded, kept, ProgressDisplay(), Devices(1, loaded.config.profile), False)
        running.jobs = check(loaded.stages)
        renew_plan(loaded, [])
        for stage in loaded.stages:
            assert running.devices.take(stage.name, running.jobs[stage.name])
            running.running[stage.name] = SimpleNamespace(stage=stage, seconds=hours * 3600, cpu_seconds=0)
            running._leave(running.running[stage.name])
            kept.stage(stage.name).status = "stopped"
        kept.write()
    found = stages_of(loaded.output_dir)
    assert {name: stage["gpu_hours"] for name, stage in found.items()} == {"labels": 17, "answers": 17, "api": 0}
    assert found["labels"]["price"] == pytest.approx(17 * 3.29)
    kept.stage("labels").forget()
    assert kept.stage("labels").gpu_seconds is None


def test_under_another_profile_what_is_not_done_is_planned_anew(recipe):
    def planned(*words, done=()):
        renew_plan(recipe(*words), done)
        kept = json.loads((recipe().output_dir / "plan.json").read_text())
        assert kept["total"]["seconds"] == pytest.approx(sum(line["seconds"] for line in kept["stages"]))
        return kept["hardware"]["gpus"], {line["stage"]: line["gpus"] for line in kept["stages"]}

    assert planned("profile=gpu") == (1, {"labels": 1, "answers": 1, "api": 1})
    assert planned("profile=node", done=["labels"]) == (8, {"labels": 1, "answers": 8, "api": 1})
    path = recipe().output_dir / "plan.json"
    path.write_text(path.read_text().replace('"recipe": "two"', '"recipe": "as it was"'))
    planned("profile=node", done=["labels"])
    assert "as it was" in path.read_text(), "nothing has changed"
    assert planned("profile=node", "answers.workers=2", done=["labels"])[1]["answers"] == 2


@pytest.mark.parametrize(
    ("visible", "words", "gpus"),
    [
        (None, [], 1),
        ("0", ["answers.workers=4"], 0),
        (None, ["answers.workers=4"], 4),
        ("0,1", ["answers.workers=2"], 2),
    ],
)
def test_without_a_profile_a_stage_is_planned_on_the_gpus_that_it_would_use(recipe, monkeypatch, visible, words, gpus):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not gpus:
        with pytest.raises(ConfigError, match="answers: workers=4 need 4 GPUs, 1 each, and this machine shows 1"):
            plan(recipe(*words))
        return
    found = plan(recipe(*words))
    assert (found.gpus, found.hardware.name) == (8 if visible is None else 2, "H200")
    assert {one.stage.name: one.gpus for one in found.costs} == {"labels": 1, "answers": gpus, "api": 1}
    assert {one.gpus for one in plan(recipe(*words), gpus=8).costs} == {8, 1}, "as one says it"


def test_a_directory_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no recipe.json: no recipe was run in it"):
        bill(tmp_path)
