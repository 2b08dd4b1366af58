"""What a forecast supposes: how long texts are, and how many rows each filter lets through.

One YAML a kind of problem in `conf/assumptions/`, each number with where it is from; `assume.KEY=VALUE` replaces any.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import OmegaConf, open_dict

from sq.core.compose import compose
from sq.core.config import build, conf_dir, nearest, setting
from sq.core.errors import ConfigError

STEPS = ("questions", "rewrite", "success_rate", "solver", "select", "where")
"""Stages that keep a share of their rows, and `where` of an input; filters do so each under its own name."""


@dataclass(frozen=True, kw_only=True)
class AssumptionsConfig:
    """Mean lengths in tokens, and shares of rows."""

    prefix: float = setting(ge=0, help="tokens of the chat template before a question")
    question: float = setting(gt=0, help="tokens of a sampled question")
    seed: float | None = setting(None, gt=0, help="tokens of a seed question; default: as a sampled one")
    answer: float = setting(gt=0, help="tokens of a solution")
    instruction: float = setting(ge=0, help="tokens that the template and the instruction add to a question")
    judge: float = setting(gt=0, help="tokens of a judge's reply, with its reasoning")
    rewrite: float = setting(gt=0, help="tokens of an optimiser's reply")
    chars_per_token: float = setting(4.2, gt=0, help="of the prompts' English")
    keep: dict[str, float] = setting({}, help="share of what reaches a filter or stage that it keeps")
    fail_rate: float = setting(
        0.5, ge=0, le=1, help="share of solutions that are wrong, in the mean: what source=dart and stage.n_by go by"
    )
    filter_rows: float = setting(2000, gt=0, help="rows a second through the filters that need no model")
    sources: dict[str, str] = setting({}, help="where each number is from")

    def __post_init__(self) -> None:
        names = sorted([*STEPS, *(path.stem for path in (conf_dir() / "filters").glob("*.yaml"))])
        for name, share in self.keep.items():
            if name not in names:
                raise ValueError(
                    f"keep.{name} is no filter or stage{nearest(name, names)} There are {', '.join(names)}"
                )
            if not 0 <= share <= 1:
                raise ValueError(f"keep.{name}={share} must be a share, from 0 to 1")

    def kept(self, name: str) -> float:
        """The share that a filter or stage keeps; all where nothing is supposed."""
        return self.keep.get(name, 1.0)

    @property
    def of_seed(self) -> float:
        """Tokens of a seed question."""
        return self.seed or self.question


def assumption_names() -> list[str]:
    """What there is, by file name."""
    return sorted(path.stem for path in (conf_dir() / "assumptions").glob("*.yaml"))


def load_assumptions(name: str, overrides: dict[str, object] | None = None) -> AssumptionsConfig:
    """A set of assumptions, some of them replaced."""
    names = assumption_names()
    if name not in names:
        raise ConfigError(f"--assumptions {name} is not one of {', '.join(names)}{nearest(name, names)}")
    node = compose(f"assumptions/{name}", [], "sq.recipe").assumptions
    with open_dict(node):
        for key, value in (overrides or {}).items():
            OmegaConf.update(node, key, value)
    return build(node, AssumptionsConfig, key="assume")
