"""Questions from nothing but the chat prefix (paper, section 2.1), each with the seed that made it.

Kept are texts that ended by themselves; empty, cut-off and repeating ones become rejects with the reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from sq.core.chat import ChatFormat
from sq.core.config import flatten
from sq.core.ledger import Item, Ledger, Reject, read_rows
from sq.core.rows import QUESTION, row_id, text_problem
from sq.core.tracking import track
from sq.engine.base import Completion, Request, Result, Sampling
from sq.models.load import fingerprint, load_tokenizer
from sq.synth.config import QuestionsStage, SynthJob

log = logging.getLogger(__name__)


def sample_questions(job: SynthJob, stage: QuestionsStage) -> dict[str, float]:
    """Draw `stage.count` samples into the ledger of `job.output_dir`."""
    started = time.monotonic()
    model = fingerprint(job.model)
    chat = ChatFormat.from_tokenizer(load_tokenizer(job.model), job.model.chat, key="model.chat")
    sampling = Sampling(
        temperature=stage.temperature, top_p=stage.top_p, max_tokens=stage.max_tokens, stop_token_ids=chat.stop_ids
    )
    identity = {**flatten(stage, "stage"), "model": model, "chat": chat.digest, "seed": job.seed}
    with track(job.tracking, stage=stage.name, params=flatten(job), inputs=[]) as run:
        with Ledger.open(job.output_dir, schema=QUESTION, config=identity, inputs={}) as ledger:
            waiting = ledger.todo(_items(job, stage, model, chat, sampling))
            places: dict[str, int] = {}
            if (first := next(waiting, None)) is not None:
                engine = job.engine.create(job.model)
                try:
                    requests = _requests(first, waiting, chat, sampling, places)
                    bar = tqdm(
                        engine.generate(requests), total=stage.count, desc="questions", unit="row", dynamic_ncols=True
                    )
                    for result in bar:
                        rows, rejects = _outcome(job, result, places.pop(result.key), model, chat, run.id)
                        ledger.record(result.key, rows, rejects)
                finally:
                    engine.close()
            summary = ledger.finish()
        figures = {"rows": float(summary.rows), "rejects": float(summary.rejects), **oracle_figures(job)}
        run.output(stage.name, job.output_dir, digest=summary.digest, rows=summary.rows)
        run.metrics(figures)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
    told = f"{summary.items:,} samples in -> {summary.rows:,} rows, {summary.rejects:,} rejects"
    oracle = ""
    if "oracle/solvable" in figures:
        oracle = f" | by the oracle {figures['oracle/solvable']:.1%} solvable, {figures['oracle/steps']:.2f} steps"
    took = time.monotonic() - started
    log.info("questions: %s%s -> %s%s | %.0f s", told, reasons and f" ({reasons})", job.output_dir, oracle, took)
    return figures


def oracle_figures(job: SynthJob) -> dict[str, float]:
    """Share of solvable questions and their mean steps, where the domain has an oracle to say so."""
    domain = job.domain.create()
    verdicts = [domain.verdict(row["question"]) for row in read_rows(job.output_dir, columns=["question"])]
    found = [v for v in verdicts if v is not None]
    if not found:
        return {}
    steps = [v.steps for v in found if v.solvable]
    return {"oracle/solvable": len(steps) / len(found), "oracle/steps": sum(steps) / max(1, len(steps))}


def question_problem(completion: Completion, text: str) -> str | None:
    """Why a sampled text is no complete question, if it is none."""
    if completion.finish_reason == "length":
        return "cut-off"
    if problem := text_problem(text):
        return "empty" if "empty" in problem or "blank" in problem else "unreadable"
    return "repeating" if repeats(text) else None


def repeats(text: str, *, width: int = 4, share: float = 0.5) -> bool:
    """Whether more than `share` of the text's runs of `width` words have come before in it."""
    words = text.split()
    runs = [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]
    return len(runs) >= 2 * width and len(set(runs)) < (1 - share) * len(runs)


def _items(job: SynthJob, stage: QuestionsStage, model: str, chat: ChatFormat, sampling: Sampling) -> Iterator[Item]:
    decides = {"model": model, "chat": chat.digest, "sampling": flatten(sampling), "seed": job.seed}
    for index in range(stage.count):
        yield Item(row_id("question", **decides, index=index), index)


def _requests(
    first: Item, rest: Iterator[Item], chat: ChatFormat, sampling: Sampling, places: dict[str, int]
) -> Iterator[Request]:
    item: Item | None = first
    while item is not None:
        places[item.key] = item.payload
        yield Request(key=item.key, sampling=sampling, seed=seed_of(item.key), prompt_ids=chat.question_prefix_ids)
        item = next(rest, None)


def seed_of(key: str) -> int:
    """The sampling seed of a row: decided by its key, so that it is the same in any batch and any run."""
    return int(key[:8], 16) >> 1


def _outcome(
    job: SynthJob, result: Result, index: int, model: str, chat: ChatFormat, run: str
) -> tuple[list[dict[str, Any]], list[Reject]]:
    row: dict[str, Any] = {
        "id": result.key,
        "run": run,
        "model": model,
        "seed": seed_of(result.key),
        "parents": [],
        "domain": job.domain.name,
        "generator": job.model.name,
        "prefix": chat.digest,
        "index": index,
        "question_prompt_tokens": result.prompt_tokens,
    }
    if result.error is not None:
        return [], [Reject(row=row, reason="engine", detail=result.error)]
    completion = result.completions[0]
    text = chat.question_text(completion.token_ids)
    row |= {"question": text, "question_finish_reason": completion.finish_reason, "question_tokens": completion.tokens}
    if problem := question_problem(completion, text):
        return [], [Reject(row=row, reason=problem, detail=text[:200])]
    return [row], []
