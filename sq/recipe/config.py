"""What a recipe is: stages with their overrides, in a YAML of conf/recipe/. The order follows from what they read.

A value `@STAGE` or `@STAGE/model` stands for that stage's directory; `{WORD}` for a count, a word of `let`, a value of
`each`, or one of seed, engine, domain, output (the recipe's directory) and name (the stage's); `{round-1}` for a whole
number less one. Everything else is an override as it stands on the command line of the stage's script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sq.core.config import setting
from sq.core.tracking import TrackingConfig
from sq.domains.base import DEFAULT_DOMAIN
from sq.recipe.profile import ProfileConfig

SCRIPTS = ("train", "synthesize", "evaluate")


@dataclass(frozen=True, kw_only=True)
class RecipeStage:
    """One stage: a script, its overrides, and what it stands for in the report."""

    script: str = setting(choices=SCRIPTS, help="train, synthesize or evaluate")
    set: dict[str, Any] = setting(
        {}, help="overrides of the script: key -> value, in which @OTHER is OTHER's directory"
    )
    each: dict[str, Any] = setting(
        {}, help="repeat the stage over lists of values, a number n for 1 to n; its name holds {KEY}"
    )
    gain: str | None = setting(
        None, help="measured-{round}, the stage that measures a round: from the second round on this stage is passed "
        "over, with all that reads it, unless the round before gained on the one before that"
    )  # fmt: skip
    variant: str | None = setting(None, help="condition of the ablation that it belongs to, a key of variants")
    tags: dict[str, str] = setting({}, help="what the report groups by: figure, size, ...")
    once: bool = setting(False, help="with several seeds, run it for the first one alone; all seeds read it")
    launch: str = setting("", help="words before the command, such as: srun --nodes=4 --ntasks-per-node=8")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """A whole run, from nothing to the report."""

    title: str = setting(help="one line that says what it does")
    about: str = setting("", help="what a reader of the recipe should know")
    domain: str = setting(DEFAULT_DOMAIN, help="the kind of problems; {domain} in the stages")
    output_dir: str | None = setting(None, help="where everything goes; default: outputs/NAME")
    seed: int = setting(0, ge=0, help="of every stage that sets none itself")
    seeds: list[int] = setting([], ge=0, help="repeat every stage for each of these seeds, as NAME-s0, NAME-s1, ...")
    scale: float = setting(1.0, gt=0, help="factor on every number in counts")
    least: int = setting(8, ge=1, help="no count is scaled below this")
    engine: str = setting(
        "auto", help="{engine} in the stages; auto: the profile's, else vllm where installed, else hf"
    )
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    parallel: int = setting(1, ge=1, help="stages that may run side by side, where what they read is there")
    counts: dict[str, int] = setting({}, gt=0, help="numbers of rows, {NAME} in the stages; scaled by scale")
    let: dict[str, Any] = setting({}, help="other values that stages share, {NAME} in the stages")
    variants: dict[str, str] = setting({}, help="key of a condition -> how it is called in tables and figures")
    set: dict[str, Any] = setting({}, help="overrides for every stage")
    scripts: dict[str, dict[str, Any]] = setting(
        {}, help="overrides for every stage of a script: train -> key -> value"
    )
    tiny: dict[str, Any] = setting({}, help="what --tiny changes, so that the recipe runs here with the tiny model")
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    stages: dict[str, RecipeStage] = setting({}, help="NAME -> stage")

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages={} has nothing to run")
        if unknown := self.scripts.keys() - set(SCRIPTS):
            raise ValueError(f"scripts.{min(unknown)} is no script; scripts are {', '.join(SCRIPTS)}")
        if both := self.counts.keys() & self.let.keys():
            raise ValueError(f"{min(both)} is in counts and in let; give it one place")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} has one twice")
