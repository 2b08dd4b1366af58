"""A recipe from its YAML and a person's overrides: blanks, seeds, repetition, and mistakes told with their fix."""

import pytest
import yaml

from sq.core.errors import ConfigError
from sq.recipe.jobs import check
from sq.recipe.load import best_engine, load_recipe
from sq.recipe.run import format_selection, selected

RECIPE = {
    "_target_": "sq.recipe.config.RecipeConfig",
    "title": "A small one",
    "counts": {"seeds": 400, "questions": 100},
    "let": {"solver": "tiny"},
    "variants": {"raw": "raw", "qft": "+QFT"},
    "scripts": {"synthesize": {"engine": "{engine}"}, "train": {"trainer.threads": 1}},
    "tiny": {"counts.questions": 8, "questions.stage.max_tokens": 32, "output_dir": "elsewhere"},
    "stages": {
        "questions": {
            "script": "synthesize",
            "set": {"stage": "questions", "model.path": "@qft/model", "stage.count": "{questions}"},
        },
        "qft": {"script": "train", "set": {"stage": "qft", "model": "{solver}", "data.limit": "{seeds}"}},
        "sft-{of}": {
            "script": "train",
            "each": {"of": ["raw", "qft"]},
            "variant": "{of}",
            "tags": {"size": "{seeds}"},
            "set": {"stage": "sft", "data.input": "@questions"},
        },
    },
}


@pytest.fixture
def recipe(tmp_path):
    """`recipe("seed=1", key=value_in_the_yaml)` -> the recipe, loaded."""

    def made(*overrides, tiny=False, **changes):
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
        return load_recipe(str(path), overrides, tiny=tiny)

    return made


def without(recipe, key, directory):
    path = directory / "without.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in recipe.items() if k != key}))
    return path


def stages(loaded):
    return {stage.name: stage for stage in loaded.stages}


def test_the_order_follows_from_what_is_read_and_blanks_are_filled(recipe):
    found = recipe()
    assert [s.name for s in found.stages] == ["qft", "questions", "sft-raw", "sft-qft"]
    questions, sft = stages(found)["questions"], stages(found)["sft-qft"]
    assert questions.overrides == (
        "stage=questions", f"engine={best_engine()}", "model.path=outputs/small/qft/model", "stage.count=100", "seed=0",
        "output_dir=outputs/small/questions",
    )  # fmt: skip
    assert questions.reads == ("qft",) and sft.reads == ("questions",)
    assert sft.variant == "+QFT" and sft.tags == {"size": "400"} and sft.kind == "sft"


def test_overrides_reach_fields_counts_words_and_settings_of_stages(recipe):
    found = recipe(
        "seed=7", "scale=0.5", "output_dir=out", "questions=30", "solver=tiny-base", "qft.stage.lr=1e-3", "engine=hf",
        "sft.data.limit=5", "stages.questions.set.stage.top_p=0.5", "stages.questions.launch='nice -n 5'",
        "scripts.train.trainer.threads=2", "set.tracking=none",
    )  # fmt: skip
    by_name = stages(found)
    assert {"data.limit=200", "model=tiny-base", "stage.lr=0.001", "trainer.threads=2"} <= set(by_name["qft"].overrides)
    assert {"stage.count=15", "engine=hf", "stage.top_p=0.5"} <= set(by_name["questions"].overrides)
    assert by_name["questions"].launch == "nice -n 5"
    assert "data.limit=5" in by_name["sft-raw"].overrides and "data.limit=5" in by_name["sft-qft"].overrides
    assert all({"seed=7", "tracking=none"} <= set(s.overrides) for s in found.stages)
    assert str(by_name["qft"].output_dir) == "out/qft"


PROFILED = {
    **RECIPE["stages"],
    "pairs": {"script": "synthesize", "set": {"stage": "rewrite", "input": "@questions", "engine": "openai"}},
    "other": {"script": "train", "set": {"stage": "sft", "data.input": "@questions", "trainer": "qlora"}},
}


