"""Forecasts: closed forms by hand, rows through a recipe, and the paper's recipe beside published recomputations."""

import json
import random

import pytest

from sq.core import provenance
from sq.core.errors import ConfigError
from sq.recipe.cost import PlanStage, Use, cost
from sq.recipe.hardware import HardwareConfig
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe, recipes
from sq.recipe.paper import ROWS, TOTAL_DOLLARS, TOTAL_HOURS
from sq.recipe.plan import as_json, plan, write_plan
from sq.recipe.plan_text import format_plan
from sq.recipe.sizes import load_sizes
from sq.synth.allocation import ALLOCATIONS, mean_samples_wanted, samples_wanted

PAPER = """\
_target_: sq.recipe.config.RecipeConfig
title: the paper's setting
domain: math
engine: vllm
stages:
  qft-a: {script: train, set: {stage: qft, model: deepseek-math-7b-rl, data: gsm8k-math}}
  qft-b: {script: train, set: {stage: qft, model: qwen2-math-7b-instruct, data: gsm8k-math}}
  some-a: {script: synthesize, set: {stage: questions, model.path: "@qft-a/model", stage.count: 10000}}
  some-b: {script: synthesize, set: {stage: questions, model.path: "@qft-b/model", stage.count: 10000}}
  pairs-a: {script: synthesize, set: {stage: rewrite, input: "@some-a", engine: openai, engine.served: gpt-4o-mini}}
  pairs-b: {script: synthesize, set: {stage: rewrite, input: "@some-b", engine: openai, engine.served: gpt-4o-mini}}
  qpo-a: {script: train, set: {stage: qpo, model.path: "@qft-a/model", data.input: "@pairs-a"}}
  qpo-b: {script: train, set: {stage: qpo, model.path: "@qft-b/model", data.input: "@pairs-b"}}
  questions:
    script: synthesize
    set: {stage: questions, stage.count: 2000000, stage.generators: {"@qpo-a/model": 0.5, "@qpo-b/model": 0.5}}
  labels: {script: synthesize, set: {stage: fail_rate, model: deepseek-math-7b-rl, input: openai/gsm8k, stage.n: 4}}
  scorer: {script: train, set: {stage: difficulty, model: deepseek-math-7b, data.input: "@labels"}}
  filter:
    script: synthesize
    set:
      stage: filter
      input: "@questions"
      model: qwen2-math-7b-instruct
      filters: [language, solvability, difficulty]
      filters.difficulty.model: {name: scorer, path: "@scorer/model"}
      filters.difficulty.generators: [qpo-a]
  answers: {script: synthesize, set: {stage: answers, input: "@filter", model: qwen2-math-7b-instruct}}
  select:
    script: synthesize
    set: {stage: select, input: "@answers", model.name: reward, model.path: internlm/internlm2-7b-reward}
  sft: {script: train, set: {stage: sft, model: qwen2-math-7b, data.input: "@select"}}
"""

LABELS = """\
_target_: sq.recipe.config.RecipeConfig
title: labels alone
stages:
  labels: {script: synthesize, set: {stage: fail_rate, model: tiny, engine: hf, input: me/problems}}
"""


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "scalequest-math.yaml"
    path.write_text(PAPER)
    return load_recipe(str(path))


@pytest.fixture(scope="module")
def planned(paper):
    """A plan of the paper's recipe, whose stages are composed once for all tests."""
    jobs = check(paper.stages)
    return lambda **how: plan(paper, jobs=jobs, **how)


@pytest.fixture(scope="module")
def a100(planned):
    return planned(hardware="A100-80G")


def device(**metrics):
    sources = dict.fromkeys(("peak", "decode", "prefill_share", "train_share", "start", "price"), "by hand")
    given = {
        "name": "X", "peak": 100.0, "reference": 10.0, "decode": 1000.0, "prefill_share": 0.5, "train_share": 0.5,
        "most_decode": 1e12, "most_prefill": 1e15, "most_train": 1e15, "start_engine": 0.0, "start_train": 0.0,
        "start_other": 0.0, "price": 2.0, "sources": sources, **metrics,
    }  # fmt: skip
    return HardwareConfig(**given)


def stage(use, **metrics):
    return PlanStage(**{"name": "s", "phase": "answers", "what": "w", "use": use, "parameters": 5.0, "rows": 1000.0,
                        **metrics})  # fmt: skip


def by_what(found, what):
    return [one for one in found.costs if one.stage.what == what]


# Closed forms


def test_generation_is_prefill_at_a_share_of_the_peak_and_decoding_scaled_by_parameters():
    done = cost(stage(Use.GENERATE, samples=5, shared=50, prompt=100, output=200), device())
    # 5B of 10B at 1,000 tokens/s: 2,000 tokens/s; 2 x 5e9 FLOPs a token at 50 TFLOP/s: 0.2 ms
    assert done.tokens_in == 150_000 and done.tokens_out == 1_000_000
    assert done.busy == pytest.approx(1_000_000 / 2000 + 100_000 * 2e-4)
    assert done.hours == pytest.approx(520 / 3600) and done.price == pytest.approx(2 * 520 / 3600)


