"""Evaluations from problems to figures, by an engine that speaks the protocol: resumed, killed, read back, regraded."""

import importlib.util
import json
import re
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from forked_command import ForkedCommand

from sq.core.errors import ConfigError, EngineError, LedgerError, UnfinishedError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.engine.base import Completion, Result
from sq.eval import checkers
from sq.eval.compare import compare

SCRIPT = Path(__file__).with_name("slow_engine.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def slow():
    spec = importlib.util.spec_from_file_location("slow_engine", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["slow_engine"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    path = tmp_path_factory.mktemp("problems") / "gsm8k.jsonl"
    rows = [{"question": f"What is {i} mod 5?", "answer": f"Divide.\n#### {i % 5}"} for i in range(40)]
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"question": "odd?", "answer": "#### none"}]))
    return path


def arguments(problems, *more):
    return ("benchmark=[gsm8k]", f"++benchmark.gsm8k.path={problems}", *more)


def contents(directory):
    """What two runs over the same work must share: all but the id of the run."""
    return [{k: v for k, v in row.items() if k != "run"} for row in read_rows(directory)]


def test_every_answer_is_kept_graded_twice_and_printed(slow, random_tiny, problems, tmp_path, capsys):
    figures = slow.job(random_tiny, tmp_path / "ev", *arguments(problems), log=str(tmp_path / "log")).run()["gsm8k"]
    answers = list(read_rows(tmp_path / "ev/gsm8k/answers"))
    scores = list(read_rows(tmp_path / "ev/gsm8k/scores"))
    assert len(answers) == 40 and len(scores) == 80 and len({s["id"] for s in scores}) == 80
    assert {s["profile"] for s in scores} == {"strict", "dart"}
    assert [r["reason"] for r in read_rejects(tmp_path / "ev/gsm8k/answers")] == ["reference"]
    right = [s["prediction"] == f"I think it is \\boxed{{{s['reference']}}}." for s in scores]
    assert right == [s["correct"] for s in scores] and 0 < sum(right) < 80
    assert figures["accuracy"] == sum(right) / 80 == figures["dart/accuracy"]
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    assert (figures["problems"], figures["left_out"], figures["tokens"]) == (40, 1, 9)
    assert all(s["parents"][:2] == [a["id"], a["item"]] for a, s in zip(answers, scores[::2], strict=True))
    shown = capsys.readouterr().out
    assert re.search(r"gsm8k\s+strict\s+40\s+\d+\.\d%\s+\d+\.\d% to \d+\.\d%", shown)
    assert "left out: 1 problem (" in shown

    before = {p: p.read_bytes() for p in sorted((tmp_path / "ev").rglob("*")) if p.is_file()}
    started = (tmp_path / "log").read_text()
    again = slow.job(random_tiny, tmp_path / "ev", *arguments(problems), log=str(tmp_path / "log")).run()["gsm8k"]
    assert again == figures and (tmp_path / "log").read_text() == started, "a finished evaluation starts no engine"
    assert {p: p.read_bytes() for p in sorted((tmp_path / "ev").rglob("*")) if p.is_file()} == before


@pytest.mark.parametrize("marks", [("<think>", "</think>"), ("<hm>", "</hm>")])
def test_reasoning_that_the_prompt_opened_or_with_marks_of_its_own_holds_no_answer(
    slow, random_tiny, tmp_path, monkeypatch, marks
):
    replies = ["Is it \\boxed{5}? Let me see", f"Is it \\boxed{{4}}? No.\n{marks[1]}\nIt is \\boxed{{5}}."]
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps({"question": f"{i}?", "answer": "#### 5"}) + "\n" for i in range(2)))

    def answers(self, window):
        for request in window:
            said = (Completion(text=replies.pop(0), finish_reason="stop", tokens=9),)
            yield Result(key=request.key, completions=said, prompt_tokens=7)

    monkeypatch.setattr(slow.SlowEngine, "_answers", answers)
    opened = f"++model.chat.answer_prefix='<|im_end|>\\n<|im_start|>assistant\\n{marks[0]}\\n'"
    settings = arguments(path, "format=chat", opened, "profiles=[strict]")
    plain = slow.job(random_tiny, tmp_path / "ev", *settings).run()["gsm8k"]
    marked = (*settings, f"++model.chat.reasoning=['{marks[0]}','{marks[1]}']")
    figures = slow.job(random_tiny, tmp_path / "ev", *marked).run()["gsm8k"]
    assert (plain["accuracy"], figures["accuracy"]) == (1.0, 0.5), "graded anew, and nothing is asked again"
    scores = list(read_rows(tmp_path / "ev/gsm8k/scores"))
    assert [s["extracted"] for s in scores] == [None, "5"]
    assert all(s["prediction"].startswith("<think>\nIs it") for s in scores)


