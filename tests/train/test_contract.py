"""The prefix contract over stages, what a person is told to do next, and torch.compile."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import JOBS, build, conf_dir
from sq.core.errors import RowError
from sq.engine.hf import HFConfig
from sq.models.load import eos_ids
from sq.synth.model_client import ModelClient
from sq.train.fit import fit, next_command, prepare


@pytest.fixture
def with_ends(tiny_model, tmp_path):
    """The tiny model with two ends in its generation config, one of which is not its tokenizer's eos."""
    directory = tmp_path / "ends"
    shutil.copytree(tiny_model, directory)
    own = json.loads((directory / "config.json").read_text())["eos_token_id"]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [own, 7]}))
    return directory, (own, 7)


def test_training_and_sampling_have_the_same_prefix_end_and_stops(job, with_ends, pairs):
    path, ends = with_ends
    qft = job("qft", f"model.path={path}")
    qpo = job("qpo", f"model.path={path}", f"data.input={pairs}")
    sampled = ModelClient(qft.model, HFConfig()).chat
    for trained in (prepare(qft).reader.chat, prepare(qpo).reader.chat):
        assert trained.question_prefix_ids == sampled.question_prefix_ids
        assert trained.end_ids == sampled.end_ids
        assert trained.stop_ids == sampled.stop_ids
        assert trained.digest == sampled.digest
    assert eos_ids(qft.model) == ends and set(ends) <= set(sampled.stop_ids)


def test_a_model_without_a_generation_config_has_no_further_ends(job, with_ends):
    path, _ = with_ends
    (path / "generation_config.json").unlink()
    assert eos_ids(job("qft", f"model.path={path}").model) == ()


@pytest.mark.parametrize("stage", ["pretrain", "qft", "qpo", "difficulty", "reward", "sft"])
@pytest.mark.parametrize("directory", ["outputs/run", "outputs/my runs/lr=1,seed=2"])
@pytest.mark.parametrize("model", ["tiny", "mistral-7b"])
def test_the_next_command_is_one_that_composes(stage, model, directory):
    """With the by-hand chat texts of a base model, which its weights alone do not bring."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        made = build(compose("train", overrides=[f"stage={stage}", f"model={model}", "domain=math"]))
    words = shlex.split(next_command(made.stage, made.model, made.domain, Path(directory, "model")))
    script = next(i for i, word in enumerate(words) if word.removesuffix(".py") in JOBS)
    entry, overrides = words[script].removesuffix(".py"), words[script + 1 :]
    given = [o if re.match(r"(stage|model|filters|domain|engine|benchmark)=", o) else f"++{o}" for o in overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose(entry, overrides=[w for w in given if not w.startswith("filters=")])
    if stage != "difficulty":  # the filters themselves are composed by the entry script
        told = build(node)
        assert told.model.path == f"{directory}/model"
        assert stage == "reward" or told.model.chat == made.model.chat
        assert entry == "evaluate" or told.domain == made.domain


@pytest.mark.parametrize(("stage", "maker"), [("qpo", "rewrite"), ("difficulty", "fail_rate")])
def test_a_stage_without_its_rows_says_who_makes_them(stage, maker, job):
    with pytest.raises(RowError, match=rf"no column '\w+'.*reads what synthesize\.py stage={maker} makes: give data"):
        fit(job(stage, "data.limit=9", "stage.validation=0"))


@pytest.mark.slow
def test_a_compiled_model_has_the_same_loss(job, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile on a CPU needs g++")
    words = ("data.limit=24", "stage.lr=0.01", "stage.max_steps=3", "stage.batch_packs=2", "stage.epochs=3")
    losses = []
    for compiled in ("false", "true"):
        made = job("qft", *words, f"trainer.compile={compiled}", f"output_dir={tmp_path / compiled}")
        fit(made)
        losses.append(json.loads(Path(made.output_dir, "train.json").read_text())["figures"]["train/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
