"""Whether an engine gives the same again: in another order, batch or replica, for each number format.

A row's seed is made of its key, so a stage asks the same each time. What comes back may still differ, because sums are
taken in another order in another batch. This asks a sample of questions several ways and counts the same answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from sq.core.config import nearest
from sq.core.errors import ConfigError, EngineError
from sq.core.rows import row_id
from sq.engine.base import Request
from sq.models.load import Dtype
from sq.synth.config import SynthJob
from sq.synth.model_client import ModelClient

ALONE = 16
"""One at a time is slow, so only so many of the sample are asked that way."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many of `count` answers were the same as the first time, token for token or letter for letter."""

    dtype: str
    way: str
    same: int
    count: int


def determinism(
    job: SynthJob, dtypes: Sequence[str], *, count: int = 32, max_tokens: int = 64, batch: int = 8
) -> Iterator[Agreement]:
    """Ask `count` questions of the job's domain in each way and format, one engine at a time.

    With no `dtypes` the job's own is asked about, whatever that comes to.

    Raises:
        ConfigError: for a number format there is none of.
    """
    job.engine.prepare()
    formats = {d.name.lower(): d for d in Dtype}
    for name in dtypes:
        if name not in formats:
            raise ConfigError(f"dtype={name!r} is not one of {', '.join(formats)}{nearest(name, formats)}")
    jobs = {name: _in_format(job, formats[name]) for name in dtypes} or {"own": job}
    for name, one in jobs.items():
        yield from _of_one(one, name, count, max_tokens, batch)


def format_agreements(agreements: Sequence[Agreement]) -> str:
    """The agreements as a table."""
    lines = [f"{'dtype':<6} {'asked':<32} identical"]
    lines += [f"{a.dtype:<6} {a.way:<32} {a.same} of {a.count} ({a.same / max(a.count, 1):.1%})" for a in agreements]
    return "\n".join(lines)


def _in_format(job: SynthJob, dtype: Dtype) -> SynthJob:
    """The job in a number format: an engine that computes itself gets it set, since `auto` may be fp32 for bf16."""
    computes = any(field.name == "dtype" for field in fields(job.engine))
    engine = replace(job.engine, dtype=dtype.value) if computes else job.engine  # type: ignore[call-arg]
    return replace(job, engine=engine, model=replace(job.model, dtype=dtype))


def _of_one(job: SynthJob, dtype: str, count: int, max_tokens: int, batch: int) -> Iterator[Agreement]:
    client = ModelClient(job.model, job.engine)
    try:
        requests = _requests(job, client, count, max_tokens)
        first = _answers(client, [requests])
        ways = {
            "again, the same way": [requests],
            "in reversed order": [requests[::-1]],
            f"in batches of {batch}": [requests[i : i + batch] for i in range(0, count, batch)],
            "one at a time": [[request] for request in requests[:ALONE]],
        }
        for way, parts in ways.items():
            yield _agreement(dtype, way, first, _answers(client, parts))
    finally:
        client.close()
    replicas: dict[str, tuple[object, ...]] = {}
    for half in (requests[::2], requests[1::2]):
        replica = ModelClient(job.model, job.engine)
        try:
            replicas |= _answers(replica, [half])
        finally:
            replica.close()
    yield _agreement(dtype, "shared between two replicas", first, replicas)


def _requests(job: SynthJob, client: ModelClient, count: int, max_tokens: int) -> list[Request]:
    domain = job.domain.create()
    sampling = client.sampling(temperature=0.7, top_p=0.95, max_tokens=max_tokens)
    problems = itertools.islice(domain.seeds(count, job.seed, "train"), count)
    texts = [problem["question"] for problem in problems]
    keys = [row_id("determinism", question=text, seed=job.seed, index=i) for i, text in enumerate(texts)]
    return [
        client.request(key, text, sampling, instruction=domain.instruction)
        for key, text in zip(keys, texts, strict=True)
    ]


def _answers(client: ModelClient, parts: Sequence[Sequence[Request]]) -> dict[str, tuple[object, ...]]:
    """What was answered to each request, one part after the other."""
    answers: dict[str, tuple[object, ...]] = {}
    for part in parts:
        for result in client.engine.generate(iter(part)):
            if result.error is not None:
                raise EngineError(f"a request failed: {result.error}")
            answers[result.key] = tuple(c.token_ids or c.text for c in result.completions)
    return answers


def _agreement(
    dtype: str, way: str, first: dict[str, tuple[object, ...]], other: dict[str, tuple[object, ...]]
) -> Agreement:
    same = sum(first[key] == answer for key, answer in other.items())
    return Agreement(dtype=dtype, way=way, same=same, count=len(other))
