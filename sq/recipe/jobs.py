"""Every stage's command composed and built before the first one runs: an error in the twentieth is reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sq.core.compose import compose
from sq.core.config import JOBS, build, load_target
from sq.core.errors import ConfigError
from sq.core.manifest import canonical
from sq.recipe.devices import refuse_more_gpus
from sq.recipe.graph import references
from sq.recipe.profile import ProfileConfig
from sq.recipe.stages import Stage


def check(stages: Iterable[Stage], profile: ProfileConfig | None = None) -> dict[str, Any]:
    """The job of each stage; of stages that differ in their seed alone, the first one's with each one's directory.

    Raises:
        ConfigError: where one cannot be built, or needs more GPUs than the profile, if it is given, has.
    """
    stages = list(stages)
    jobs: dict[str, Any] = {}
    problems = list(_wrong_references(stages))
    built: dict[str, Any] = {}
    for stage in stages:
        command = _command_of_any_seed(stage)
        if command not in built:
            built[command] = None
            try:
                path = JOBS[stage.script]
                config = compose(stage.script, stage.overrides, path.rpartition(".config.")[0])
                built[command] = build(config, load_target(path))
                if profile is not None:
                    refuse_more_gpus(built[command], profile)
            except ConfigError as error:
                problems += [f"stage {stage.name}: {problem}" for problem in error.problems]
        if job := built[command]:
            jobs[stage.name] = replace(job, output_dir=str(stage.output_dir))
    if problems:
        raise ConfigError(*problems)
    return jobs


def _command_of_any_seed(stage: Stage) -> str:
    """What is the same in the stages of several seeds, of which one is built for all: all but the seed in it."""
    settings = {key: value for key, value in stage.settings.items() if key != "seed"}
    text = f"{stage.script} {canonical(settings)}"
    return text.replace(f"-s{stage.tags['seed']}", "") if "seed" in stage.tags else text


def _wrong_references(stages: list[Stage]) -> Iterator[str]:
    """References that name a stage of the wrong kind: rows where weights are needed, or the other way round."""
    scripts = {stage.name: stage.script for stage in stages}
    for stage in stages:
        for key, value in stage.settings.items():
            for other in references(value):
                script = scripts.get(other)
                where = f"stage {stage.name}: {key}={value!r}"
                scores = script == "evaluate" and str(value).endswith("/scores")
                if key in ("input", "data.input") and script in ("train", "evaluate") and not scores:
                    fix = f"; its rows are @{other}/BENCHMARK/scores" if script == "evaluate" else ""
                    yield f"{where} reads rows, but @{other} is a stage of {script}.py{fix}"
                elif key.endswith("model.path") and script in ("synthesize", "evaluate"):
                    yield f"{where} is to be a model, but @{other} is a stage of {script}.py"
                elif key.endswith("model.path") and script == "train" and value == f"@{other}":
                    yield f"{where} is to be a model; write @{other}/model"
