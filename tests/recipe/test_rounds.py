"""Rounds of a recipe that end by what was measured: which stages wait for a gain, what is passed over without one."""

import json
from pathlib import Path

import pytest
import yaml
from forked_command import run

from sq.core.errors import ConfigError
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import JUDGED, row_id
from sq.recipe.load import load_recipe
from sq.recipe.record import Status, updated_record
from sq.recipe.rounds import pass_over
from sq.synth.question_value import closeness, gain, kept_round, measured_questions

ROUNDS = {
    "_target_": "sq.recipe.config.RecipeConfig",
    "title": "Rounds",
    "set": {"tracking": "none"},
    "scripts": {"synthesize": {"engine": "oracle"}},
    "tracking": {"enabled": False},
    "let": {"rounds": 3},
    "stages": {
        "labels-0": {"script": "synthesize", "set": {"stage": "fail_rate", "limit": 8, "stage.n": 2}},
        "measured-0": {"script": "synthesize", "set": {"stage": "filter", "input": "@labels-0"}},
        "labels-{round}": {
            "script": "synthesize",
            "each": {"round": "{rounds}"},
            "gain": "measured-{round}",
            "set": {"stage": "fail_rate", "input": "@labels-{round-1}", "stage.n": 2},
        },
        "measured-{round}": {
            "script": "synthesize",
            "each": {"round": "{rounds}"},
            "set": {"stage": "filter", "input": "@labels-{round}"},
        },
    },
}
FILTERS = ["pass_rate", "solvability"]
for one in ("measured-0", "measured-{round}"):
    ROUNDS["stages"][one]["set"] |= {
        "filters": FILTERS, "filters.pass_rate.min": 0.0, "filters.pass_rate.k": 4, "filters.pass_rate.step": 2,
        "engine.error_rate": 0.5, "stage.scores": "{output}/scores/{name}",
    }  # fmt: skip


@pytest.fixture
def recipe(tmp_path):
    """`recipe("rounds=2", ...)` -> the recipe with these overrides, in a directory of its own."""
    path = tmp_path / "rounds.yaml"
    path.write_text(yaml.safe_dump(ROUNDS, sort_keys=False))
    return lambda *given: load_recipe(str(path), [f"output_dir={tmp_path}/out", *given])


def measured(directory, rates, unsolvable=0):
    """A stage that measured questions: kept ones with these fail rates, and so many that its judge rejected."""
    rows = [{"question": f"q{n}", "pass_rate": None if rate is None else 1 - rate} for n, rate in enumerate(rates)]
    rows += [{"question": f"bad {n}"} for n in range(unsolvable)]
    items = [WorkItem(row_id("q", of=str(directory), **row), row) for row in rows]
    with Ledger.open(directory, schema=JUDGED, config={"stage.name": "filter"}) as ledger:
        for item in ledger.todo(items):
            row = {"id": item.key, "run": "r", "parents": [], **item.payload}
            bad = "pass_rate" not in row
            rejects = [Reject(row=row, reason="unsolvable", detail="")] if bad else []
            ledger.record(item.key, rows=[] if bad else [row], rejects=rejects)
        ledger.finish()


def test_a_round_reads_the_one_before_and_waits_for_its_gain(recipe):
    stages = {stage.name: stage for stage in recipe().stages}
    assert len(stages) == 8 and "labels-3" in stages
    assert stages["labels-1"].gain is None and stages["labels-1"].reads == ("labels-0",)
    assert stages["labels-3"].gain == ("measured-1", "measured-2")
    assert stages["labels-3"].reads == ("labels-2", "measured-1", "measured-2")
    seeded = {stage.name: stage for stage in recipe("seeds=[0,1]", "rounds=2").stages}
    assert len(seeded) == 12 and seeded["labels-2-s1"].gain == ("measured-0-s1", "measured-1-s1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("rounds=0",), r"each\.round=\[\] is no list of values, nor a number above 0"),
        (("rounds=[a]",), r"\{round-1\} takes one from round='a', which is no whole number"),
        (("stages.labels-0.gain='measured-{round}'",), r"gain=measured-\{round\} is for a stage with each\.round"),
    ],
)
def test_rounds_that_are_none_are_an_error(recipe, given, message):
    with pytest.raises(ConfigError, match=message):
        recipe(*given)