def test_another_setting_in_the_same_directory_is_refused(slow, random_tiny, problems, tmp_path):
    slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "limit=4")).run()
    for change, told in (
        ("limit=5", "problems: 4 there, 5 now"),
        ("max_tokens=9", r"sampling\.max_tokens: 2048 there, 9"),
    ):
        with pytest.raises(LedgerError, match=told):
            slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "limit=4", change)).run()


def test_a_new_grader_grades_again_without_asking_again(slow, random_tiny, problems, tmp_path, monkeypatch, caplog):
    first = slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "limit=6"), log=str(tmp_path / "log")).run()
    log = (tmp_path / "log").read_text()
    monkeypatch.setattr(checkers, "grader_version", lambda: "another")
    again = slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "limit=6"), log=str(tmp_path / "log")).run()
    assert again == first and (tmp_path / "log").read_text() == log
    kept = [p.name for p in (tmp_path / "ev/gsm8k").iterdir() if p.name.startswith("scores-")]
    assert len(kept) == 1 and "kept as scores-" in caplog.text
    assert read_manifest(tmp_path / "ev/gsm8k/scores").config["grader"] == "another"


@pytest.mark.slow
def test_runs_of_evaluations_are_told_apart_by_their_models(slow, random_tiny, problems, tmp_path):
    tracking = ("tracking=sqlite", f"tracking.uri=sqlite:///{tmp_path}/runs.db")
    slow.job(random_tiny, tmp_path / "ev", *arguments(problems), *tracking, "limit=4", "model.name=lr-0.1").run()
    opened = json.loads((tmp_path / "ev/metrics.jsonl").read_text().splitlines()[0])
    assert opened["name"] == "evaluate lr-0.1"


def test_several_answers_and_a_reward_model(slow, random_tiny, problems, tmp_path):
    job = slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "n=4", "temperature=1.0", "limit=8"))
    job = type(job)(**{**vars(job), "reward": job.model, "reward_engine": slow.SlowConfig()})
    figures = job.run()["gsm8k"]
    assert {"pass_at_2", "pass_at_4", "maj_at_4", "best_of_4", "best_of_4_low"} <= figures.keys()
    assert figures["accuracy"] <= figures["pass_at_2"] <= figures["pass_at_4"]
    assert len(list(read_rows(tmp_path / "ev/gsm8k/rewards"))) == 32
    assert job.run()["gsm8k"] == figures


def test_a_limit_beyond_the_context_is_logged_before_anything_is_asked(
    slow, random_tiny, problems, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(slow.SlowConfig, "context", lambda self, model: 1024)
    slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "limit=1")).run()
    assert re.search(r"max_tokens=2048 does not fit: the context of model \S+ is 1,024 tokens here", caplog.text)
    caplog.clear()
    slow.job(random_tiny, tmp_path / "short", *arguments(problems, "limit=1", "max_tokens=512")).run()
    assert "does not fit" not in caplog.text


def test_what_the_engine_cannot_answer_counts_as_wrong(slow, random_tiny, problems, tmp_path, caplog):
    figures = slow.job(random_tiny, tmp_path / "ev", *arguments(problems), failing=True).run()["gsm8k"]
    failed = [a for a in read_rows(tmp_path / "ev/gsm8k/answers") if a["prediction_finish_reason"] == "error"]
    assert 0 < len(failed) < 40 and figures["failed"] == len(failed) / 40 and figures["problems"] == 40
    assert all("the prompt is too long" in a["extra"] for a in failed)
    assert f"the engine could not answer {len(failed)} problems" in caplog.text


def test_what_failed_is_no_wrong_answer_and_is_asked_again(slow, random_tiny, problems, tmp_path, monkeypatch):
    words = arguments(problems, "benchmark=[gsm8k,arithmetic]", "limit=20")

    def job(output):
        made = slow.job(random_tiny, tmp_path / output, *words, log=str(tmp_path / "log"))
        return replace(made, engine=slow.SlowConfig(max_failures=0.5))

    def lines():
        return len((tmp_path / "log").read_text().splitlines())

    monkeypatch.setattr(slow.SlowConfig, "down", frozenset({1, 4, 7}))
    told = r"gsm8k: \d+ problems done, \d+ problems? left(.|\n)*arithmetic: \d+ problems done"
    with pytest.raises(UnfinishedError, match=told) as left:
        job("ev").run()
    assert "HTTP 500: out of order" in str(left.value) and left.value.exit_code == 75
    asked = lines()
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset())
    figures = job("ev").run()
    assert 2 < lines() - asked < 20, "one start, and only what failed"
    assert figures["gsm8k"]["failed"] == 0 and figures["gsm8k"]["problems"] == 20
    assert figures == job("other").run()


