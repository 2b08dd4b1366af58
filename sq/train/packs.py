"""From token sequences to packs and steps: planned once, and followed by a run that was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from sq.core.errors import ConfigError
from sq.data.module import PackLoader, PackPlan, follow_plan, plan_packs
from sq.train.rows import TrainingRows
from sq.train.stage import StageConfig, StageLoss


@dataclass(frozen=True, kw_only=True)
class TrainingPacks:
    """The packs of a run, to train on and (where rows are held out) to measure on."""

    plan: PackPlan
    train: PackLoader
    held_out: PackLoader | None

    @property
    def tokens(self) -> float:
        """Tokens computed from the first step to the last, whichever process or attempt did it."""
        return self.plan.packing.tokens * self.train.length / len(self.plan.packing.packs)

    @property
    def largest(self) -> int:
        """Tokens that no pack has more of."""
        return max(loader.plan.packing.capacity for loader in self.loaders().values())

    def loaders(self) -> dict[str, PackLoader]:
        """The loaders by the kind of their rows."""
        return {"train": self.train} | ({} if self.held_out is None else {"val": self.held_out})


def training_packs(
    rows: TrainingRows, stage: StageConfig, loss: StageLoss, *,
    prefix: int, world: int, seed: int, record: Mapping[str, int] | None,
) -> TrainingPacks:  # fmt: skip
    """Packs of all rows; `record` is the plan of a run that goes on here."""
    if record and record["prefix"] > prefix:
        raise ConfigError(
            "this run was stopped in the midst of its steps, and its packs share a prefix of "
            f"{record['prefix']} tokens, which the attention of this machine cannot: continue where it was started, "
            "or start again in another output_dir="
        )
    if record:
        plan = follow_plan(rows.train, record, seed)
    else:
        plan = plan_packs(
            rows.train, capacity=stage.pack_tokens, seed=seed, prefix=prefix,
            batch_packs=stage.batch_packs, batch_rows=stage.batch_rows, world=world,
        )  # fmt: skip
    length = plan.length(stage.epochs, stage.max_steps)
    loader = partial(PackLoader, seed=seed, keep_last=loss.keep_last, world=world)
    train = loader(rows.train, plan, length=length, divisor=loss.divisor)
    if not len(rows.held_out):
        return TrainingPacks(plan=plan, train=train, held_out=None)
    measured = plan_packs(rows.held_out, capacity=stage.pack_tokens, seed=seed, prefix=plan.prefix)
    held_out = loader(rows.held_out, measured, length=0, divisor=len)
    return TrainingPacks(plan=plan, train=train, held_out=held_out)
