"""Pass rates asked of a solver: what is counted, when sampling stops, what stays."""

import json

import pytest

from sq.core.errors import ConfigError, DirectoryError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.base import AnswerGroups, Domain
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Result
from sq.synth.filters.pass_rate import PassRateFilter


@pytest.fixture
def settings_here(tmp_path):
    """The filter, with a store of its own."""
    return ["filters=[pass_rate]", f"stage.scores={tmp_path / 'scores'}"]


@pytest.fixture
def answering(monkeypatch):
    """A solver that gives these answers in turn."""

    def answers(texts):
        def reply(self, request):
            start = replied.setdefault(request.prompt if hasattr(request, "prompt") else str(request.messages), 0)
            given = texts[start : start + request.sampling.n]
            replied[request.prompt if hasattr(request, "prompt") else str(request.messages)] = start + len(given)
            completions = [
                Completion(text=f"\\boxed{{{t}}}" if t else "?", finish_reason="stop", tokens=5) for t in given
            ]
            return Result(key=request.key, completions=tuple(completions))

        replied = {}
        monkeypatch.setattr(OracleEngine, "_answer", reply)

    return answers


CASES = [
    # reference, answers in turn, settings, pass rate, samples asked, why it goes
    ("5", "5555", [], 1.0, 4, None),
    ("5", "5" * 16, ["filters.pass_rate.max=0.9"], 1.0, 16, "too_easy"),
    ("5", "4444" * 4, [], 0.0, 16, "rarely_passed"),
    ("5", "4444" * 16, ["filters.pass_rate.k=64"], 0.0, 24, "rarely_passed"),
    ("5", "5566" * 4, ["filters.pass_rate.min=0.45"], 0.5, 16, None),
    (None, "7777" * 2, [], 1.0, 8, None),
    (None, "7778" + "9" * 12, [], 0.0, 16, "rarely_passed"),
    (None, "----" + "9" * 12, [], 0.0, 16, "rarely_passed"),
    (None, "77-8" + "7777" + "7897", ["filters.pass_rate.k=12", "filters.pass_rate.min=0.7"], 0.75, 12, None),
    ("5", "44455" + "555", ["filters.pass_rate.k=8", "filters.pass_rate.step=3"], 0.625, 8, None),
]


@pytest.mark.parametrize(("reference", "answers", "settings", "rate", "asked", "reason"), CASES)
def test_what_is_counted_and_when_sampling_stops(
    run, tmp_path, answering, settings_here, reference, answers, settings, rate, asked, reason
):
    answering([text if text != "-" else "" for text in answers])
    row = {"question": "What is 2 plus 3?", **({"answer": reference} if reference else {})}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    metrics = run("filter", f"input={tmp_path / 'q.jsonl'}", *settings_here, *settings, to="f")
    rows = [*read_rows(tmp_path / "f"), *(json.loads(r["row"]) for r in read_rejects(tmp_path / "f"))]
    (found,) = rows
    assert (found["pass_rate"], found["pass_rate_samples"]) == (rate, asked)
    assert found["pass_rate_low"] <= rate <= found["pass_rate_high"] and found["pass_rate_tokens"] == 5 * asked
    assert [r["reason"] for r in read_rejects(tmp_path / "f")] == ([reason] if reason else [])
    most = next((int(s.partition("k=")[2]) for s in settings if ".k=" in s), 16)
    assert metrics["pass_rate/tokens_saved"] == 5 * (most - asked) and metrics["pass_rate/samples"] == asked


def test_what_a_sample_counts_as_does_not_depend_on_other_counted_ones(
    run, tmp_path, answering, settings_here, monkeypatch
):
    """As where tests written beside programs decide which programs are the same: more programs, other tests."""

    def vote(domain, candidates):
        many = len(candidates.answers) > 5
        return AnswerGroups(keys=tuple("all" if many else answer for answer in candidates.answers))

    monkeypatch.setattr(ArithmeticDomain, "vote", vote)
    monkeypatch.setattr(ArithmeticDomain, "vote_many", Domain.vote_many)
    answering("7777" + "9" * 12)
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What is 2 plus 3?"}) + "\n")
    run("filter", f"input={tmp_path / 'q.jsonl'}", *settings_here, to="f")
    (reject,) = read_rejects(tmp_path / "f")
    assert json.loads(reject["row"])["pass_rate"] == 0.0


def test_nothing_is_asked_twice_and_easy_questions_save_tokens(run, tmp_path, settings_here, monkeypatch):
    first = run("filter", "input=domain", "limit=30", "engine.error_rate=0.1", *settings_here, to="f")
    assert first["rows"] == 30 and first["pass_rate/tokens_saved_share"] > 0.5
    monkeypatch.setattr(OracleEngine, "generate", lambda self, requests: pytest.fail("asked again"))
    again = run("filter", "input=domain", "limit=30", "engine.error_rate=0.1", *settings_here, to="g")
    assert again["pass_rate/mean"] == first["pass_rate/mean"]
    rows = zip(read_rows(tmp_path / "f"), read_rows(tmp_path / "g"), strict=True)
    assert all(a["pass_rate_low"] == b["pass_rate_low"] for a, b in rows)


def test_a_rate_is_of_one_way_to_check_answers(run, tmp_path, answering, settings_here, monkeypatch):
    """Kept rates are not those of another grader or tolerance, and a directory is of one."""
    answering(["4"] * 40)
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What is 2 plus 3?", "answer": "5"}) + "\n")
    given = [f"input={tmp_path / 'q.jsonl'}", *settings_here]
    assert run("filter", *given, to="strict")["rejects/rarely_passed"] == 1
    monkeypatch.setattr(ArithmeticDomain, "checker", "within 1")
    monkeypatch.setattr(ArithmeticDomain, "check", lambda self, answer, reference: True)
    with pytest.raises(DirectoryError, match=r"filters\.pass_rate\.checker"):
        run("filter", *given, to="strict")
    assert run("filter", *given, to="tolerant")["pass_rate/mean"] == 1.0


def test_settings_that_keep_nothing_are_refused(job, settings_here):
    for setting, message in (("min=0.9", "min=0.9 is above max=0.5"), ("k=6", "k=6 is less than two steps of 4")):
        with pytest.raises(ConfigError, match=message):
            job("filter", "input=domain", *settings_here, "filters.pass_rate.max=0.5", f"filters.pass_rate.{setting}")


def test_a_filter_that_asks_a_model_and_does_not_say_so_is_refused(run, settings_here, monkeypatch):
    monkeypatch.setattr(PassRateFilter, "asks_model", False)
    with pytest.raises(TypeError, match="asks the judge, but none has asks_model = True"):
        run("filter", "input=domain", "limit=3", *settings_here, to="f")
