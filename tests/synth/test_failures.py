"""Requests that fail: none becomes a result, the same command asks again, many stop the stage, old rejects come back.

A local OpenAI-compatible server answers as the arithmetic oracle does, and HTTP 500 for what it is told to.
"""

from __future__ import annotations

import json
from pathlib import Path

import forked_command
import pytest
from openai_endpoint import Endpoint, error

from sq.core.errors import EngineError, UnfinishedError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.oracle import OracleConfig, OracleEngine
from sq.engine.base import Request, Result, Sampling, ScoreResult
from sq.engine.failures import FailureLimit

ROOT = Path(__file__).resolve().parents[2]
BROKEN = (500, "", "out of order: " + "the whole of a long error, " * 20 + "to its end")
OPENAI = ("engine=openai", "engine.attempts=2", "engine.backoff=0.01", "engine.concurrency=4", "model=tiny")


@pytest.fixture
def endpoint(monkeypatch):
    endpoint = Endpoint()
    oracle = OracleEngine(OracleConfig(error_rate=0.2))

    def say(name, seed):
        message = ({"role": "user", "content": name},)
        (result,) = oracle.generate([Request(key="", seed=seed, messages=message, sampling=Sampling())])
        return result.completions[0].text

    endpoint.say = say
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{endpoint.port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private-0123456789")
    yield endpoint
    endpoint.close()


@pytest.fixture
def questions(tmp_path):
    texts = [row["question"] for row in ArithmeticDomain().seeds(40, 0, "train")]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    return path, texts


def fails_on(*texts, fault=BROKEN):
    return lambda name, attempt: fault if any(text in name for text in texts) else None


def contents(directory):
    """All rows and rejects in their order, but for the name of the run that made them."""
    rows = [{**row, "run": None} for row in read_rows(directory)]
    rejects = [{**reject, "row": {**json.loads(reject["row"]), "run": None}} for reject in read_rejects(directory)]
    return rows, rejects


def test_a_server_that_is_down_for_some_prompts_loses_none_of_them(run, endpoint, questions, tmp_path):
    """22 of 40 prompts get HTTP 500; then the server is healthy, and the same command completes all rows."""
    file, texts = questions
    command = ("answers", *OPENAI, f"input={file}", "stage.n=2")
    endpoint.fault = fails_on(*texts[18:])
    with pytest.raises(EngineError, match="requests failed, more than engine.max_failures=0.01 allows") as stopped:
        run(*command, to="a")
    assert str(stopped.value).count(BROKEN[2]) == 3 and stopped.value.exit_code == 1, "the first three, in full"
    assert not list(read_rejects(tmp_path / "a", unfinished=True))
    served = {text for text in texts if any(text in name for name in endpoint.served)}
    assert served

    endpoint.fault, before = fails_on(), endpoint.served.copy()
    metrics = run(*command, to="a")
    assert (metrics["items"], metrics["rows"], metrics["rejects"]) == (40, 80, 0)
    assert set(endpoint.served) - set(before), "the others were asked"
    run(*command, to="undisturbed")
    assert contents(tmp_path / "a") == contents(tmp_path / "undisturbed")


def test_a_few_failures_leave_the_stage_unfinished_and_say_how_to_go_on(endpoint, questions, tmp_path):
    file, texts = questions
    words = ["stage=answers", *OPENAI, f"input={file}", "tracking=none", f"output_dir={tmp_path / 'a'}", "stage.n=2"]
    endpoint.fault = fails_on(texts[3], texts[20], texts[39])
    done = forked_command.run("synthesize.py", words)
    assert done.returncode == 75, done.stderr
    said, _, end = done.stderr.partition("answers: 37 questions done, 3 questions left")
    assert said.count("a request failed: ") == said.count(BROKEN[2]) == 1, "the first, when it happens"
    assert end.count(BROKEN[2]) == 3
    assert "Run the same command again: only what failed is asked" in done.stderr and "Traceback" not in done.stderr
    assert not read_manifest(tmp_path / "a").finished

    endpoint.fault = fails_on()
    endpoint.seen.clear()
    done = forked_command.run("synthesize.py", words)
    assert done.returncode == 0, done.stderr
    assert "40 questions in -> 80 rows, 0 rejects, 37 of them done before" in done.stderr
    assert len(endpoint.seen) == 3, "only what failed is asked"


def test_what_can_never_be_served_is_a_reject_with_its_reason(run, endpoint, questions, tmp_path):
    file, texts = questions
    endpoint.fault = fails_on(texts[5], fault=error(400, "This model's maximum context length is 128 tokens"))
    metrics = run("answers", *OPENAI, f"input={file}", "stage.n=1", to="a")
    assert (metrics["rows"], metrics["rejects/refused"]) == (39, 1)
    (reject,) = read_rejects(tmp_path / "a")
    assert reject["detail"] == "HTTP 400: This model's maximum context length is 128 tokens"


def test_where_every_request_is_refused_it_is_not_the_prompts_fault(run, endpoint, questions, tmp_path):
    file, _ = questions
    endpoint.fault = lambda name, attempt: error(400, "Unrecognized request argument: top_p")
    with pytest.raises(EngineError, match="Unrecognized request argument"):
        run("answers", *OPENAI, f"input={file}", to="a")
    assert not list(read_rejects(tmp_path / "a", unfinished=True))


def test_where_they_fail_each_time_they_can_be_rejected_and_asked_again_later(run, endpoint, questions, tmp_path):
    """What an older version left behind looks the same: rejects with the reason `engine`."""
    file, texts = questions
    command = ("answers", *OPENAI, f"input={file}", "stage.n=3")
    endpoint.fault = fails_on(*texts[::3])
    given_up = run(*command, "engine.reject_failed=true", "engine.max_failures=1", to="a")
    assert (given_up["rows"], given_up["rejects/engine"]) == (26 * 3, 14)

    endpoint.fault = fails_on()
    assert run(*command, to="a")["rejects/engine"] == 14, "a finished stage stays as it is"
    endpoint.seen.clear()
    again = run(*command, "retry_engine_rejects=true", to="a")
    assert (again["rows"], again["rejects"], len(endpoint.seen)) == (120, 0, 14)
    run(*command, to="undisturbed")
    assert contents(tmp_path / "a") == contents(tmp_path / "undisturbed")


def test_candidates_stay_under_their_question_where_each_wants_its_own_number(run, endpoint, questions, tmp_path):
    file, texts = questions
    lines = [{"question": text, "answers_wanted": wanted} for text, wanted in zip(texts, (1, 2, 3), strict=False)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ("answers", *OPENAI, f"input={file}")
    endpoint.fault = fails_on(texts[1])
    run(*command, "engine.reject_failed=true", "engine.max_failures=1", to="a")
    endpoint.fault = fails_on()
    run(*command, "retry_engine_rejects=true", to="a")
    run(*command, to="undisturbed")
    assert contents(tmp_path / "a") == contents(tmp_path / "undisturbed")


def judged(run, file, tmp_path, *more, to):
    chain = "filters=[solvability,duplicates]"
    return run("filter", *OPENAI, chain, f"input={file}", f"stage.scores={tmp_path / 'scores'}", *more, to=to)


def twice(file):
    """Every question twice, so that which one stands depends on what the judge said of the other."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, *(line.replace('{"question": "', '{"question": "So: ') for line in lines)]))
    return len(lines) * 2


def test_a_judges_error_never_enters_the_store(run, endpoint, questions, tmp_path):
    file, texts = questions
    count = twice(file)
    endpoint.fault = fails_on("So: " + texts[2], texts[30] + "\n", fault=BROKEN)
    with pytest.raises(UnfinishedError, match="the judge gave no word on [23] questions: requests failed"):
        judged(run, file, tmp_path, to="f")
    (store,) = (tmp_path / "scores").iterdir()
    assert "out of order" not in (store / "scores.jsonl").read_text()

    endpoint.fault = fails_on()
    endpoint.seen.clear()
    metrics = judged(run, file, tmp_path, to="f")
    assert metrics["items"] == count and not metrics.get("rejects/engine")
    assert len(endpoint.seen) in (2, 3), "only what failed is asked"
    (store / "scores.jsonl").unlink()
    judged(run, file, tmp_path, to="undisturbed")
    assert contents(tmp_path / "f") == contents(tmp_path / "undisturbed")


def test_a_filter_that_an_error_went_into_is_made_again_as_a_whole(run, endpoint, questions, tmp_path):
    file, texts = questions
    twice(file)
    endpoint.fault = fails_on(texts[2])
    given_up = judged(run, file, tmp_path, "engine.reject_failed=true", "engine.max_failures=1", to="f")
    assert given_up["rejects/engine"] == 2
    endpoint.fault = fails_on()
    endpoint.seen.clear()
    judged(run, file, tmp_path, "retry_engine_rejects=true", to="f")
    assert len(endpoint.seen) == 2
    judged(run, file, tmp_path, to="undisturbed")
    assert contents(tmp_path / "f") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("stage", "more", "unit", "asked"),
    [
        ("fail_rate", ("limit=40", "stage.n=6", "stage.step=2", "stage.width=0.3"), "problem", ""),
        ("rewrite", ("stage.judge_prompt=judge_solvability",), "question", "answer: yes"),
        ("rewrite", ("stage.source=success_rate", "stage.k=4", "stage.window=8"), "window", ""),
    ],
)
def test_an_item_of_which_one_request_fails_is_left_as_a_whole(
    run, endpoint, questions, tmp_path, stage, more, unit, asked
):
    """The last step of a label, the judge's second look at a pair, one question of a window."""
    file, _ = questions
    command = (stage, *OPENAI, *([f"input={file}"] if stage == "rewrite" else []), *more)
    run(*command, to="undisturbed")
    most = max(endpoint.seen.values())
    prompt = next(name for name, times in endpoint.seen.items() if times == most and asked in name.lower())
    endpoint.seen.clear()
    endpoint.fault = lambda name, attempt: BROKEN if name == prompt and attempt >= most else None
    with pytest.raises(UnfinishedError, match=f"1 {unit} left"):
        run(*command, to="a")
    endpoint.fault = fails_on()
    run(*command, to="a")
    assert contents(tmp_path / "a") == contents(tmp_path / "undisturbed")


def test_a_candidate_without_a_score_leaves_its_question_open(run, tmp_path, monkeypatch):
    run("answers", "input=domain", "limit=20", "engine.error_rate=0.4", to="candidates")
    command = ("select", f"input={tmp_path / 'candidates'}")
    run(*command, to="undisturbed")
    score, failed = OracleEngine.score, []

    def fails_once(self, requests):
        for result in score(self, requests):
            if not failed:
                failed.append(result.key)
                result = ScoreResult(key=result.key, error="CUDA error: out of memory")
            yield result

    monkeypatch.setattr(OracleEngine, "score", fails_once)
    with pytest.raises(UnfinishedError, match="19 questions done, 1 question left"):
        run(*command, to="a")
    run(*command, to="a")
    assert contents(tmp_path / "a") == contents(tmp_path / "undisturbed")


def test_an_answer_of_fewer_choices_whose_rest_fails_leaves_the_question_open(run, endpoint, questions, tmp_path):
    file, texts = questions
    only_one = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "\\boxed{1}"}}]}

    def fault(name, attempt):
        if texts[7] not in name:
            return None
        return (200, "", json.dumps(only_one)) if attempt == 1 else BROKEN

    endpoint.fault = fault
    with pytest.raises(UnfinishedError, match="39 questions done, 1 question left"):
        run("answers", *OPENAI, f"input={file}", "stage.n=3", to="a")
    endpoint.fault = fails_on()
    assert run("answers", *OPENAI, f"input={file}", "stage.n=3", to="a")["rows"] == 120
    assert len({row["id"] for row in read_rows(tmp_path / "a")}) == 120


@pytest.mark.parametrize(
    ("share", "results", "failed", "stops"),
    [
        (0.01, 20, 1, False),
        (0.01, 40, 3, False),
        (0.01, 40, 4, True),
        (0.01, 1000, 13, False),
        (0.01, 1000, 15, True),
        (0.0, 1000, 1, True),
        (1.0, 50, 50, False),
    ],
)
def test_how_many_failures_stop_a_run(share, results, failed, stops):
    good = [Result(key=str(i)) for i in range(results - failed)]
    bad = [Result(key="bad", error=f"HTTP 50{i}") for i in range(failed)]
    limit = FailureLimit(OracleConfig(max_failures=share))
    refused = [Result(key="long", error="too long", refused=True)] * 20
    if not stops:
        assert len(list(limit.watch(iter([*good, *bad])))) == results
        assert len(list(FailureLimit(OracleConfig()).watch(iter(refused)))) == 20, "what is refused has not failed"
        return
    with pytest.raises(EngineError, match="requests failed, more than"):
        list(limit.watch(iter([*good, *bad])))
