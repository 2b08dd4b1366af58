"""The programs' oracle as an engine: each role answers in the form its prompt asks for, and errs as often as told."""

import json
import random

import pytest

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.core.yes_no import YesNo
from sq.domains.oracle import OracleConfig, OracleEngine
from sq.domains.programs import analyse, problem, unsolvable
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.synth.filters.solvability import load_prompt

ONE = problem(random.Random(5), low=2, high=2)
SPOILED, _ = unsolvable(ONE.question, random.Random(6))
ASKED = Sampling(n=1, temperature=0.7, top_p=1.0, max_tokens=2048)


def asked(text, **config):
    engine = OracleEngine(OracleConfig(domain="programs", **config))
    (result,) = engine.generate(
        [Request(key="k", messages=({"role": "user", "content": text},), sampling=ASKED, seed=1)]
    )
    return result.completions[0].text


@pytest.mark.parametrize("question", [ONE.question, SPOILED])
@pytest.mark.parametrize("name", ["improve_solvability", "raise_difficulty"])
def test_rewrites_are_solvable(name, question):
    prompt = load_prompt(name)
    said = prompt.parse(asked(prompt.render(question=question)))
    assert said.ok and analyse(said.value).solvable and said.value != SPOILED


def test_the_judge_says_what_is_so():
    prompt = load_prompt("judge_solvability")
    assert prompt.parse(asked(prompt.render(question=ONE.question))).value is YesNo.YES
    assert prompt.parse(asked(prompt.render(question=SPOILED))).value is YesNo.NO
    assert prompt.parse(asked(prompt.render(question=ONE.question), error_rate=1.0)).value is not YesNo.YES


def test_solutions_hold_the_program():
    assert asked(ONE.question) == ONE.solution
    assert asked(f"{ONE.question}\nReply with a ```python block.") == ONE.solution
    assert asked(ONE.question, error_rate=1.0) != ONE.solution
    assert "```python" in asked(SPOILED)


@pytest.mark.parametrize("role", ["rate_difficulty", "classify_topic"])
def test_analysis_replies_are_read(role):
    said = asked(ONE.question, role=role)
    assert json.loads(said)["difficulty"] == "easy" if role == "rate_difficulty" else "<TOPIC>" in said


def test_scores_tell_right_from_wrong():
    def score(question, reply):
        messages = ({"role": "user", "content": question}, {"role": "assistant", "content": reply})
        (result,) = OracleEngine(OracleConfig(domain="programs")).score([ScoreRequest(key="k", messages=messages)])
        return result.score

    wrong = ONE.solution.replace("return r", "return r + 1")
    assert score(ONE.question, ONE.solution) == 1.0
    assert 0.2 <= score(ONE.question, wrong) < 0.7 and score(ONE.question, "no idea") < 0.2


def test_another_domain_is_refused():
    with pytest.raises(ConfigError, match="arithmetic.*programs"):
        build({"domain": "math"}, OracleConfig)
