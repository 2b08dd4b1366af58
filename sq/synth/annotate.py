"""Annotations: what a model says a question is about (concepts, topic) and how hard it is (paper, figures 5 and 7).

Each is one prompt, and all that are wanted of a question are asked at once. `source=mathscale` and `source=kpmath` draw
from the concepts; `source=concepts` too, of an evaluation's scores, whose rows keep how they were answered.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sq.core.config import setting
from sq.core.errors import SqError
from sq.core.ledger import Reject, WorkItem, read_rows
from sq.core.rows import ANNOTATED, fit_row, row_id
from sq.engine.failures import rejected
from sq.synth.config import SynthJob, SynthStage
from sq.synth.filters.solvability import load_prompt
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.stage import ItemResult, StageInput, StageSpec

COLUMNS = {"concepts": "concepts", "topic": "topic", "difficulty": "rated_difficulty"}
"""What may be asked -> the column that holds it."""
_BULLET = re.compile(r"^[\s\-*•]*(?:\d{1,2}[.)])?\s*")


@dataclass(frozen=True, kw_only=True)
class AnnotateStage(SynthStage):
    """Concepts, topic or difficulty of each question, by a model."""

    ask: list[str] = setting(["concepts"], choices=tuple(COLUMNS), help="what to ask")
    concepts_prompt: str = setting("extract_concepts", help="a YAML of conf/prompt/")
    topic_prompt: str = setting("classify_topic", help="a YAML of conf/prompt/")
    difficulty_prompt: str = setting("rate_difficulty", help="a YAML of conf/prompt/")
    temperature: float = setting(0.0, ge=0, help="0 is greedy")
    max_tokens: int = setting(1024, ge=1)

    def __post_init__(self) -> None:
        if not self.ask:
            raise ValueError(f"ask=[] asks nothing: name some of {', '.join(COLUMNS)}")

    def spec(self, job: SynthJob) -> StageSpec:
        """Annotate every question of the input."""
        source = StageInput(job=job, domain=job.domain.create(), need=("question",))
        inputs = (source.check(own_problems=True),)
        client = ModelClient(job.model, job.engine)
        prompts = {name: load_prompt(getattr(self, f"{name}_prompt"), job.domain) for name in dict.fromkeys(self.ask)}
        sampling = client.sampling(temperature=self.temperature, max_tokens=self.max_tokens)
        fingerprint_fields = {**client.fingerprint_fields, **{f"prompt.{n}": p.digest for n, p in prompts.items()}}
        same = {**fingerprint_fields, "max_tokens": self.max_tokens, "temperature": self.temperature, "seed": job.seed}

        def key(row: dict[str, Any]) -> str:
            return row_id("annotate", question=row["id"], text=row["question"], **same)

        def request_flow(item: WorkItem) -> RequestFlow:
            row = fit_row(item.payload, ANNOTATED)
            try:
                requests = [
                    client.request(row_id(name, item=item.key), prompt.render(question=row["question"]), sampling)
                    for name, prompt in prompts.items()
                ]
            except SqError as error:
                return ItemResult(key=item.key, rejects=[Reject(row=row, reason="unusable", detail=str(error))])
            results = yield requests
            for (name, prompt), result in zip(prompts.items(), results, strict=True):
                if result.error is not None:
                    return ItemResult(key=item.key, rejects=[rejected(row, result)])
                reply = result.completions[0]
                parsed = prompt.parse(reply.text)
                if reply.finish_reason == "length" or not parsed.ok:
                    reason = "cut_off" if reply.finish_reason == "length" else "unparsed"
                    detail = f"{name}: {parsed.reason or 'no end'}: {reply.text[:200]}"
                    return ItemResult(key=item.key, rejects=[Reject(row=row, reason=reason, detail=detail)])
                row[COLUMNS[name]] = concept_list(str(parsed.value)) if name == "concepts" else parsed.value
            return ItemResult(key=item.key, rows=[row])

        return StageSpec(
            schema=ANNOTATED,
            fingerprint_fields=fingerprint_fields,
            items=lambda: source.items(key),
            items_from=source.items_from(key),
            process=lambda items, run: client.run_flows(items, request_flow),
            close=client.close,
            usages=(client.usage,),
            traces=client.traces,
            inputs=inputs,
            total=source.count(),
            unit="question",
            metrics=_metrics,
            then="synthesize stage=questions source=mathscale input",
        )


def concept_list(text: str) -> list[str]:
    """One concept a line, without bullets and numbers."""
    lines = (_BULLET.sub("", line).replace("**", "").strip() for line in text.splitlines())
    return [line for line in dict.fromkeys(lines) if any(c.isalnum() for c in line)]


def _metrics(directory: Path) -> dict[str, float]:
    concepts: Counter[str] = Counter()
    topics: Counter[str] = Counter()
    ratings: list[float] = []
    for row in read_rows(directory, columns=["concepts", "topic", "rated_difficulty"]):
        concepts.update(row["concepts"] or ())
        topics.update([row["topic"]] if row["topic"] else ())
        ratings += [row["rated_difficulty"]] if row["rated_difficulty"] is not None else []
    metrics = {"concepts": float(len(concepts)), "topics": float(len(topics))}
    return {name: n for name, n in metrics.items() if n} | ({"rated_difficulty": fmean(ratings)} if ratings else {})