def test_training_is_six_flops_a_parameter_and_the_reference_pass_two_more():
    plain = cost(stage(Use.TRAIN, samples=2, prompt=100, epochs=3), device())
    assert plain.tokens_in == 600_000 and plain.busy == pytest.approx(600_000 * 6 * 5e9 / 50e12)
    assert cost(stage(Use.TRAIN, prompt=100, forward_only=1), device()).busy == pytest.approx(1e5 * 8 * 5e9 / 50e12)
    assert cost(stage(Use.TRAIN, prompt=100, recompute=True), device()).busy == pytest.approx(1e5 * 8 * 5e9 / 50e12)


@pytest.mark.parametrize(
    ("settings, tokens"),
    [
        ({"step_tokens": 250.0, "most_steps": 2}, 500),  # ends after two steps
        ({"step_tokens": 250.0, "epochs": 2}, 200_000),
        ({"step_tokens": 1e6}, 100_000),  # a step is at most one pass over the data
        ({"step_tokens": 1e6, "epochs": 2, "most_steps": 1}, 100_000),
        ({"step_tokens": 1e6, "epochs": 0.1}, 100_000),  # and at least one is done
        ({"step_tokens": 2e4, "epochs": 0.1}, 20_000),
    ],
)
def test_a_training_reads_whole_steps_and_none_is_more_than_a_pass(settings, tokens):
    assert cost(stage(Use.TRAIN, prompt=100, **settings), device()).tokens_in == tokens


def test_scoring_only_reads_and_an_api_costs_money_but_no_hours():
    scored = cost(stage(Use.SCORE, samples=5, prompt=500), device())
    assert scored.tokens_out == 0 and scored.busy == pytest.approx(2_500_000 * 2e-4)
    asked = cost(stage(Use.API, prompt=300, output=450, api=(0.15e-6, 0.6e-6)), device())
    assert asked.hours == 0 and asked.price == pytest.approx(1000 * (300 * 0.15e-6 + 450 * 0.6e-6))


def test_more_devices_take_less_time_but_as_many_hours_beside_their_starts():
    one, eight = (cost(stage(Use.GENERATE, output=100), device(start_engine=60.0), gpus) for gpus in (1, 8))
    assert eight.busy == one.busy and eight.seconds == pytest.approx(one.busy / 8 + 60)
    assert eight.hours - one.hours == pytest.approx(7 * 60 / 3600)


def test_a_model_that_is_small_enough_is_bound_by_the_engine():
    tiny = device(most_decode=20_000)
    assert 1 / tiny.decode_seconds(0.001) == pytest.approx(20_000, rel=0.01)
    assert 1 / tiny.decode_seconds(10) == pytest.approx(1000)


# The table and the assumptions


def test_sizes_come_from_the_table_the_disk_or_the_name():
    sizes = load_sizes()
    assert sizes.billions("Qwen/Qwen2-Math-7B") == 7.62
    assert sizes.billions("package:tiny") == pytest.approx(0.001967808)
    assert sizes.billions("Qwen/Qwen3-30B-A3B") == 3 and sizes.billions("x/Y-1.7B") == 1.7
    assert sizes.billions("HuggingFaceTB/SmolLM2-360M-Instruct") == pytest.approx(0.36)
    with pytest.raises(ConfigError, match="size of model me/mine is not known"):
        sizes.billions("me/mine")


# The paper's recipe


def test_rows_flow_by_the_shares_that_the_paper_tells(a100):
    (judge,), (scored,), (answers,) = (
        by_what(a100, w) for w in ("judge solvability", "score difficulty", "answer, 5 each")
    )
    assert judge.stage.rows == pytest.approx(2e6 * 0.799)
    assert scored.stage.rows == pytest.approx(1e6 * 0.799 * 0.757), "one generator's questions are scored"
    assert answers.stage.rows == pytest.approx(2e6 * (1 - 0.201 - 0.194 - 0.092), rel=0.005)
    assert a100.kept == pytest.approx(answers.stage.rows)
    (sft,) = by_what(a100, "train student")
    assert sft.stage.rows == a100.kept and sft.stage.epochs == 3
    assert {one.stage.forward_only for one in by_what(a100, "train on pairs")} == {1.0}, "the reference's pass"


