"""Answers: n a question in one request, every candidate kept; seeds, lineage, bad input, and nothing to do twice."""

import json
from collections import Counter

import pytest

from sq.core.errors import ConfigError, LedgerError, RowError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Request, Result


def rows_of(path):
    return [{k: v for k, v in row.items() if k != "run"} for row in read_rows(path)]


def test_each_question_has_n_candidates_with_their_story(run, tmp_path):
    metrics = run("answers", "input=domain", "limit=30", "stage.n=4", "engine.error_rate=0.4", to="a")
    rows = rows_of(tmp_path / "a")
    assert metrics["items"] == 30 and metrics["rows"] == 120 == len(rows)
    assert len({r["id"] for r in rows}) == 120 and len({r["question_id"] for r in rows}) == 30
    assert [r["response_index"] for r in rows] == [0, 1, 2, 3] * 30
    assert all(r["parents"][0] == r["question_id"] and r["seed"] == r["response_seed"] for r in rows)
    assert {r["correct"] for r in rows} == {True, False}
    assert all((r["response_answer"] is not None) == ("\\boxed" in r["response"]) for r in rows)
    right = [r["response_answer"] == r["answer"] for r in rows if r["correct"]]
    assert all(right) and metrics["correct"] == len(right) / 120


def test_a_reply_that_was_cut_off_has_only_an_answer_that_is_whole(run, tmp_path, monkeypatch):
    """By `answers`, `fail_rate` and `select`, as in evaluation: `#### 12` may be the start of 125."""
    texts = [("#### 12", "length"), ("#### 12", "stop"), ("\\boxed{12} is the", "length")]
    cut = tuple(Completion(text=text, finish_reason=reason, tokens=9) for text, reason in texts)
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, request: Result(key=request.key, completions=cut))
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What is 6 + 6?", "answer": "12"}))
    settings = (f"input={tmp_path / 'q.jsonl'}", "domain=math", "engine.domain=arithmetic")
    run("answers", *settings, "stage.n=3", to="a")
    rows = rows_of(tmp_path / "a")
    assert [(row["response_answer"], row["correct"]) for row in rows] == [(None, False), ("12", True), ("12", True)]
    run("fail_rate", *settings, "stage.n=3", "stage.step=3", to="f")
    assert next(read_rows(tmp_path / "f"))["k"] == 1
    kept = ["question", "answer", "question_id", "response", "response_finish_reason"]
    theirs = "\n".join(json.dumps({key: row[key] for key in kept}) for row in rows)
    (tmp_path / "c.jsonl").write_text(theirs)
    own = ("stage.method=majority", "stage.keep_cut_off=true", *settings[1:])
    assert run("select", f"input={tmp_path / 'c.jsonl'}", *own, to="s")["rejects/no_answer"] == 1


def test_one_request_a_question(run, tmp_path, monkeypatch):
    seen: list[Request] = []
    answer = OracleEngine.generate
    monkeypatch.setattr(
        OracleEngine, "generate", lambda self, requests: answer(self, (seen.append(r) or r for r in requests))
    )
    run("answers", "input=domain", "limit=10", to="a")
    assert len(seen) == 10 and {r.sampling.n for r in seen} == {5} and len({r.seed for r in seen}) == 10


