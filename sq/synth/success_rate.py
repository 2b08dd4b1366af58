"""Pairs for QPO with no rewriting model: a solver's agreement with itself orders questions (ours).

Each question is solved k times; its agreement is the share of the most common final answer. Within a window of
questions each is paired with the one of most words in common: where agreement differs by `margin` the more agreed upon
is chosen (it is likelier solvable), where both are agreed upon the one that takes longer solutions is (it is harder).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sq.core.errors import SqError
from sq.core.ledger import Reject, WorkItem
from sq.core.rows import PAIR, row_id
from sq.data.readers import BadRow
from sq.domains.base import Candidates, Domain
from sq.engine.base import Completion, Result
from sq.engine.failures import rejected
from sq.synth.config import SynthJob
from sq.synth.filters.words import words_of
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.pairs import PairSource, pair_metrics
from sq.synth.stage import ItemResult, StageInput, StageSpec, bad_item, seed_of

if TYPE_CHECKING:
    from sq.synth.rewrite import RewriteStage

AGREED = 0.75
"""Agreement from which on a question counts as one that the solver can solve."""
HARDER = 1.2
"""How many times as long the harder one's solutions are."""


def pairs_by_success(job: SynthJob, stage: RewriteStage) -> StageSpec:
    """The spec of `source=success_rate`: an item is a window of questions."""
    domain = job.domain.create()
    source = StageInput(job=job, domain=domain, need=("question",))
    inputs, count = (source.check(),), source.count()
    solver = ModelClient(job.model, job.engine)
    return StageSpec(
        schema=PAIR,
        fingerprint_fields={**solver.fingerprint_fields, **domain.answer_fields},
        items=lambda: _windows(source, stage, solver),
        process=lambda items, run: solver.run_flows(
            items, lambda item: _request_flow(item, run, stage, solver, domain)
        ),
        close=solver.close,
        usages=(solver.usage,),
        traces=solver.traces,
        inputs=inputs,
        total=count and -(-count // stage.window),
        independent=False,
        unit="window",
        metrics=lambda directory: pair_metrics(directory, domain),
        then="train stage=qpo data.input",
    )


def _windows(source: StageInput, stage: RewriteStage, solver: ModelClient) -> Iterator[WorkItem]:
    bad: list[BadRow] = []

    def good() -> Iterator[dict[str, Any]]:
        for row in source.rows():
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                yield row

    rows = good()
    while window := list(itertools.islice(rows, stage.window)):
        yield from map(bad_item, bad)
        bad.clear()
        texts = [[row["id"], row["question"]] for row in window]
        yield WorkItem(row_id("window", questions=texts, **solver.fingerprint_fields, seed=source.job.seed), window)
    yield from map(bad_item, bad)


def _request_flow(item: WorkItem, run: str, stage: RewriteStage, solver: ModelClient, domain: Domain) -> RequestFlow:
    """Solve every question of the window k times, then pair them."""
    sampling = solver.sampling(
        n=stage.k, temperature=stage.temperature or 0.7, top_p=stage.top_p, max_tokens=stage.max_tokens
    )
    requests, rejects, asked = [], [], []
    for row in item.payload:
        key = row_id("success", question=row["id"], window=item.key)
        try:
            requests.append(solver.request(key, row["question"], sampling, instruction=domain.instruction))
            asked.append(row)
        except SqError as error:
            rejects.append(Reject(row=row, reason="unusable", detail=str(error)))
    results: list[Result] = yield requests
    measured = []
    for row, request, result in zip(asked, requests, results, strict=True):
        if result.error is not None:
            rejects.append(rejected(row, result))
        else:
            measured.append(
                {
                    "row": row,
                    "words": set(words_of(row["question"])),
                    **_measure(row, solver.full_replies(request, result), solver, domain),
                }
            )
    rows, left = _paired(measured, stage)
    rejects += [Reject(row=one["row"], reason="no_partner", detail=f"agreement {one['agreement']:.2f}") for one in left]
    return ItemResult(
        key=item.key, rows=[_pair(better, worse, item, run, solver) for better, worse in rows], rejects=rejects
    )


def _measure(
    row: dict[str, Any], solutions: Sequence[Completion], solver: ModelClient, domain: Domain
) -> dict[str, float]:
    """How far the solutions agree, by the domain's vote, and how long they are."""
    answered = [(a, c.text) for c in solutions if (a := domain.final_answer(solver.answer_in(c.text))) is not None]
    answers, texts = zip(*answered, strict=True) if answered else ((), ())
    keys = domain.vote(Candidates(question=row, answers=answers, responses=texts)).keys if answered else ()
    top = max(Counter(keys).values(), default=0)
    return {"agreement": top / len(solutions), "length": sum(c.tokens for c in solutions) / len(solutions)}


def _paired(
    measured: list[dict[str, Any]], stage: RewriteStage
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[dict[str, Any]]]:
    """Pairs of nearest topic first, each question in one at most; and those without a partner."""
    near = sorted(
        (
            (-len(a["words"] & b["words"]) / max(len(a["words"] | b["words"]), 1), i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(measured), 2)
        ),
    )
    taken: set[int] = set()
    pairs = []
    for _, i, j in near:
        if i in taken or j in taken:
            continue
        ordered = _ordered(measured[i], measured[j], stage.margin)
        if ordered is not None:
            taken |= {i, j}
            pairs.append(ordered)
    return pairs, [one for i, one in enumerate(measured) if i not in taken]


def _ordered(one: dict[str, Any], other: dict[str, Any], margin: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The better one first and the direction in it; None where neither is clearly better, or both say the same."""
    if one["words"] == other["words"]:
        return None
    high, low = sorted((one, other), key=lambda m: -m["agreement"])
    if high["agreement"] - low["agreement"] >= margin:
        return {**high, "direction": "solvability"}, low
    longer, shorter = sorted((one, other), key=lambda m: -m["length"])
    if low["agreement"] >= AGREED and longer["length"] >= HARDER * shorter["length"]:
        return {**longer, "direction": "difficulty"}, shorter
    return None


def _pair(
    better: dict[str, Any], worse: dict[str, Any], item: WorkItem, run: str, solver: ModelClient
) -> dict[str, Any]:
    chosen, rejected = better["row"], worse["row"]
    key = row_id("pair", chosen=chosen["id"], rejected=rejected["id"], window=item.key)
    return {
        "id": key,
        "run": run,
        "model": solver.identity,
        "seed": seed_of(item.key),
        "parents": [chosen["id"], rejected["id"]],
        "chosen": chosen["question"],
        "rejected": rejected["question"],
        "direction": better["direction"],
        "question_id": rejected["id"],
        "pair_source": PairSource.SUCCESS_RATE.value,
        "domain": chosen.get("domain"),
        "generator": chosen.get("generator"),
        "prefix": chosen.get("prefix"),
        "chosen_score": better["agreement"],
        "rejected_score": worse["agreement"],
    }