def test_many_failures_stop_an_evaluation(slow, random_tiny, problems, tmp_path, monkeypatch):
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset(range(10)))
    with pytest.raises(EngineError, match="4 of 4 requests failed, more than engine.max_failures=0.01 allows"):
        slow.job(random_tiny, tmp_path / "ev", *arguments(problems)).run()
    assert not list(read_rows(tmp_path / "ev/gsm8k/answers", unfinished=True))


def test_what_an_engine_could_not_answer_can_be_asked_again(slow, random_tiny, problems, tmp_path, monkeypatch):
    made = slow.job(random_tiny, tmp_path / "ev", *arguments(problems))
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset({4}))
    given_up = replace(made, engine=slow.SlowConfig(max_failures=1.0, reject_failed=True)).run()["gsm8k"]
    assert given_up["failed"] > 0
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset())
    assert made.run()["gsm8k"] == given_up, "a finished evaluation stays as it is"
    again = replace(made, retry_engine_rejects=True).run()["gsm8k"]
    assert again["failed"] == 0
    assert again == slow.job(random_tiny, tmp_path / "other", *arguments(problems)).run()["gsm8k"]


@pytest.mark.parametrize("given_up", [False, True])
def test_a_reward_that_failed_is_asked_for_again(slow, random_tiny, problems, tmp_path, monkeypatch, given_up):
    job = slow.job(random_tiny, tmp_path / "ev", *arguments(problems, "n=2", "temperature=1.0", "limit=1"))
    scorer = slow.SlowConfig(max_failures=1.0, reject_failed=given_up)
    job = replace(job, reward=job.model, reward_engine=scorer, retry_engine_rejects=given_up)
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset({10}))
    with nullcontext() if given_up else pytest.raises(UnfinishedError, match="2 answers without a reward"):
        job.run()
    assert len(list(read_rejects(tmp_path / "ev/gsm8k/rewards", unfinished=True))) == 2 * given_up
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset())
    assert "best_of_2" in job.run()["gsm8k"] and len(list(read_rows(tmp_path / "ev/gsm8k/rewards"))) == 2


def test_answers_that_are_asked_again_get_rewards_of_their_own(slow, random_tiny, problems, tmp_path, monkeypatch):
    def job(output):
        made = slow.job(random_tiny, tmp_path / output, *arguments(problems, "n=2", "temperature=1.0", "limit=8"))
        given_up = slow.SlowConfig(max_failures=1.0, reject_failed=True)
        return replace(made, engine=given_up, reward=made.model, reward_engine=slow.SlowConfig())

    monkeypatch.setattr(slow.SlowConfig, "down", frozenset({9}))
    assert 0 < job("ev").run()["gsm8k"]["failed"] < 1
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset())
    again = replace(job("ev"), retry_engine_rejects=True).run()
    assert again == job("other").run() == job("ev").run()
    assert contents(tmp_path / "ev/gsm8k/rewards") == contents(tmp_path / "other/gsm8k/rewards")
    assert len(list(read_rows(tmp_path / "ev/gsm8k/rewards-before-1"))) == 16, "kept"


def test_the_domains_check_is_exact_and_asks_the_bare_question(slow, random_tiny, tmp_path):
    job = slow.job(
        random_tiny, tmp_path / "ev", "benchmark=[arithmetic]", "limit=12", "format=chat", log=str(tmp_path / "l")
    )
    figures = job.run()["arithmetic"]
    scores = list(read_rows(tmp_path / "ev/arithmetic/scores"))
    assert {s["profile"] for s in scores} == {"exact"} and figures["problems"] == len(scores) == 12
    from sq.models.load import load_tokenizer

    asked = [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()]
    text = load_tokenizer(job.model).decode(next(a["ids"] for a in asked if a.get("ids")))
    assert "step by step" not in text and text.count("?") == 1


