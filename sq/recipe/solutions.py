"""How many solutions a forecast counts to a question: where difficulty decides, the mean over fail rates supposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sq.synth.allocation import mean_samples_wanted
from sq.synth.answers import AnswersStage
from sq.synth.fail_rate import FailRateStage
from sq.synth.sources.dart import DartSource

if TYPE_CHECKING:
    from sq.recipe.flow import Flow


def solutions(stage: AnswersStage, flow: Flow, read: str) -> float:
    """Solutions to a question of the directory `read`, in the mean."""
    if stage.temperature == 0:
        return float(stage.n)
    if read in flow.wanted:
        return flow.wanted[read]
    if stage.n_by is None:
        return float(stage.n)
    return _mean(flow, read, stage.n_allocation, stage.n, stage.n_most)


def wanted_of(source: DartSource, flow: Flow, read: str) -> float:
    """Solutions that a row of `source=dart` asks for, in the mean, where its labels are those of `read`."""
    return _mean(flow, read, source.allocation, source.k, source.most)


def _mean(flow: Flow, read: str, allocation: str, right: int, most: int) -> float:
    counted = flow.label_samples.get(read, FailRateStage.n)
    return mean_samples_wanted(flow.assume.fail_rate, counted, allocation=allocation, right=right, most=most)
