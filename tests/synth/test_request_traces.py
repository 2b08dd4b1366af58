"""What a stage asks for its first items is logged as traces: prompt, reply, tokens, and what came of the item."""

import json

import pytest
from forked_workers import fork_workers

from sq.core.ledger import read_rejects, read_rows


def traces(directory):
    records = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["op"] == "trace"]


@pytest.fixture
def tracked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words, to: (run(*words, "tracking=sqlite", to=to), traces(tmp_path / to))[1]


def test_an_item_of_answers_has_one_request(tracked, tmp_path):
    found = tracked("answers", "input=domain", "limit=5", "stage.n=2", "tracking.traces=3", to="a")
    rows = [row["response"] for row in read_rows(tmp_path / "a")]
    assert len(found) == 3 and all(trace["response"] == "2 rows" and not trace["failed"] for trace in found)
    for trace in found:
        (request,) = trace["requests"]
        assert trace["prompt"] == request["prompt"] and request["prompt"].startswith("user: ")
        replies = request["response"].split("\n---\n")
        assert len(replies) == 2 and set(replies) <= set(rows)
        tokens = request["tokens"]
        assert tokens["input_tokens"] + tokens["output_tokens"] == tokens["total_tokens"] > 0


def test_what_came_of_a_question_to_the_judge_is_its_word(tracked, tmp_path):
    tracked("answers", "input=domain", "limit=12", "stage.n=1", to="a")
    found = tracked("filter", "filters=[solvability]", f"input={tmp_path / 'a'}", to="f")
    replies = {row["judge_reply"] for row in read_rows(tmp_path / "f")}
    replies |= {json.loads(reject["row"])["judge_reply"] for reject in read_rejects(tmp_path / "f")}
    assert len(found) == 12, "twenty is the default, there are fewer"
    assert {trace["response"] for trace in found} == replies


def test_a_worker_sends_its_traces(tracked, tmp_path, monkeypatch):
    fork_workers(monkeypatch)
    more = ("part_size=8", "workers=2", "tracking.traces=3")
    found = tracked("answers", "input=domain", "limit=40", "stage.n=2", *more, to="a")
    assert len(found) == 3 and all(trace["response"] == "2 rows" and trace["requests"] for trace in found)


def test_without_tracking_nothing_is_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sq.synth.model_client.ModelClient.traces", None)
    run("answers", "input=domain", "limit=2", to="a")
    assert not (tmp_path / "a" / "metrics.jsonl").exists()