def follow_up(tmp_path):
    """Three conversations of three rounds."""
    path = tmp_path / "follow_up.jsonl"
    said = "A: And then?\nB: It is \\ANSWER{3}.\n\nA: And at last?\nB: It is \\ANSWER{4}."
    rows = [{"question": f"What is {i} + 0?", "answer": f"#### {i % 5}", "followup": said} for i in range(3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return "benchmark=[mathchat_followup]", f"++benchmark.mathchat_followup.path={path}", "format=chat"


def test_a_conversation_goes_on_with_the_models_own_replies(slow, random_tiny, tmp_path):
    job = slow.job(random_tiny, tmp_path / "ev", *follow_up(tmp_path), log=str(tmp_path / "log"))
    figures = job.run()["mathchat_followup"]
    assert figures["problems"] == 9 and {f"accuracy_level_{r}" for r in (1, 2, 3)} <= figures.keys()
    asked = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    last = [a["messages"] for a in asked if a.get("messages") and len(a["messages"]) == 5]
    assert len(last) == 3
    for messages in last:
        assert [m["role"] for m in messages] == ["user", "assistant"] * 2 + ["user"]
        assert "boxed" in messages[0]["content"] and messages[2]["content"] == "And then?"
        assert re.fullmatch(r"I think it is \\boxed\{\d\}\.", messages[1]["content"])
    log = (tmp_path / "log").read_text()
    assert job.run()["mathchat_followup"] == figures and (tmp_path / "log").read_text() == log


def test_a_conversation_goes_on_from_a_reply_that_was_asked_for_again(slow, random_tiny, tmp_path, monkeypatch):
    def job(output):
        made = slow.job(random_tiny, tmp_path / output, *follow_up(tmp_path))
        return replace(made, engine=slow.SlowConfig(max_failures=1.0, reject_failed=True))

    monkeypatch.setattr(slow.SlowConfig, "down", frozenset({1, 3, 5, 7}))
    assert 0 < job("ev").run()["mathchat_followup"]["failed"] < 1
    monkeypatch.setattr(slow.SlowConfig, "down", frozenset())
    again = replace(job("ev"), retry_engine_rejects=True).run()
    assert again == job("other").run() == job("ev").run()
    for name in ("answers", "answers-2", "answers-3"):
        assert contents(tmp_path / "ev/mathchat_followup" / name) == contents(
            tmp_path / "other/mathchat_followup" / name
        )


def test_plain_text_for_base_models_and_a_model_without_a_template(slow, random_tiny, problems, tmp_path):
    bare = tmp_path / "model"
    bare.mkdir()
    for file in random_tiny.iterdir():
        if file.name == "tokenizer_config.json":
            kept = {k: v for k, v in json.loads(file.read_text()).items() if k != "chat_template"}
            (bare / file.name).write_text(json.dumps(kept))
        elif file.name != "chat_template.jinja":
            (bare / file.name).symlink_to(file)
    with pytest.raises(ConfigError, match="has no chat template.*say so: format=alpaca"):
        slow.job(bare, tmp_path / "ev", *arguments(problems, "limit=2")).run()
    job = slow.job(bare, tmp_path / "ev", *arguments(problems, "limit=2", "format=alpaca"), log=str(tmp_path / "log"))
    assert job.run()["gsm8k"]["problems"] == 2
    asked = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    from sq.models.load import load_tokenizer

    text = load_tokenizer(job.model).decode(next(a["ids"] for a in asked if a.get("ids")))
    assert "### Instruction:" in text.replace(" :", ":") and text.rstrip().endswith(":")


def test_a_format_for_one_of_several_models(slow, random_tiny):
    job = slow.job(random_tiny, "out", "benchmark=[arithmetic]", "+format@formats.tiny=alpaca")
    assert job.formats["tiny"].name == "alpaca" and not job.formats["tiny"].chat
    with pytest.raises(ConfigError, match="formats.tinny is for no model here, did you mean 'tiny'"):
        slow.job(random_tiny, "out", "benchmark=[arithmetic]", "+format@formats.tinny=alpaca")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n=2", "n=2 answers with temperature=0 are all the same"),
        ("profiles=[strickt]", "'strickt' is not one of strict, dart, math-verify, did you mean 'strict'"),
        ("profiles=[]", "profiles=.. names no grader"),
        ("++k=[8]", r"k=\[8\] needs more answers to each problem than n=1"),
        ("+model@reward=tiny", "reward and reward_engine come together"),
    ],
)
def test_mistakes_have_a_message_before_anything_starts(slow, random_tiny, override, message):
    with pytest.raises(ConfigError, match=message):
        slow.job(random_tiny, "out", override)


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_ends_as_if_it_had_not_been(random_tiny, problems, tmp_path):
    def start(output, seconds):
        return ForkedCommand(SCRIPT, [random_tiny, problems, output, seconds])

    def asked(output):
        log = Path(f"{output}.log")
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line)["key"] for line in lines if "key" in json.loads(line)]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for wanted in (6, 20):  # once early, once later
        with start(killed, 0.05) as process:
            deadline = time.monotonic() + 120
            while len(asked(killed)) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not read_manifest(killed / "gsm8k/answers").finished
    with start(killed, 0.0) as done:
        assert done.wait(300) == 0, done.stderr[-2000:]
    keys = asked(killed)
    assert len(set(keys)) == 40 and len(keys) <= 40 + 2, "at most the answer in flight is asked again at a kill"
    with start(whole, 0) as expected:
        assert expected.wait(300) == 0, expected.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(expected.stdout.splitlines()[-1])
    assert contents(killed / "gsm8k/answers") == contents(whole / "gsm8k/answers")
    assert contents(killed / "gsm8k/scores") == contents(whole / "gsm8k/scores")
    assert not any(c.difference.real for c in compare(killed, whole))