@pytest.mark.parametrize(
    ("words", "sampling", "training", "launch"),
    [
        (["profile=gpu"], ["engine=vllm"], ["trainer=gpu"], ""),
        (["profile=node"], ["engine=vllm", "workers=8"], ["trainer=fsdp", "trainer.devices=8"], ""),
        (["profile=node", "profile.gpus=4", "engine=hf", "sft.trainer=ddp"], ["engine=hf"], ["trainer=ddp"], ""),
        (
            ["profile=node", "questions.engine.tensor_parallel=3"],
            ["engine=vllm", "engine.tensor_parallel=3", "workers=2"],
            ["trainer=fsdp", "trainer.devices=8"],
            "",
        ),
        (
            ["profile=cluster", "profile.nodes=2", "profile.gpus=4", "profile.cpus=6"],
            ["engine=vllm", "workers=8", "cluster.address=auto"],
            ["trainer=nodes", "trainer.devices=4", "trainer.nodes=2"],
            "srun --overlap --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=6",
        ),
    ],
)
def test_a_profile_sets_engines_trainers_and_launchers_but_of_stages_that_chose_others(
    recipe, words, sampling, training, launch
):
    def settings(name):
        kept = [
            text for text in by_name[name].overrides if text.startswith(("engine", "trainer", "workers", "cluster"))
        ]
        return sorted(text for text in kept if text != "trainer.threads=1")

    loaded = recipe(*words, stages=PROFILED)
    by_name = stages(loaded)
    assert settings("questions") == sorted(sampling) and settings("sft-raw") == sorted(training)
    assert settings("pairs") == ["engine=openai"] and settings("other") == ["trainer=qlora"]
    assert by_name["sft-raw"].launch == launch and by_name["questions"].launch == ""
    assert len(check(loaded.stages)) == 6, "and every command builds"


def test_no_count_is_scaled_to_nothing(recipe):
    questions = stages(recipe("scale=0.001"))["questions"]
    assert "stage.count=8" in questions.overrides


def test_tracking_is_a_group_or_its_keys(recipe):
    assert recipe("tracking=none").config.tracking.enabled is False
    assert recipe("tracking.experiment=mine").config.tracking.experiment == "mine"


def test_tiny_changes_what_the_recipe_says_and_a_person_has_the_last_word(recipe, tmp_path):
    found = recipe("questions=9", tiny=True)
    assert {"stage.count=9", "stage.max_tokens=32"} <= set(stages(found)["questions"].overrides)
    assert str(found.output_dir) == "elsewhere"
    with pytest.raises(ConfigError, match="does not say what --tiny should change"):
        load_recipe(str(without(RECIPE, "tiny", tmp_path)), tiny=True)


def test_several_seeds_repeat_every_stage_and_share_what_runs_once(recipe):
    once = {**RECIPE["stages"], "qft": {**RECIPE["stages"]["qft"], "once": True}}
    by_name = stages(recipe("seeds=[3,5]", stages=once))
    assert list(by_name) == [
        "qft", "questions-s3", "questions-s5", "sft-raw-s3", "sft-qft-s3", "sft-raw-s5", "sft-qft-s5"
    ]  # fmt: skip
    assert by_name["qft"].tags == {} and "seed=3" in by_name["qft"].overrides
    assert by_name["questions-s5"].reads == ("qft",) and by_name["sft-raw-s5"].reads == ("questions-s5",)
    assert by_name["sft-raw-s5"].tags == {"seed": "5", "size": "400"} and "seed=5" in by_name["sft-raw-s5"].overrides
    alone = stages(recipe("seeds=[3]"))
    assert "qft" in alone and "seed=3" in alone["qft"].overrides


