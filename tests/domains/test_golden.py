"""What the tiny models were trained on does not change by a byte: golden digests of both worlds with an oracle.

A change that is meant replaces the digests: `python tests/domains/test_golden.py` prints them.
"""

import dataclasses
import functools
import hashlib
import json

import pytest

from sq.domains.arithmetic import ArithmeticConfig
from sq.domains.oracle import OracleConfig, OracleEngine
from sq.domains.programs.domain import ProgramsConfig
from sq.engine.base import Request, Sampling, ScoreRequest

DOMAINS = {"arithmetic": ArithmeticConfig, "programs": ProgramsConfig}
GOLDEN = {
    "arithmetic": {
        "train": "eb3f90b72c6befe2",
        "validation": "e7b176e32e591e10",
        "test": "c4d112be720976b0",
        "corpus": "5fee3d7a7783612e",
        "labels": "1cdba5b10d4c5916",
        "scores": "b23325a28fa7875f",
        "improve_solvability": "923bbaf87d5e6b74",
        "raise_difficulty": "5a536a85ab24a3a8",
        "judge": "b9adf42776e20d68",
        "solve": "c81e5165a63ece61",
        "rate_difficulty": "616328ae8fe4c1c5",
        "classify_topic": "864b84385acb6da4",
    },
    "programs": {
        "train": "ea7c02d9b4e26717",
        "validation": "53d5b5cb040a3ab5",
        "test": "290ac3a9023cbe29",
        "corpus": "c35f65d65e444c70",
        "labels": "961203d086fe6342",
        "scores": "687b41e6003feeaf",
        "improve_solvability": "dc97b65bf98fcfeb",
        "raise_difficulty": "23fbe6e26e9f29a9",
        "judge": "586ed1961495ecef",
        "solve": "1cbb290944501146",
        "rate_difficulty": "e15af8db7b4fe554",
        "classify_topic": "d774d79571ba6828",
    },
}


def digest(rows):
    lines = hashlib.sha256()
    for row in rows:
        lines.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return lines.hexdigest()[:16]


@functools.cache
def corpus(name):
    return list(DOMAINS[name]().create().corpus(160, 5))


def texts(name, part):
    """One stream of what a domain gives: seeds of a split, its corpus, or its oracle's replies in a role."""
    domain = DOMAINS[name]().create()
    if part in ("train", "validation", "test"):
        return list(domain.seeds(100, 3, part))
    documents = corpus(name)
    if part == "corpus":
        return [dataclasses.asdict(document) for document in documents]
    questions = [d.question for d in documents if d.question][:50]  # good, unsolvable and poor ones
    if part == "labels":
        return [dataclasses.asdict(domain.oracle_label(question)) for question in questions]
    engine = OracleEngine(OracleConfig(domain=name, role="auto" if part == "scores" else part, error_rate=0.4))
    asked = [{"role": "user", "content": question} for question in questions]
    if part == "scores":
        given = [{"role": "assistant", "content": d.solution} for d in documents if d.question][:50]
        return [r.score for r in engine.score(
            ScoreRequest(key=str(i), messages=(a, g)) for i, (a, g) in enumerate(zip(asked, given, strict=True))
        )]  # fmt: skip
    requests = (Request(key=str(i), messages=(a,), seed=1, sampling=Sampling(n=2, max_tokens=400))
                for i, a in enumerate(asked))  # fmt: skip
    return [completion.text for result in engine.generate(requests) for completion in result.completions]


PARTS = tuple(GOLDEN["arithmetic"])
"""Roles that write questions from a whole prompt are tested in tests/synth/test_sources.py."""


@pytest.mark.parametrize("name", DOMAINS)
def test_texts_and_random_streams_are_those_that_the_tiny_models_learned(name):
    assert {part: digest(texts(name, part)) for part in PARTS} == GOLDEN[name]


if __name__ == "__main__":
    for name in DOMAINS:
        print(name, json.dumps({part: digest(texts(name, part)) for part in PARTS}, indent=4))
