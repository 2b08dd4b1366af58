"""A forecast follows what this machine took in earlier runs, and a file of them that is broken stops nothing."""

import json

import pytest
import yaml

from sq.core.ledger import Ledger, WorkItem
from sq.core.rows import QUESTION
from sq.recipe import rates
from sq.recipe.bill import make_bill
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe
from sq.recipe.plan import learn, plan, write_plan
from sq.recipe.plan_text import format_plan
from sq.recipe.record import updated_record

STAGES = {
    "ask": {"script": "synthesize", "set": {"stage": "questions", "model": "tiny", "engine": "hf", "stage.count": 40}},
    "sft": {"script": "train", "set": {"stage": "sft", "model": "tiny-base", "data.input": "@ask"}},
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "cache" / "rates.json"
    monkeypatch.setenv("SQ_RATES", str(path))
    return path


@pytest.fixture
def recipe(tmp_path):
    """`recipe("seed=1", name="mine")` -> a recipe of two stages, or of those given."""

    def loaded(*overrides, name="mine", stages=STAGES):
        path = tmp_path / f"{name}.yaml"
        text = {"_target_": "sq.recipe.config.RecipeConfig", "title": "x", "stages": stages}
        path.write_text(yaml.safe_dump(text))
        return load_recipe(str(path), [f"output_dir={tmp_path / name}", *overrides])

    return loaded


def seconds(recipe, stage, **how):
    return sum(one.seconds for one in plan(recipe, hardware="cpu", **how).costs if one.stage.name == stage)


def write_ledger(place, items):
    with Ledger.open(place, schema=QUESTION, config={"stage.name": "x"}, inputs={}) as ledger:
        for item in ledger.todo(iter([WorkItem(f"q{i}", None) for i in range(items)])):
            ledger.record(item.key, [{"id": item.key, "run": "r", "parents": [], "question": item.key}], [])
        ledger.finish()


def run(recipe, took, rows=40, attempts=1):
    """As if both stages had run: with these seconds, and as many rows."""
    write_plan(recipe, recipe.output_dir, hardware="cpu")
    record = updated_record(recipe, "sq run")
    write_ledger(recipe.output_dir / "ask", rows)
    (recipe.output_dir / "sft").mkdir()
    (recipe.output_dir / "sft" / "train.json").write_text(json.dumps({"rows": rows}))
    for stage in record.stages:
        stage.seconds, stage.attempts = took, attempts
        learn(recipe, stage)


def test_the_second_forecast_is_what_the_first_run_took(file, recipe):
    before = {stage: seconds(recipe(), stage) for stage in STAGES}
    run(recipe(), took=70.0)
    assert {stage: seconds(recipe(), stage) for stage in STAGES} == pytest.approx(dict.fromkeys(STAGES, 70.0), rel=1e-3)
    text, found = format_plan(plan(recipe(), hardware="cpu")), plan(recipe(), hardware="cpu")
    assert f"2 of 2 stages by what they took here before ({file})" in text
    assert found.price == pytest.approx(found.hours * found.hardware.price)
    run(recipe(name="again"), took=90.0)
    assert seconds(recipe(name="again"), "sft") == pytest.approx(90.0, rel=1e-3), "of one name alone"
    assert seconds(recipe(name="other"), "sft") == pytest.approx(80.0, rel=1e-3), "the median of its kind"
    other = {"sft.model": "tiny", "ask.engine": "oracle", "parallel": 2}
    for key, value in other.items():
        stage = key.partition(".")[0] if "." in key else "sft"
        assert seconds(recipe(f"{key}={value}"), stage) != pytest.approx(70.0, rel=1e-3), key
    assert seconds(recipe(), "sft", changes={"hardware": {"peak": 0.52}}) == pytest.approx(before["sft"]), "as it says"


def test_a_forecast_of_more_rows_grows_from_what_was_measured(file, recipe):
    """The run had half of the rows that were planned: its start is shared by fewer."""
    (ask,) = (one for one in plan(recipe(), hardware="cpu").costs if one.stage.name == "ask")
    run(recipe("ask.stage.count=20000"), took=70.0, rows=10_000)
    expected = 70.0 * (ask.start + 500 * ask.busy) / (ask.start + 250 * ask.busy)
    assert seconds(recipe("ask.stage.count=20000"), "ask") == pytest.approx(expected, rel=1e-3)


SOLVER = {"stage": "rewrite", "stage.source": "solver", "stage.window": 16, "limit": 40}
SEVERAL = {"stage": "questions", "stage.generators": {"tiny": 1, "tiny-base": 1}, "stage.count": 20}


@pytest.mark.parametrize(
    ("sets", "planned"),
    [
        *(({"stage": "questions", "source": name, "stage.count": 20}, 20) for name in ("evol", "iqc", "orca")),
        (SEVERAL, 10),
        ({"stage": "annotate", "stage.ask": ["concepts", "topic", "difficulty"], "limit": 20}, 20),
        (SOLVER, 40),
        (SOLVER | {"stage.source": "success_rate"}, 40),
        ({"stage": "answers", "stage.n": 3, "limit": 20}, 20),
    ],
)
def test_a_stage_that_took_its_forecast_teaches_nothing_new_whatever_its_items(file, recipe, sets, planned):
    """Items are windows of questions, or ask several times; the bill counts rows as the forecast does."""
    asked = {"model": "tiny", "engine": "hf", **({} if sets["stage"] == "questions" else {"input": "domain"})}
    loaded = recipe(stages={"ask": {"script": "synthesize", "set": asked | sets}})
    record = updated_record(loaded, "sq run")
    (job,), (stage,) = check(loaded.stages).values(), record.stages
    write_plan(loaded, loaded.output_dir, hardware="cpu")
    write_ledger(loaded.output_dir / "ask", job.stage.spec(job).total)
    stage.seconds, stage.attempts, stage.status = seconds(loaded, "ask"), 1, "done"
    learn(loaded, stage)
    assert {ratio for kept in rates.read_rates().values() for ratio in kept} == {1.0}
    record.write()
    (billed,) = make_bill(loaded.output_dir)["stages"]
    assert billed["forecast"]["rows"] == planned
    assert billed["rows"] == (20 if sets is SEVERAL else planned)


def test_an_evaluation_is_measured_by_its_problems_whatever_else_is_kept_of_them(file, recipe):
    sets = {"benchmark": "arithmetic", "model": "tiny", "engine": "hf", "n": 2, "temperature": 0.7, "limit": 10}
    loaded = recipe(stages={"test": {"script": "evaluate", "set": sets}})
    (stage,) = updated_record(loaded, "sq run").stages
    write_plan(loaded, loaded.output_dir, hardware="cpu")
    for name, items in (("answers", 10), ("rewards", 20), ("scores", 20)):
        write_ledger(loaded.output_dir / "test" / "arithmetic" / name, items)
    stage.seconds, stage.attempts = seconds(loaded, "test"), 1
    learn(loaded, stage)
    assert {ratio for kept in rates.read_rates().values() for ratio in kept} == {1.0}


@pytest.mark.parametrize(("asked", "stored"), [(40, 0), (20, 20), (10, 30), (0, 40)])
def test_a_filter_is_measured_by_the_questions_that_it_asked_about(file, recipe, asked, stored):
    sets = {"stage": "filter", "model": "tiny", "engine": "hf", "input": "domain", "limit": 40}
    loaded = recipe(stages={"judge": {"script": "synthesize", "set": sets | {"filters": ["solvability"]}}})
    (stage,) = updated_record(loaded, "sq run").stages
    write_plan(loaded, loaded.output_dir, hardware="cpu")
    write_ledger(loaded.output_dir / "judge", 40)
    usage = {"usage/requests": asked, "usage/stored": stored}
    (loaded.output_dir / "judge" / "figures.json").write_text(json.dumps({"usage": usage}))
    (one,) = plan(loaded, hardware="cpu").costs
    stage.seconds, stage.attempts = one.start + one.busy * asked / 40, 1
    learn(loaded, stage)
    assert {ratio for kept in rates.read_rates().values() for ratio in kept} == ({1.0} if asked else set())


@pytest.mark.parametrize("how", [{"attempts": 2}, {"rows": 0}, {"took": 1e6}])
def test_what_says_nothing_of_a_stage_is_not_kept(file, recipe, how):
    run(recipe(), **{"took": 70.0, **how})
    assert not file.exists()


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', '{"a": ["x"]}'])
def test_a_broken_file_is_passed_over_with_a_line_and_replaced(file, recipe, caplog, text):
    file.parent.mkdir()
    file.write_text(text)
    before = seconds(recipe(), "sft")
    assert before > 0 and f"{file} is passed over" in caplog.text
    run(recipe(), took=70.0)
    assert seconds(recipe(), "sft") == pytest.approx(70.0, rel=1e-3)


def test_the_latest_are_kept_and_no_more(file, monkeypatch):
    monkeypatch.setattr(rates, "STAGES", 3)
    for i in range(8):
        rates.add_ratio(["always", f"once {i}"], 1.0 + i)
    kept = {"once 6": [7.0], "always": [4.0, 5.0, 6.0, 7.0, 8.0], "once 7": [8.0]}
    assert list(rates.read_rates().items()) == list(kept.items())


def test_with_an_empty_name_nothing_is_read_or_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("SQ_RATES", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    rates.add_ratio(["a"], 2.0)
    assert rates.read_rates() == {} and not list(tmp_path.iterdir())
