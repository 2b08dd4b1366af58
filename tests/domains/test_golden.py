"""What the tiny models were trained on does not change by a byte: golden digests of both worlds with an oracle.

A change that is meant replaces the digests: `python tests/domains/test_golden.py` prints them.
"""

import dataclasses
import functools
import hashlib
import json

import pytest

from sq.domains.arithmetic import ArithmeticConfig
from sq.domains.oracle import ROLES, OracleConfig, OracleEngine
from sq.domains.programs.domain import ProgramsConfig
from sq.engine.base import Request, Sampling, ScoreRequest

DOMAINS = {"arithmetic": ArithmeticConfig, "programs": ProgramsConfig}
GOLDEN = {
    "arithmetic": {
        "train": "95d1d60cef33c5f5",
        "validation": "28c1a7744b1e1d88",
        "test": "4bf6643d8b798dde",
        "corpus": "ebd0069d65071f9a",
        "labels": "58c9c7ff5dbd2e05",
        "scores": "b1f52e6c80a4e020",
        "improve_solvability": "a2f6c1bee55edf0c",
        "raise_difficulty": "85c73dddebd88686",
        "judge": "ec38323a7bd5e950",
        "solve": "603fb11377780606",
        "rate_difficulty": "82d3ede60dc5d8d0",
        "classify_topic": "5c2677461a4e6c72",
    },
    "programs": {
        "train": "46da525f37409edd",
        "validation": "9b825ffae689eac4",
        "test": "60d12f1d94d9b8e3",
        "corpus": "6bc9bafe29732349",
        "labels": "b0cd12028f129380",
        "scores": "e97219b2b3e1a029",
        "improve_solvability": "d2357a3e3c58fda1",
        "raise_difficulty": "30daedb969e4c6d3",
        "judge": "e03ff530f8fa4a8e",
        "solve": "4b09c9e1d80c8629",
        "rate_difficulty": "a938666d4e0336af",
        "classify_topic": "d2d07eecdef7d7cf",
    },
}


def digest(rows):
    lines = hashlib.sha256()
    for row in rows:
        lines.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return lines.hexdigest()[:16]


@functools.cache
def corpus(name):
    return list(DOMAINS[name]().create().corpus(400, 5))


def texts(name, part):
    """One stream of what a domain gives: seeds of a split, its corpus, or its oracle's replies in a role."""
    domain = DOMAINS[name]().create()
    if part in ("train", "validation", "test"):
        return list(domain.seeds(200, 3, part))
    documents = corpus(name)
    if part == "corpus":
        return [dataclasses.asdict(document) for document in documents]
    questions = [d.question for d in documents if d.question][:100]  # good, unsolvable and poor ones
    if part == "labels":
        return [dataclasses.asdict(domain.oracle_label(question)) for question in questions]
    engine = OracleEngine(OracleConfig(domain=name, role="auto" if part == "scores" else part, error_rate=0.4))
    asked = [{"role": "user", "content": question} for question in questions]
    if part == "scores":
        given = [{"role": "assistant", "content": d.solution} for d in documents if d.question][:100]
        return [r.score for r in engine.score(
            ScoreRequest(key=str(i), messages=(a, g)) for i, (a, g) in enumerate(zip(asked, given, strict=True))
        )]  # fmt: skip
    requests = (Request(key=str(i), messages=(a,), seed=1, sampling=Sampling(n=2, max_tokens=400))
                for i, a in enumerate(asked))  # fmt: skip
    return [completion.text for result in engine.generate(requests) for completion in result.completions]


PARTS = ("train", "validation", "test", "corpus", "labels", "scores", *ROLES)


@pytest.mark.parametrize("name", DOMAINS)
def test_texts_and_random_streams_are_those_that_the_tiny_models_learned(name):
    assert {part: digest(texts(name, part)) for part in PARTS} == GOLDEN[name]


if __name__ == "__main__":
    for name in DOMAINS:
        print(name, json.dumps({part: digest(texts(name, part)) for part in PARTS}, indent=4))
