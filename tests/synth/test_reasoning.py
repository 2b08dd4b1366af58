"""Long chains of thought: the answer is taken after the reasoning, and what never stops reasoning is told apart."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core.chat import ChatConfig
from sq.core.config import build
from sq.core.errors import ConfigError
from sq.core.ledger import read_rejects, read_rows
from sq.core.thinking import UNFINISHED, answer_start
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Request, Result, Sampling
from sq.synth.model_client import ModelClient

DONE = "<think>\nIs it \\boxed{4}? No.\n</think>\nIt is \\boxed{5}."
CUT = "<think>\nIs it \\boxed{4}? Let me see"
SAMPLING = Sampling(n=1, temperature=0.0, top_p=1.0, max_tokens=8)


@pytest.mark.parametrize(
    ("reply", "marks", "start"),
    [
        (DONE, None, DONE.index("\nIt is")),
        (CUT, None, UNFINISHED),
        ("It is \\boxed{5}.", None, None),
        ("a</think>b</think>c", None, len("a</think>b</think>")),
        ("[[hm]]c", ("[[", "]]"), 6),
        ("<think>c", ("[[", "]]"), None),
    ],
)
def test_where_the_answer_begins(reply, marks, start):
    assert answer_start(reply, marks) == start


@given(st.text(), st.text())
def test_what_follows_the_last_mark_is_the_answer(before, after):
    start = answer_start(f"<think>{before}</think>{after}")
    assert "</think>" in after or f"<think>{before}</think>{after}"[start:] == after


def test_marks_come_in_pairs():
    with pytest.raises(ConfigError, match="two marks"):
        build({"reasoning": ["<think>"]}, ChatConfig)


def replies(*texts, finish="stop"):
    completions = tuple(Completion(text=text, finish_reason=finish, tokens=9) for text in texts)
    return lambda self, request: Result(key=request.key, completions=completions, prompt_tokens=3)


def test_answers_and_select_look_behind_the_reasoning(run, tmp_path, monkeypatch):
    monkeypatch.setattr(OracleEngine, "_answer", replies(DONE, CUT, "It is \\boxed{5}."))
    run("answers", "input=domain", "limit=2", "stage.n=3", to="a")
    rows = list(read_rows(tmp_path / "a"))
    assert [r["response_answer"] for r in rows] == ["5", None, "5"] * 2
    assert [r["reasoning_end"] for r in rows] == [DONE.index("\nIt is"), UNFINISHED, None] * 2
    run("select", f"input={tmp_path / 'a'}", "stage.method=majority", to="s")
    chosen = list(read_rows(tmp_path / "s"))
    assert len(chosen) == 2 and all(r["response_answer"] == "5" for r in chosen)
    reasons = Counter(r["reason"] for r in read_rejects(tmp_path / "s"))
    assert reasons == {"unfinished_reasoning": 2, "not_chosen": 2}


def test_fail_rates_count_what_was_answered_after_the_reasoning(run, tmp_path, monkeypatch):
    monkeypatch.setattr(OracleEngine, "_answer", replies(CUT, CUT))
    run("fail_rate", "input=domain", "limit=1", "stage.n=2", "stage.step=2", to="f")
    (row,) = read_rows(tmp_path / "f")
    assert row["fail_rate"] == 1.0 and row["solver_answers"] == ["", ""]


def test_the_opening_mark_of_the_prompt_is_part_of_the_reply(job):
    opened = "model.chat.answer_prefix='<|im_end|>\\n<|im_start|>assistant\\n<think>\\n'"
    marks = "model.chat.reasoning=['<think>','</think>']"
    for settings, starts in (([marks, opened], True), ([marks], False), ([opened], False)):
        synth_job = job("answers", "model=tiny", "engine=hf", "input=domain", *settings)
        client = ModelClient(synth_job.model, synth_job.engine)
        request: Request = client.request("00000000", "What is 2 + 3?", SAMPLING)
        text = "It must be 5.\n</think>\nIt is \\boxed{5}."
        result = Result(key="00000000", completions=(Completion(text=text, finish_reason="stop", tokens=5),))
        (whole,) = client.full_replies(request, result)
        assert whole.text.startswith("<think>") is starts
        assert client.answer_in(whole.text) == "\nIt is \\boxed{5}."
        assert client.answer_in(whole.text[:9] if starts else "<think> and on") == ""
