"""Every stage's command composed and built before the first one runs: an error in the twentieth is told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sq.core.compose import compose
from sq.core.config import build, load_target
from sq.core.errors import ConfigError
from sq.core.manifest import canonical
from sq.recipe.expand import Stage
from sq.recipe.graph import references

JOBS = {
    "train": "sq.train.config.TrainJob",
    "synthesize": "sq.synth.config.SynthJob",
    "evaluate": "sq.eval.config.EvalJob",
}


def check(stages: Iterable[Stage]) -> dict[str, Any]:
    """The job of each stage; of stages that differ in their seed alone, that of the first of them.

    Raises:
        ConfigError: with every problem of every stage, each under the stage's name.
    """
    stages = list(stages)
    jobs, problems = {}, _misread(stages)
    known: dict[str, Any] = {}
    for stage in stages:
        form = _form(stage)
        if form not in known:
            try:
                known[form] = _built(stage)
            except ConfigError as error:
                known[form] = None
                problems += [f"stage {stage.name}: {problem}" for problem in error.problems]
        jobs[stage.name] = known[form]
    if problems:
        raise ConfigError(*problems)
    return jobs


def job_of(stage: Stage) -> Any:
    """The `TrainJob`, `SynthJob` or `EvalJob` that a stage's command would run."""
    return check([stage])[stage.name]


def _form(stage: Stage) -> str:
    """What is the same in the stages of several seeds, of which one is built for all: all but the seed in it."""
    settings = {key: value for key, value in stage.settings.items() if key != "seed"}
    text = f"{stage.script} {canonical(settings)}"
    return text.replace(f"-s{stage.tags['seed']}", "") if "seed" in stage.tags else text


def _built(stage: Stage) -> Any:
    path = JOBS[stage.script]
    return build(compose(stage.script, stage.overrides, path.rpartition(".config.")[0]), load_target(path))


def _misread(stages: list[Stage]) -> list[str]:
    """References that name a stage of the wrong kind: rows where weights are needed, or the other way round."""
    scripts = {stage.name: stage.script for stage in stages}
    found = []
    for stage in stages:
        for key, value in stage.settings.items():
            for other in references(value):
                problem = _misfit(key, value, other, scripts.get(other))
                found += [f"stage {stage.name}: {key}={value!r} {problem}"] if problem else []
    return found


def _misfit(key: str, value: Any, other: str, script: str | None) -> str | None:
    if key in ("input", "data.input") and script in ("train", "evaluate"):
        return f"reads rows, but @{other} is a stage of {script}.py"
    if re.fullmatch(r"(.*\.)?model\.path|model\.path", key) and script is not None:
        if script != "train":
            return f"is to be a model, but @{other} is a stage of {script}.py"
        if value == f"@{other}":
            return f"is to be a model; write @{other}/model"
    return None