def test_a_recipe_builds_on_another(recipe, tmp_path):
    recipe()
    over = {"defaults": [str(tmp_path / "small.yaml"), "_self_"], "title": "More", "counts": {"questions": 5},
            "stages": {"more": {"script": "evaluate", "set": {"model.path": "@sft-raw/model"}}}}  # fmt: skip
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(over))
    found = load_recipe(str(tmp_path / "more.yaml"))
    assert [s.name for s in found.stages][-1] == "more" and found.title == "More"
    assert "stage.count=5" in stages(found)["questions"].overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("qqft.stage.lr=1", r"qqft\.stage\.lr=1 sets nothing of this recipe, did you mean 'qft\.stage\.lr'\?"),
        (
            "sft-raw.model=tiny",
            r"sft-raw\.model='tiny' sets nothing.*did you mean 'sft\.model'\? It sets all of sft-\{of\}",
        ),
        ("let.questions=5", r"let\.questions=5 sets nothing of this recipe, did you mean 'questions'\?"),
        ("let.seeds=5", r"let\.seeds=5 sets nothing of this recipe, did you mean 'counts\.seeds'\?"),
        ("data.limit=3", r"data\.limit=3 sets nothing of this recipe, did you mean 'qft\.data\.limit'\?"),
        ("stage.lr=3", r"stage\.lr=3 sets nothing of this recipe, did you mean 'STAGE\.stage\.lr'\?"),
        ("stag.lr=3", r"stag\.lr=3 sets nothing of this recipe\. There are"),
        ("counts.seedz=5", r"counts\.seedz=5 changes nothing.*did you mean 'counts\.seeds'\?"),
        ("seeds=500", r"seeds=500 is no list: give seeds=\[0,1,2\]; the count is counts\.seeds=500"),
        ("title.x=5", r"title\.x=5: title is one value and has no keys"),
        ("stages.qtf.set.x=1", r"qtf is no stage of this recipe, did you mean 'qft'\?"),
        ("quesions=3", r"quesions=3 sets nothing of this recipe, did you mean 'questions'\?"),
        ("seed=x", "seed='x' is not a whole number"),
        ("scale=-1", r"scale=-1\.0 must be above 0"),
        ("engine=vlm", "engine='vlm' is not one of auto, hf.*did you mean 'vllm'"),
        ("tracking=nome", "tracking=nome is not one of none.*did you mean 'none'"),
        ("profile=nod", "profile=nod is not one of cluster, gpu, node, none, did you mean 'node'"),
        ("profile.gpu=2", r"unknown key 'profile\.gpu' \(value 2\), did you mean 'gpus'"),
        ("seeds=[1,1]", r"seeds=\[1, 1\] has one twice"),
        ("questions", "'questions' is no override; write key=value"),
        ("seed={", "seed={ cannot be read"),
        ("set.data.columns={question: a (b)}", "cannot be read.*Quote a text with brackets"),
        ("scripts.trian.x=1", r"scripts\.trian is no script"),
    ],
)
def test_a_slip_in_an_override_names_key_value_and_mend(recipe, override, message):
    with pytest.raises(ConfigError, match=message):
        recipe(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("let.solvr=ray", r"let\.solvr='ray' changes nothing: no stage reads \{solvr\}, did you mean 'solver'\?"),
        ("counts.question=3", r"counts\.question=3 changes nothing.*did you mean 'questions'\?"),
        (
            "domain=math",
            r"domain='math' changes nothing: no stage reads \{domain\}.*Stages read: engine, questions, seeds",
        ),
        ("profile.gpus=2", r"profile\.gpus=2 changes nothing: profile=none sets nothing by it; give profile=node"),
        ("tiny.scale=2", r"tiny\.scale=2 changes nothing.*give scale=VALUE itself"),
        ("variants.qtf=QFT", r"variants\.qtf='QFT' changes nothing: no stage has variant: qtf, did you mean 'qft'\?"),
        (
            "scripts.evaluate.limit=8",
            r"scripts\.evaluate\.limit=8 changes nothing: the recipe has no stage of that script",
        ),
        ("scripts.synthesize.stage.count=8", r"every stage that could take it sets its own; give STAGE\.stage\.count="),
        ("set.stage=sft", r"set\.stage='sft' changes nothing: every stage.*give STAGE\.stage="),
    ],
)
def test_an_override_that_no_stage_reads_is_refused_with_the_nearest_name(recipe, override, message):
    with pytest.raises(ConfigError, match=message):
        recipe(override)


def test_a_seed_beside_seeds_and_a_word_that_its_only_reader_no_longer_takes_are_refused(recipe):
    with pytest.raises(ConfigError, match=r"seed=3 changes nothing: the recipe runs for seeds=\[1, 2\]"):
        recipe("seed=3", seeds=[1, 2])
    with pytest.raises(ConfigError, match=r"let\.solver='tiny-base' changes nothing"):
        recipe("solver=tiny-base", "qft.model=tiny")
    assert (
        "model=tiny-base" in stages(recipe("qft.model=tiny-base"))["qft"].overrides
    )  # alone it takes the word's place


def test_a_recipe_whose_own_word_no_stage_reads_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"let\.slover='tiny' changes nothing.*did you mean 'solver'\?"):
        recipe(let={"solver": "tiny", "slover": "tiny"})


