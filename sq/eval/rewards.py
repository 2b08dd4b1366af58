"""Rewards of answers, for best-of-n (paper, section 2.5): a reward model scores each once, in a ledger beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sq.core.count import count_noun
from sq.core.ledger import Ledger, WorkItem, read_rows
from sq.core.progress import Progress
from sq.core.retry import Retry
from sq.core.rows import CANDIDATE, LINEAGE, row_id
from sq.engine.base import ScoreRequest
from sq.engine.failures import has_failed, rejected, unfinished
from sq.eval.answer import BenchmarkAnswers, LazyEngine, archive_if_outdated, read_answers

REWARD = pa.schema([*LINEAGE, CANDIDATE.field("reward"), CANDIDATE.field("reward_model")])


def reward(directory: Path, answers: BenchmarkAnswers, scorer: LazyEngine, run: str) -> dict[str, float]:
    """Score every answer of a benchmark; the rewards by the answers' ids."""
    name, identity = scorer.identity, scorer.fingerprint
    where, inputs = directory / "rewards", answers.digests
    archive_if_outdated(where, inputs)
    again = Retry(reject=lambda reject: bool(reject["reason"] == "engine")) if scorer.retry else None
    total = answers.count
    with (
        Ledger.open(where, schema=REWARD, config=identity, inputs=inputs, retry=again) as ledger,
        Progress(where, f"{directory.name} rewards", "answer", total=total, done=lambda: ledger.done) as progress,
    ):
        failures = list[str]()
        for result in scorer.score(map(_request, ledger.todo(_items(directory, len(answers.rounds))))):
            if has_failed(result) and not scorer.config.reject_failed:
                failures.append(str(result.error))
                continue
            row = {
                "id": row_id("reward", answer=result.key, **identity),
                "run": run,
                "model": name,
                "parents": [result.key],
                "reward": result.score,
                "reward_model": name,
            }
            bad = [rejected(row, result)] if result.error is not None else []
            ledger.record(result.key, rows=[] if bad else [row], rejects=bad)
            progress.update(rejects=[reject.reason for reject in bad])
        if failures:
            raise unfinished(f"{count_noun(len(failures), 'answer')} without a reward -> {where}", failures)
        ledger.finish()
    return {row["parents"][0]: row["reward"] for row in read_rows(where, columns=["parents", "reward"])}


def _items(directory: Path, rounds: int) -> Iterator[WorkItem]:
    for row in read_answers(directory, rounds, columns=["id", "question", "prediction"]):
        yield WorkItem(row["id"], row)


def _request(item: WorkItem) -> ScoreRequest:
    asked = {"role": "user", "content": item.payload["question"]}
    return ScoreRequest(key=item.key, messages=(asked, {"role": "assistant", "content": item.payload["prediction"]}))
