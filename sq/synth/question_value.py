"""What a question is worth: solvable × wanted difficulty. Pairs are ranked by it (`source=solver`), and after each
round of `recipe=iterate` it says whether the generator's questions have gained.

Solvable is a judge's word: 1 or 0. Difficulty is the fail rate of a solver's samples, and the nearer it is to the
wanted one the more a question is worth: all at the wanted one, nothing at the end that is farther off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from sq.core.errors import ConfigError, SqError
from sq.core.intervals import Z95, Interval, mean_interval, share_interval
from sq.core.ledger import Reject, WorkItem, read_manifest, read_rejects, read_rows
from sq.core.prompts import Prompt
from sq.core.rows import row_id
from sq.core.yes_no import YesNo
from sq.engine.failures import rejected
from sq.synth.filters.solvability import judge_prompt
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult

if TYPE_CHECKING:
    from sq.synth.config import SynthJob
    from sq.synth.rewrite import RewriteStage

WANTED = 0.25
"""The fail rate that a question is to have where nothing else is said: hard, and the solver's commonest answer may
still be trusted."""


def closeness(fail_rate: float, wanted: float) -> float:
    """1 at the wanted fail rate, 0 at the end of the scale that is farther from it."""
    return 1 - abs(fail_rate - wanted) / max(wanted, 1 - wanted)


def is_judged(row: Mapping[str, Any], *, solvable: bool) -> bool:
    """Whether a judge's word on the row is this one."""
    return bool(row.get("solvable") == (YesNo.YES if solvable else YesNo.NO).value)


@dataclass(frozen=True, kw_only=True)
class QuestionJudge:
    """A judge that is asked about questions which have no judge's word yet."""

    client: ModelClient
    prompt: Prompt
    max_tokens: int

    @classmethod
    def of(cls, job: SynthJob, stage: RewriteStage, solver: ModelClient) -> QuestionJudge | None:
        """The judge of a stage; none without `judge_prompt`."""
        client = stage.judge(job, solver)
        if stage.judge_prompt is None:
            return None
        return cls(client=client, prompt=judge_prompt(stage.judge_prompt), max_tokens=stage.max_tokens)

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """The judge and its prompt."""
        fields = {f"judge.{name}": value for name, value in self.client.fingerprint_fields.items()}
        return fields | {"prompt.judge": self.prompt.digest}

    def flow(self, item: WorkItem, rows: Sequence[dict[str, Any]]) -> RequestFlow:
        """The rows with the judge's word; a row of which it says neither is a reject."""
        greedy = self.client.sampling(temperature=0.0, max_tokens=self.max_tokens)
        asked, requests, rejects = [], [], []
        for row in rows:
            if is_judged(row, solvable=True) or is_judged(row, solvable=False):
                continue
            try:
                text = self.prompt.render(question=row["question"])
                requests.append(self.client.request(row_id("judge", of=item.key, question=row["id"]), text, greedy))
                asked.append(row)
            except SqError as error:
                rejects.append(Reject(row=row, reason="unusable", detail=str(error)))
        results = yield requests
        for row, result in zip(asked, results, strict=True):
            if result.error is not None:
                rejects.append(rejected(row, result))
                continue
            reply = result.completions[0]
            word = self.prompt.yes_no(reply.text, reply.finish_reason)
            row |= {"solvable": word.value, "judge_model": self.client.identity, "judge_reply": reply.text}
            if word is YesNo.UNPARSABLE:
                rejects.append(Reject(row=row, reason="unparsable", detail=reply.text[-200:]))
        left_out = {reject.row["id"] for reject in rejects}
        return ItemResult(key=item.key, rows=[row for row in rows if row["id"] not in left_out], rejects=rejects)


@dataclass(frozen=True, kw_only=True)
class MeasuredQuestions:
    """A generator's questions as `filters=[solvability, pass_rate]` measured them, those that it rejected too."""

    solvable: list[float]
    fail_rates: list[float]
    """Of the solvable ones."""
    values: list[float]

    @property
    def share(self) -> Interval:
        """The share that the judge calls solvable."""
        return share_interval(self.solvable)

    @property
    def fail_rate(self) -> Interval:
        """The mean fail rate of the solvable ones."""
        return mean_interval(self.fail_rates)

    @property
    def value(self) -> Interval:
        """The mean of solvable × wanted difficulty."""
        return mean_interval(self.values)


def measured_questions(directory: Path, wanted: float) -> MeasuredQuestions:
    """What a stage of these filters says of the questions that it read; what it rejected for any reason is worth 0.

    Raises:
        ConfigError: where it did not measure pass rates.
    """
    measured = "pass_rate" in read_manifest(directory).schema
    passed = [row["pass_rate"] for row in read_rows(directory, columns=["pass_rate"])] if measured else [None]
    if None in passed:
        raise ConfigError(f"{directory} has questions without a pass rate: a round is measured by a stage=filter whose "
                          "questions went through filters=[pass_rate] with filters.pass_rate.min=0")  # fmt: skip
    rates = [1 - float(rate) for rate in passed if rate is not None]
    rejects = sum(1 for _ in read_rejects(directory))
    return MeasuredQuestions(
        solvable=[1.0] * len(rates) + [0.0] * rejects,
        fail_rates=rates,
        values=[closeness(rate, wanted) for rate in rates] + [0.0] * rejects,
    )


def gain(before: MeasuredQuestions, after: MeasuredQuestions) -> Interval:
    """What the mean value has gained, with its 95% interval: the samples are independent."""
    error = sum(variance(m.values) / len(m.values) if len(m.values) > 1 else math.inf for m in (before, after))
    value, half = fmean(after.values or [0.0]) - fmean(before.values or [0.0]), Z95 * math.sqrt(error)
    return Interval(value=value, low=value - half, high=value + half, count=len(after.values))


def kept_round(rounds: Sequence[MeasuredQuestions]) -> tuple[int, list[Interval]]:
    """The last round that gained on the one before it, and what each round from the first on has gained."""
    gains = [gain(before, after) for before, after in itertools.pairwise(rounds)]
    return sum(1 for _ in itertools.takewhile(lambda gained: gained.low > 0, gains)), gains