def test_a_word_may_hold_the_engine_and_then_changes_with_it(recipe):
    words = {"solver": "tiny", "judge": "{engine}"}
    more = {**RECIPE["stages"], "pairs": {"script": "synthesize", "set": {"stage": "rewrite", "engine": "{judge}"}}}
    assert "engine=hf" in stages(recipe("engine=hf", let=words, stages=more))["pairs"].overrides
    with pytest.raises(ConfigError, match=r"let\.judge: \{nginee\} stands for nothing, did you mean 'engine'"):
        recipe(let={"solver": "tiny", "judge": "{nginee}"})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"set": {"stage": "sft", "data.limit": "{seds}"}}, r"\{seds\} stands for nothing, did you mean 'seeds'\?"),
        ({"set": {"stage": "sft", "data.input": "@qtf"}}, r"stage x reads @qtf.*did you mean 'qft'\?"),
        ({"variant": "qtf"}, "variant=qtf is not one of variants: raw, qft, did you mean 'qft'"),
        ({"each": {"of": [1, 2]}}, r"x is there twice; its name must hold \{KEY\} of each"),
        ({"script": "trian"}, r"stages\.x\.script='trian' is not one of train, synthesize, evaluate"),
        ({"sett": {}}, r"unknown key 'stages\.x\.sett'.*did you mean 'set'\?"),
    ],
)
def test_a_slip_in_a_stage_names_the_stage(recipe, stage, message):
    with pytest.raises(ConfigError, match=message):
        recipe(stages={**RECIPE["stages"], "x": {"script": "train", **stage}})


def test_names_that_are_no_directories_of_a_stage_are_refused(recipe):
    for name in ("logs", "a/b", "-x"):
        with pytest.raises(ConfigError, match="cannot be a stage's name"):
            recipe(stages={name: {"script": "train"}})


def test_recipes_that_are_not_there_or_no_yaml(tmp_path):
    with pytest.raises(ConfigError, match="recipe=dmo is not one of .*did you mean 'demo'"):
        load_recipe("dmo")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is no YAML"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_every_command_is_checked_before_the_first_runs_and_all_problems_are_told(recipe):
    with pytest.raises(ConfigError) as caught:
        check(recipe("sft.stage.lrr=1", "questions.stage.top_p=2").stages)
    told = str(caught.value)
    assert "stage sft-raw: unknown key 'stage.lrr' (value 1), did you mean 'lr'?" in told
    assert "stage questions: stage.top_p=2.0 must be at most 1" in told and "2 problems" in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.stage=questions", "stage sft-raw: stage=questions is a stage of synthesize.py"),
        ("qft.model=tinny", "stage qft: model=tinny is not one of .*did you mean 'tiny'"),
        ("sft.data.input='@qft'", r"stage sft-raw: data\.input='@qft' reads rows, but @qft is a stage of train\.py"),
        ("sft.model.path='@questions'", r"is to be a model, but @questions is a stage of synthesize\.py"),
        ("sft.model.path='@qft'", r"is to be a model; write @qft/model"),
    ],
)
def test_what_a_command_would_refuse_is_told_with_the_stage(recipe, override, message):
    with pytest.raises(ConfigError, match=message):
        check(recipe(override).stages)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"only": "sft"}, "stages: sft-raw, sft-qft"),
        ({"only": "questions"}, "stages: questions; not questions-raw ('questions*' means those too)"),
        ({"only": "questions*"}, "stages: questions, questions-raw"),
        ({"until": "questions"}, "stages: qft, questions; not questions-raw ('questions*' means those too)"),
    ],
)
def test_what_was_chosen_is_said_and_what_has_a_like_name_and_was_not(recipe, how, text):
    raw = {"script": "synthesize", "set": {"stage": "questions", "stage.count": "{questions}"}}
    loaded = recipe(stages={**RECIPE["stages"], "questions-raw": raw})
    (patterns,) = how.values()
    assert format_selection(loaded, selected(loaded, **how), patterns) == text


def test_of_many_chosen_stages_the_first_are_named(recipe):
    sizes = {"script": "train", "each": {"n": list(range(20))}, "set": {"stage": "sft", "data.input": "@questions"}}
    loaded = recipe(stages={**RECIPE["stages"], "size-{n}": sizes})
    assert format_selection(loaded, selected(loaded, only="size"), "size").endswith("size-11 and 8 more")


def test_an_evaluations_rows_are_its_scores(recipe):
    stages = {
        **RECIPE["stages"],
        "evaluate": {"script": "evaluate", "set": {"model": "tiny", "engine": "oracle"}},
        "topics": {"script": "synthesize", "set": {"stage": "annotate", "input": "@evaluate/arithmetic/scores"}},
    }
    assert len(check(recipe(stages=stages).stages)) == len(recipe(stages=stages).stages)
    with pytest.raises(ConfigError, match=r"reads rows, but @evaluate is a stage of evaluate\.py; .*BENCHMARK/scores"):
        check(recipe("topics.input='@evaluate'", stages=stages).stages)