def test_a_finished_stage_is_read_back_without_an_engine(run, tmp_path, monkeypatch):
    first = run("answers", "input=domain", "limit=10", to="a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    monkeypatch.setattr(OracleEngine, "generate", lambda *_: pytest.fail("the engine was asked"))
    again = run("answers", "input=domain", "limit=10", to="a")
    assert again == {**first, "resumed": 10.0}
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before


def test_another_setting_is_refused_there(run):
    run("answers", "input=domain", "limit=10", to="a")
    with pytest.raises(LedgerError, match=r"stage\.temperature"):
        run("answers", "input=domain", "limit=10", "stage.temperature=0.5", to="a")


def test_a_file_from_outside_with_its_own_columns_and_bad_lines(run, tmp_path):
    lines = [{"q": "Tom has 2 apples. He buys 3 more apples. How many apples does he have now?", "a": "5"}, {"q": ""}]
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    metrics = run("answers", f"input={file}", "columns={question: q, answer: a}", "stage.n=2", to="a")
    assert metrics["items"] == 3 and metrics["rows"] == 2 and metrics["rejects"] == 2
    assert all(r["correct"] for r in read_rows(tmp_path / "a"))
    assert len({r["reason"] for r in read_rejects(tmp_path / "a")}) == 2


def test_slips_are_told_before_any_work(run, job):
    with pytest.raises(ConfigError, match="give input="):
        run("answers", to="a")
    with pytest.raises(RowError, match="there is no file"):
        run("answers", "input=./nowhere.jsonl", to="a")
    with pytest.raises(ConfigError, match=r"n=5 answers with temperature=0"):
        job("answers", "stage.temperature=0")
    with pytest.raises(ConfigError, match=r"n_by=fail_rate: several answers with temperature=0"):
        job("answers", "stage.temperature=0", "stage.n=1", "stage.n_by=fail_rate")


def test_greedy_answers_are_one_to_a_question_whatever_it_wants(run, tmp_path):
    lines = [{"question": f"How many apples are {i} apples and 2 apples?", "answers_wanted": i} for i in (1, 7)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for to, temperature, counts in (("greedy", 0, [1, 1]), ("sampled", 0.7, [1, 7])):
        run("answers", f"input={tmp_path / 'q.jsonl'}", "stage.n=1", f"stage.temperature={temperature}", to=to)
        assert list(Counter(row["question_id"] for row in read_rows(tmp_path / to)).values()) == counts


@pytest.mark.parametrize(
    "column, values, more, counts",
    [
        ("fail_rate", [0.0, 0.5, 0.9, 1.0, None], [], [1, 4, 12, 12, 0]),
        ("difficulty", [-0.1, 0.25, 0.75, 1.2, None], [], [1, 2, 12, 12, 0]),
        ("pass_rate", [1.0, 0.5, 0.25, 0.0, None], [], [1, 4, 12, 12, 0]),
        ("rated_difficulty", [0, 50, 75, 100, None], [], [1, 4, 12, 12, 0]),
        ("fail_rate", [0.0, 0.5, 0.6, 1.0, None], ["stage.n_allocation=uniform"], [4, 8, 10, 12, 0]),
    ],
)
def test_hard_questions_get_more_answers(run, tmp_path, column, values, more, counts):
    texts = [f"Tom has {i} apples. He buys 3 more apples. How many apples does he have now?" for i in range(5)]
    lines = [{"question": text, column: value} for text, value in zip(texts, values, strict=True)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [f"input={tmp_path / 'q.jsonl'}", "stage.n=4", f"stage.n_by={column}", "stage.n_most=12", *more]
    run("answers", *words, to="a")
    rows = Counter(row["question"] for row in read_rows(tmp_path / "a"))
    assert [rows[text] for text in texts] == counts
    assert [reject["reason"] for reject in read_rejects(tmp_path / "a")] == ["missing_column"]
    with pytest.raises(RowError, match=f"no column '?{column}"):
        (tmp_path / "none.jsonl").write_text(json.dumps({"question": texts[0]}) + "\n")
        run("answers", f"input={tmp_path / 'none.jsonl'}", f"stage.n_by={column}", to="b")


def test_a_file_s_own_response_is_kept_beside_the_new_ones(run, tmp_path):
    given = {"question": "Tom has 2 apples. He buys 3 more apples. How many apples does he have now?", "extra": "mine"}
    (tmp_path / "q.jsonl").write_text(json.dumps({**given, "response": "Five.", "correct": True}) + "\n")
    run("answers", f"input={tmp_path / 'q.jsonl'}", "stage.n=2", to="a")
    rows = list(read_rows(tmp_path / "a"))
    assert len(rows) == 2 and not any(row["response"] == "Five." or row["correct"] for row in rows)
    assert all(json.loads(row["extra"]) == {"extra": "mine", "response": "Five.", "correct": True} for row in rows)
    run("answers", f"input={tmp_path / 'a'}", "limit=1", "stage.n=1", to="again")
    (row,) = read_rows(tmp_path / "again")
    assert row["extra"] == rows[0]["extra"], "what a stage answered is in its own directory"