def test_models_trained_by_the_recipe_keep_their_size(a100):
    sizes = {one.stage.name: one.stage.parameters for one in a100.costs}
    assert sizes["some-a"] == sizes["qpo-a"] == 6.91 and sizes["some-b"] == sizes["qpo-b"] == 7.62
    assert [one.stage.parameters for one in a100.costs if one.stage.name == "questions"] == [6.91, 7.62]
    assert by_what(a100, "score difficulty")[0].stage.parameters == 6.91


@pytest.mark.parametrize(
    ("hardware", "total", "rows"),
    [
        ("A100-80G", 296, {"questions": 8.1, "filter": 62.4, "answers": 152, "reward": 73}),
        ("H200", 99, {"questions": 2.7, "filter": 20.7, "answers": 50, "reward": 25}),
    ],
)
def test_the_papers_recipe_comes_out_near_published_recomputations(planned, hardware, total, rows):
    found = as_json(planned(hardware=hardware))["paper"]
    hours = {row["phase"]: row["gpu_hours"] for row in found["rows"]}
    assert found["hours"] == pytest.approx(total, rel=0.15)
    for phase, expected in rows.items():
        assert hours[phase] == pytest.approx(expected, rel=0.15), phase
    assert sum(r["gpu_hours"] for r in found["rows"] if r["phase"] in ("QFT", "QPO")) < 2


def test_the_papers_table_adds_up_and_stands_beside_the_forecast(a100):
    assert sum(row.paper_hours for row in ROWS) == pytest.approx(TOTAL_HOURS)
    assert sum(row.paper_price for row in ROWS) == pytest.approx(TOTAL_DOLLARS, abs=0.5)
    paper = as_json(a100)["paper"]
    elsewhere = [one.hours for one in a100.costs if one.stage.phase in paper["not_in_it"]]
    assert paper["hours"] + sum(elsewhere) == pytest.approx(a100.hours)
    assert paper["not_in_it"] == ["difficulty", "student"], "labels, the scorer and students are in no row of it"
    text = format_plan(a100)
    assert "522.9" in text and all(row.why in text for row in ROWS)


def test_assumptions_and_prices_can_be_replaced(planned, a100):
    longer = planned(hardware="A100-80G", changes={"assume": {"answer": 906}, "hardware": {"price": 3.58}})
    (now,), (before,) = (by_what(p, "answer, 5 each") for p in (longer, a100))
    assert now.tokens_out == pytest.approx(2 * before.tokens_out)
    assert now.price == pytest.approx(now.hours * 3.58)
    kept = planned(hardware="A100-80G", changes={"assume": {"keep.solvability": 0.5}})
    assert kept.kept == pytest.approx(a100.kept * 0.5 / 0.757)


DART = """\
_target_: sq.recipe.config.RecipeConfig
title: answers by difficulty
domain: math
engine: vllm
stages:
  labels: {script: synthesize, set: {stage: fail_rate, model: tiny, input: openai/gsm8k, limit: 1000, stage.n: 4}}
  dart: {script: synthesize, set: {stage: questions, source: dart, input: "@labels", stage.count: 1000}}
  hard: {script: synthesize, set: {stage: filter, input: "@dart", filters: [format], where: fail_rate > 0.2}}
  answers: {script: synthesize, set: {stage: answers, input: "@hard", model: qwen2-math-7b}}
  by: {script: synthesize, set: {stage: answers, input: "@labels", model: qwen2-math-7b, stage.n_by: fail_rate}}
  greedy: {script: synthesize, set: {stage: answers, input: "@hard", model: tiny, stage.n: 1, stage.temperature: 0}}
"""


@pytest.mark.parametrize(
    ("assume", "rows", "dart", "by"),
    # labels of 4 answers, 0 to 4 of them wrong as often as each other: 1, 2, 4, 12, 64 samples; by: 1, 3, 6, 16, 64
    [({"fail_rate": 0.5, "keep.where": 0.3}, 300, 16.6, 18), ({"fail_rate": 0.0, "keep.where": 1.0}, 1000, 1, 1)],
)
def test_where_leaves_a_share_and_difficulty_asks_for_solutions(tmp_path, assume, rows, dart, by):
    (tmp_path / "dart.yaml").write_text(DART)
    forecast = plan(load_recipe(str(tmp_path / "dart.yaml"), []), hardware="h200", changes={"assume": assume})
    answers = {one.stage.name: one.stage for one in forecast.costs if one.stage.phase == "answers"}
    assert (answers["answers"].rows, answers["answers"].samples) == (rows, pytest.approx(dart))
    assert (answers["by"].rows, answers["by"].samples) == (1000, pytest.approx(by))
    assert answers["answers"].kept == pytest.approx(rows * dart) and answers["greedy"].kept == rows