@pytest.mark.parametrize(
    ("second", "passed"),
    [
        (([0.5] * 20, 0), []),  # a clear gain
        (([0.5] * 6 + [1.0] * 6, 8), ["labels-2", "measured-2", "labels-3", "measured-3"]),  # none
        (([0.1] * 4, 16), ["labels-2", "measured-2", "labels-3", "measured-3"]),  # a loss
    ],
)
def test_without_a_gain_the_next_round_and_all_that_reads_it_are_passed_over(recipe, second, passed):
    own = recipe()
    record = updated_record(own, "sq run")
    measured(own.output_dir / "measured-0", [0.5] * 10, 10)
    measured(own.output_dir / "measured-1", *second)
    waiting = [stage for stage in own.stages if stage.name.endswith(("2", "3"))]
    finished = {"labels-0", "measured-0", "labels-1", "measured-1"}
    said = pass_over(own, record, waiting, finished)
    assert {s.name for s in record.stages if s.status == Status.PASSED_OVER} == set(passed)
    assert list(said) == passed[:1] and {stage.name for stage in waiting} | set(passed) == {
        "labels-2", "measured-2", "labels-3", "measured-3"
    }  # fmt: skip
    if passed:
        assert "the questions of measured-1 show no gain in value on those of measured-0" in said["labels-2"]
        assert record.stage("measured-3").last == "passed over: it reads labels-3"


def test_a_round_that_was_passed_over_is_run_once_it_has_its_gain(recipe):
    own = recipe("rounds=2")
    record = updated_record(own, "sq run")
    record.stage("labels-2").status = Status.PASSED_OVER
    for name, rates in (("measured-0", [0.9] * 20), ("measured-1", [0.5] * 20)):
        measured(own.output_dir / name, rates)
    waiting = [stage for stage in own.stages if stage.name == "labels-2"]
    assert not pass_over(own, record, waiting, {"labels-1", "measured-0", "measured-1"})
    assert waiting and record.stage("labels-2").status == Status.WAITING


def test_what_questions_are_worth_and_which_round_is_kept(tmp_path):
    for name, rates, bad in (("a", [0.5, 0.75], 2), ("b", [0.5] * 30, 0), ("c", [0.5] * 29, 1)):
        measured(tmp_path / name, rates, bad)
    rounds = [measured_questions(tmp_path / name, 0.5) for name in "abc"]
    assert rounds[0].values == [1.0, 0.5, 0.0, 0.0] and rounds[0].fail_rate.value == 0.625
    assert (rounds[0].share.value, rounds[0].value.value) == (0.5, 0.375)
    first = gain(rounds[0], rounds[1])
    assert first.value == pytest.approx(0.625) and first.low == pytest.approx(0.625 - 1.96 * 0.2394, abs=1e-3)
    kept, gains = kept_round(rounds)
    assert kept == 1 and gains[1].low < 0 < -gains[1].value
    assert kept_round(rounds[:1]) == (0, [])
    assert closeness(0.2, 0.2) == 1.0


def test_a_round_that_was_measured_without_pass_rates_is_an_error_that_says_so(tmp_path):
    measured(tmp_path / "m", [None])
    with pytest.raises(ConfigError, match=r"without a pass rate: a round is measured by a stage=filter whose"):
        measured_questions(tmp_path / "m", 0.5)


@pytest.mark.slow
def test_a_recipe_ends_after_the_round_without_gain_and_is_complete(recipe, tmp_path, environment):
    recipe()
    words = ["run", str(tmp_path / "rounds.yaml"), "rounds=2", "output_dir=out"]
    done = run(Path(__file__).with_name("forked_run.py"), words, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert "labels-2   passed over: the questions of measured-1 show no gain" in done.stderr
    record = json.loads((tmp_path / "out/recipe.json").read_text())
    assert record["status"] == "done" and not (tmp_path / "out/labels-2").exists()
    assert [s["status"] for s in record["stages"]] == ["done"] * 4 + ["passed over"] * 2
    assert [s["attempts"] for s in record["stages"]] == [1] * 4 + [0] * 2
