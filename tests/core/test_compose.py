"""`compose` gives what Hydra gives for the whole command, and commands with the same choices of groups share one."""

import hydra
import pytest
from omegaconf import OmegaConf

from sq.core import compose as composing
from sq.core.compose import compose, loosened
from sq.core.config import conf_dir
from sq.core.errors import ConfigError
from sq.recipe.overrides import parse_override

PACKAGES = {"train": "sq.train", "synthesize": "sq.synth", "evaluate": "sq.eval"}


def by_hydra(script, overrides):
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(script, overrides=[loosened(text) for text in overrides])


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        ("train", ["stage=qft", "stage.lr=1e-3", "model=tiny", "model.path='a b'", "seed=3", "output_dir=x/y"]),
        ("train", ["stage=sft", "data=gsm8k-math", "data.mix.gsm8k.weight=1", "trainer=qlora", "trainer.lora.rank=8"]),
        ("train", ["stage=sft", "data.mix={a.jsonl:0.7,b.jsonl:0.3}", "domain=math", "data@domain.seeds=gsm8k"]),
        ("train", ["stage=sft", "domain=math", "domain.seeds.mix=null", "domain.seeds.input=FILE"]),
        ("synthesize", ["stage=filter", "filters=[format,overlap]", "filters.overlap.benchmarks={g: a}", "limit=4"]),
        ("synthesize", ["engine=hf", "workers=2", "stage=answers", "input=in", "columns={a: b}"]),
        ("synthesize", ["stage=select", "engine=vllm", "workers=4", "cluster.address=auto", "model.max_length=9"]),
        ("evaluate", ["benchmark=[gsm8k,math]", "benchmark.gsm8k.split=train", "n=4", "+model@reward=tiny-base"]),
        ("evaluate", ["engine=oracle", "engine.error_rate=0.1", "+format@formats.me=alpaca", "profiles=[dart]"]),
        ("evaluate", ["~format", "tracking=none", "tracking.tags={a: '1'}", "model={name: x}"]),
    ],
)  # fmt: skip
def test_it_is_what_hydra_composes(script, overrides):
    expected, found = by_hydra(script, overrides), compose(script, overrides, PACKAGES[script])
    assert OmegaConf.to_container(found, resolve=False) == OmegaConf.to_container(expected, resolve=False)
    assert OmegaConf.to_container(found, resolve=True) == OmegaConf.to_container(expected, resolve=True)
    assert OmegaConf.is_struct(found) == OmegaConf.is_struct(expected)


def test_what_is_wrong_is_said_as_the_entry_scripts_say_it():
    for overrides, message in [
        (["stage=sft", "model=tinny"], "model=tinny is not one of .*did you mean 'tiny'"),
        (["stage=sft", "model={"], r"model=\{ cannot be read"),
        (["stage=sft", "++data.columns={solution: Lösung}"], r"Lösung\} cannot be read\. Quote a text with letters"),
        (["stage=sft", "seed=1,2"], "seed=1,2: several values need -m|several values need -m"),
        (["stage=sft", "+seed=2"], "seed"),
        (["stage=sft", "nothing@of.this=tiny"], "nothing"),
        (["model=tiny"], "stage= must be given"),
        (["stage=answers"], "is a stage of synthesize.py"),
    ]:
        with pytest.raises(ConfigError, match=message):
            compose("train", overrides, "sq.train")


def test_a_training_stage_of_ones_own_is_one_of_the_training_script_alone(tmp_path, monkeypatch):
    (tmp_path / "mine" / "stage").mkdir(parents=True)
    (tmp_path / "mine" / "stage" / "own.yaml").write_text("_target_: own_stage.OwnStage\nname: own\n")
    (tmp_path / "own_stage.py").write_text(
        "from dataclasses import dataclass\nfrom sq.train.stage import StageConfig\n"
        "@dataclass(frozen=True, kw_only=True)\nclass OwnStage(StageConfig):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SQ_CONFIG_DIR", str(tmp_path / "mine"))
    assert compose("train", ["stage=own"], "sq.train").stage.name == "own"
    assert compose("evaluate", ["model=tiny"], "sq.eval").model.name == "tiny"
    with pytest.raises(ConfigError, match=r"stage=own is a stage of train\.py; here it is one of annotate, "):
        compose("synthesize", ["stage=own"], "sq.synth")


def test_the_same_choices_are_composed_once_and_nothing_of_one_command_is_in_the_next(monkeypatch):
    composing._chosen.cache_clear()
    calls = []
    real = composing.create_defaults_list

    def counted(repository, name, overrides, **more):
        calls.append((name, *(each.input_line for each in overrides)))
        return real(repository, name, overrides, **more)

    monkeypatch.setattr(composing, "create_defaults_list", counted)
    first = compose("train", ["stage=sft", "data.mix={a: 1}", "stage.lr=1"], "sq.train")
    second = compose("train", ["stage.lr=2", "stage=sft"], "sq.train")
    compose("train", ["stage=sft", "model=tiny"], "sq.train")
    assert calls == [("train", "stage=sft"), ("train", "stage=sft", "model=tiny")]
    assert (first.stage.lr, second.stage.lr) == (1, 2) and second.data.mix != first.data.mix
    assert second == by_hydra("train", ["stage=sft", "stage.lr=2"])


@pytest.mark.parametrize(("old", "new"), [("ray", "workers=8 cluster.address=auto"), ("node-vllm", "workers=8")])
def test_an_engine_that_became_a_setting_is_named_with_it(old, new):
    with pytest.raises(ConfigError, match=f"engine={old} is now a setting of synthesize.py.*engine=vllm {new}\\."):
        compose("evaluate", [f"engine={old}"], "sq.eval")


@pytest.mark.parametrize(
    "given",
    [
        "fail_rate >= 0.5 and level != 'easy'",
        'level in ["a", "b"]',
        "len(question) < 9",
        r"'\frac' in question or k",
        "'a' in tags or level == 'b'",
        'column("my level") > 3',
        "k",
    ],
)
def test_an_expression_comes_through_as_it_was_typed(given):
    assert compose("train", ["stage=qft", f"data.where={given}"], "sq.train").data.where == given
    assert compose("synthesize", ["stage=answers", f"where={given}"], "sq.synth").source.where == given
    assert parse_override(f"qft.data.where={given}") == ("qft.data.where", given)