@pytest.mark.parametrize("fail_rate, counted", [(0.25, 4), (0.5, 16), (0.8, 3)])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_mean_of_samples_is_that_of_labels_drawn(fail_rate, counted, allocation):
    rng, many, how = random.Random(3), 20_000, {"allocation": allocation, "right": 4, "most": 64}
    rates = [rng.betavariate(2 * fail_rate, 2 - 2 * fail_rate) for _ in range(many)]
    labels = [sum(rng.random() < rate for _ in range(counted)) / counted for rate in rates]
    drawn = sum(samples_wanted(label, **how) for label in labels) / many
    assert mean_samples_wanted(fail_rate, counted, **how) == pytest.approx(drawn, rel=0.04)


def test_the_counts_of_the_recipe_decide(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PAPER.replace("stage.count: 2000000", "stage.count: 1000"))
    small = plan(load_recipe(str(path), ["answers.stage.n=2", "answers.limit=100"]), hardware="h200")
    (answers,) = [one for one in small.costs if one.stage.phase == "answers"]
    assert (answers.stage.rows, answers.stage.samples) == (100, 2) and small.kept == 100
    assert as_json(small)["paper"] is None


def test_rows_that_cannot_be_known_are_asked_for(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(LABELS)
    recipe = load_recipe(str(path))
    with pytest.raises(ConfigError, match="how many rows me/problems has is not known.*sizes.rows"):
        plan(recipe)
    found = plan(recipe, changes={"sizes": {"rows.me/problems": 50}})
    assert by_what(found, "count failures")[0].stage.rows == 50
    for name, text in (("mine.csv", "question\n" + "1+1?\n" * 30), ("mine.jsonl", '{"question": "1+1?"}\n' * 30)):
        (tmp_path / name).write_text(text)
        path.write_text(LABELS.replace("me/problems", str(tmp_path / name)))
        assert by_what(plan(load_recipe(str(path))), "count failures")[0].stage.rows == 30
    write_plan(recipe, tmp_path)
    assert "how many rows" in json.loads((tmp_path / "plan.json").read_text())["note"]


def test_a_profile_says_how_many_gpus_each_stage_has_and_which_where_none_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": "none"})
    path = tmp_path / "mine.yaml"
    path.write_text(
        LABELS.replace("engine: hf", 'engine: "{engine}"')
        + """
  sft: {script: train, set: {stage: sft, model: tiny, data.input: "@labels"}}
  small: {script: train, set: {stage: sft, model: tiny, data.input: "@labels", trainer: gpu}}
  api: {script: synthesize, set: {stage: answers, input: "@labels", engine: openai}}
  filter: {script: synthesize, set: {stage: filter, input: "@labels", model: tiny, filters: [solvability]}}
  distinct: {script: synthesize, set: {stage: filter, input: "@labels", model: tiny, filters: [duplicates]}}
  even: {script: synthesize, set: {stage: filter, input: "@labels", filters: [diversity], filters.diversity.keep: 0.2}}
"""
    )
    loaded = load_recipe(str(path), ["profile=node", "profile.gpus=4", "profile.hardware=h100"])
    found = plan(loaded, changes={"sizes": {"rows.me/problems": 50}})
    assert (found.hardware.name, found.gpus) == ("H100", 4)
    assert {one.stage.name: one.gpus for one in found.costs} == {
        "labels": 4,
        "sft": 4,
        "small": 1,
        "api": 1,
        "filter": 4,
        "distinct": 1,
        "even": 1,
    }
    assert {one.stage.name: one.stage.kept for one in found.costs}["even"] == pytest.approx(10), "a fifth of 50"
    lines = format_plan(found).splitlines()
    assert [next(line for line in lines if f" {name} " in line).split().count("4") for name in ("sft", "small")] == [
        1,
        0,
    ]
    assert next(line for line in lines if " api " in line).split().count("-") == 2, "no GPU, no hours"


def test_plan_json_reconciles(paper, tmp_path):
    found = json.loads(write_plan(paper, tmp_path, hardware="h200", gpus=8, jobs=check(paper.stages)).read_text())
    assert found["hardware"]["gpus"] == 8
    for key in ("gpu_hours", "seconds", "price"):
        assert found["total"][key] == pytest.approx(sum(stage[key] for stage in found["stages"]))
    assert found["total"]["per_kept_row"] == pytest.approx(found["total"]["price"] / found["total"]["kept_rows"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rowz.x": 5}, "write sizes.rows.NAME"), ({"rows.x": "many"}, "a number above 0"), ({"rows": 5}, "write")],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_told(planned, changes, message):
    with pytest.raises(ConfigError, match=message):
        planned(changes={"sizes": changes})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_can_be_planned(name):
    """Each recipe that ships, with rows from its first stage to its last."""
    found = plan(load_recipe(name), hardware="h200", gpus=8)
    assert found.kept > 0 and found.hours > 0 and all(one.seconds >= 0 for one in found.costs)
    idle = [one.stage.name for one in found.costs if one.stage.rows <= 0]
    assert not idle, f"no rows reach {idle}"
