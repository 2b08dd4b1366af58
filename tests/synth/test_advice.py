"""Outcomes that are of no use are said, each with a way out; those that are of use are not."""

import json
import logging
import re

import pytest

from sq.core.config import flatten
from sq.core.ledger import Ledger, Reject, WorkItem, read_rows
from sq.core.quoting import sq_command
from sq.core.rows import QUESTION
from sq.core.yes_no import YesNo
from sq.synth.advice import advice


@pytest.fixture
def messages(caplog):
    """`messages()` -> what was warned of."""
    caplog.set_level(logging.WARNING, "sq")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def put(path, *questions):
    path.write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
    return path


APPLES = "Tom has 2 apples. He buys 3 more apples. How many apples does he have now?"


def test_a_stage_that_keeps_no_row_says_why_and_where_to_look(run, tmp_path, messages):
    run(
        "filter",
        f"input={put(tmp_path / 'q.jsonl', APPLES)}",
        "filters=[format]",
        "filters.format.min_chars=500",
        to="f",
    )
    (message,) = messages()
    assert message.startswith("filter: 0 rows kept of 1 item (1 ") and f"sq why {tmp_path / 'f'}" in message


LIMIT = "Give more stage.max_tokens "


@pytest.mark.parametrize(
    ("stage", "reason", "detail", "way_out"),
    [
        ("select", "cut_off", "after 4 tokens", LIMIT + "of the answers stage, and another output_dir; "),
        ("select", "unfinished_reasoning", "", LIMIT + "of the answers stage, and another output_dir; "),
        ("questions", "cut-off", "", LIMIT + "and another output_dir; "),
        ("select", "no_answer", "9 - 2 = 7\n7 -", ""),
    ],
)
def test_where_no_row_is_kept_the_token_limit_is_named_if_it_was_that(tmp_path, stage, reason, detail, way_out):
    with Ledger.open(tmp_path, schema=QUESTION, config={}) as ledger:
        for item in ledger.todo([WorkItem("k")]):
            ledger.record(item.key, rejects=[Reject(row={"question": "How\nmany?"}, reason=reason, detail=detail)])
        summary = ledger.finish()
    (message,) = advice(stage, tmp_path, summary, {})
    first = " ".join((detail or "How many?").split())
    assert f" (1 {reason}). The first: {reason}, {first}. {way_out}{sq_command()} why {tmp_path} " in message


def test_a_judge_of_whom_no_word_can_be_read_is_said(run, job, tmp_path, messages, monkeypatch):
    monkeypatch.setattr("sq.synth.filters.solvability.majority", lambda answers: YesNo.UNPARSABLE)
    given = [f"input={put(tmp_path / 'q.jsonl', APPLES, APPLES[:-5] + '?')}", "filters=[solvability]"]
    run("filter", *given, "filters.solvability.measure=false", f"stage.scores={tmp_path / 's'}", to="f")
    (message,) = (one for one in messages() if "none of the judge's 2 words could be read as yes or no" in one)
    named = set(re.findall(r"filters\.solvability\.\w+", message))
    assert named and named <= flatten(job("filter", *given, "output_dir=x")).keys() and "(model=NAME)" in message


@pytest.mark.parametrize(
    ("domain", "question", "warned"),
    [
        ("arithmetic", "Solve $x^2 = 2$ for $x$.", True),
        ("programs", "Solve $x^2 = 2$ for $x$.", True),
        ("arithmetic", APPLES, False),
        ("math", "Solve $x^2 = 2$ for $x$.", False),
    ],
)
def test_a_domain_over_rows_of_another_kind_is_said_before_anything_runs(
    job, tmp_path, messages, domain, question, warned
):
    made = job("answers", f"input={put(tmp_path / 'q.jsonl', question)}", f"domain={domain}", "engine=hf")
    made.stage.spec(made)
    said = f"domain={domain} understands none of the first 1 question of q.jsonl"
    assert any(said in message for message in messages()) is warned


@pytest.mark.parametrize("source", ["domain", "q.jsonl"])
def test_rows_name_the_domain_of_the_stage_that_first_had_them(run, tmp_path, source):
    put(tmp_path / "q.jsonl", APPLES)
    given = "domain" if source == "domain" else tmp_path / source
    run("answers", f"input={given}", "limit=2", to="a")
    assert {row["domain"] for row in read_rows(tmp_path / "a")} == {"arithmetic"}


def test_nothing_is_said_of_a_judge_that_the_stage_does_not_have(run, tmp_path, messages):
    file = tmp_path / "q.csv"
    file.write_text(f"question,solvable,level\n{APPLES},,\n{APPLES} Why?,perhaps,\n")
    run("filter", f"input={file}", "filters=[format]", to="f")
    assert not any("judge" in message for message in messages())
    assert [(row["solvable"], row["level"]) for row in read_rows(tmp_path / "f")] == [(None, None), ("perhaps", None)]
