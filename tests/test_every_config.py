"""Every YAML under conf/ builds: each group's options into their dataclasses, each entry's root into its job."""

import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sq.core.config import build, conf_dir
from sq.recipe.load import leave_out_nulls
from sq.recipe.overrides import apply_override

GROUPS = sorted(
    (path.parent.name, path.stem) for path in conf_dir().glob("*/*.yaml") if path.parent.name not in ("hydra", "help")
)
ENTRIES = {
    "train": ["pretrain", "qft", "qpo", "difficulty", "reward", "sft"],
    "synthesize": ["annotate", "questions", "answers", "select", "fail_rate", "filter", "rewrite"],
    "evaluate": [None],
}


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_option_builds(group, option):
    path = conf_dir() / group / f"{option}.yaml"
    package = re.search(r"# @package (\S+)", path.read_text())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose(f"{group}/{option}")
    for part in (package[1] if package else group).split("."):
        if part != "_global_":
            node = node[part]
    node = node.source if group == "source" else node  # which brings settings of its stage too
    assert OmegaConf.select(node, "_target_"), f"{path} names no _target_"
    if group == "recipe":
        leave_out_nulls(node)
    if group == "recipe" and "profile" in node:  # a recipe names its profile as a person would
        apply_override(node, "profile", node["profile"])
    build(node)


@pytest.mark.parametrize(("entry", "stage"), [(e, s) for e, stages in ENTRIES.items() for s in stages])
def test_entry_builds_with_every_stage(entry, stage):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(entry, overrides=[f"stage={stage}"] if stage else [])
    job = build(config)
    assert type(job).__name__ == {"train": "TrainJob", "synthesize": "SynthJob", "evaluate": "EvalJob"}[entry]


def test_every_stage_is_covered():
    stages = {option for group, option in GROUPS if group == "stage"}
    assert stages == {s for found in ENTRIES.values() for s in found if s}
