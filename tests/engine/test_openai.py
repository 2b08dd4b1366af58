"""The OpenAI-compatible engine against a local server that misbehaves in every way an endpoint can."""

import itertools
import json
import logging
import random
import re
import threading
import time
import traceback
from collections import Counter
from dataclasses import replace

import pytest
from openai_endpoint import KEY, MALFORMED, MODEL, ask, error

from sq.core.errors import EngineError
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.meter import MeteredEngine, Usage
from sq.engine.openai import OpenAIConfig
from sq.engine.openai_client import delay


def test_messages_and_ids_go_where_they_belong(endpoint, start):
    engine = start(served="big", extra={"reasoning_effort": "low"}, omit=["top_p"])
    ids = Request(key="ids", seed=3, prompt_ids=(5, 6), sampling=Sampling(stop_token_ids=(2,), top_k=4, max_tokens=9))
    ids = replace(ids, stop=("Q:",))
    results = {r.key: r for r in engine.generate([*ask("hello", n=3, temperature=0.5), ids])}
    assert [c.text for c in results["key of hello"].completions] == ["hello #10", "hello #11", "hello #12"]
    assert results["ids"].completions[0].text == "[5, 6] #3" and results["ids"].prompt_tokens == 7
    bodies = dict(endpoint.bodies)
    chat, plain = bodies["/v1/chat/completions"], bodies["/v1/completions"]
    assert chat == {
        "model": "big",
        "n": 3,
        "temperature": 0.5,
        "seed": 10,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 512,
        "reasoning_effort": "low",
    }
    assert plain["stop"] == ["Q:"]
    assert (plain["prompt"], plain["stop_token_ids"], plain["top_k"], plain["max_tokens"]) == ([5, 6], [2], 4, 9)
    assert endpoint.authorization == {f"Bearer {KEY}"}


def test_a_seed_is_cut_to_what_the_endpoint_takes(start):
    message = ({"role": "user", "content": "a"},)
    asked = [Request(key="a", seed=2**62 + 5, messages=message, sampling=Sampling())]
    for bits, seed in ((63, 2**62 + 5), (31, 5)):
        (result,) = start(seed_bits=bits).generate(asked)
        assert result.completions[0].text == f"a #{seed}"


def test_without_a_key_none_is_sent(endpoint, start, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert len(list(start().generate(ask("a")))) == 1 and endpoint.authorization == {None}


@pytest.mark.parametrize("fault", [*MALFORMED, "cut", "hang", (500, "", "oh no"), (408, "", ""), (409, "", "")])
def test_what_passes_is_tried_again(endpoint, start, fault):
    endpoint.fault = lambda name, attempt: fault if attempt <= 2 and name == "b" else None
    waits = {"timeout": 0.5, "attempts": 99} if fault == "hang" else {"timeout": 600}
    results = {r.key: r for r in start(**waits).generate(ask("a", "b", "c"))}
    assert [r.completions[0].text for _, r in sorted(results.items())] == ["a #10", "b #10", "c #10"]
    if fault == "hang":  # where this machine is slow, others' time is up too
        assert endpoint.seen["b"] >= 3
    else:
        assert endpoint.seen == {"a": 1, "b": 3, "c": 1}


@pytest.mark.parametrize("fault", ["malformed", "empty", "cut", (503, "", "down"), error(429, "slow down")])
def test_what_does_not_pass_is_given_up_as_an_error(endpoint, start, fault):
    endpoint.fault = lambda name, attempt: fault if name == "b" else None
    results = {r.key: r for r in start(attempts=3).generate(ask("a", "b", "c"))}
    assert "no answer after 3 attempts; the last:" in results["key of b"].error and not results["key of b"].completions
    assert not results["key of b"].refused, "it may be answered at another time"
    assert results["key of a"].completions and results["key of c"].completions and endpoint.seen["b"] == 3


@pytest.mark.parametrize("status", [400, 403, 413, 422, 301])
def test_a_refused_request_is_an_error_and_not_tried_again(endpoint, start, status):
    endpoint.fault = lambda name, attempt: error(status, "too long for us") if name == "b" else None
    engine = start(concurrency=1)
    results = {r.key: r for r in engine.generate(ask("a", "b", "c"))}
    assert results["key of b"].error == f"HTTP {status}: too long for us" and endpoint.seen["b"] == 1
    assert results["key of b"].refused
    assert results["key of c"].completions


@pytest.mark.parametrize(
    ("fault", "fix"),
    [
        (error(401, "Incorrect API key provided: " + KEY), "set OPENAI_API_KEY"),
        (error(403, "not for you"), "may not use model 'some-model'"),
        (error(404, "The model `some-model` does not exist"), "there is no model 'some-model'"),
        (error(402, "pay"), "top up"),
        (error(429, "You exceeded your quota", code="insufficient_quota"), "top up"),
    ],
)
def test_what_no_request_can_pass_stops_the_run_with_the_mend(endpoint, start, fault, fix, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.fault = lambda name, attempt: fault
    engine = start()
    with pytest.raises(EngineError, match=fix) as caught:
        list(engine.generate(ask(*map(str, range(500)))))
    engine.close()
    assert sum(endpoint.seen.values()) <= 64
    text = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(engine) + repr(engine.config)
    assert KEY not in text and "veryprivate" not in text and "run the same command again" in text


def test_an_endpoint_that_goes_down_stops_the_run_and_refuses_nothing(endpoint, start):
    endpoint.fault = lambda name, attempt: None if int(name) < 50 else (502, "", "bad gateway")
    results = []
    with pytest.raises(EngineError, match="the last 32 requests failed and none was served: no answer after 2.*502"):
        for result in start(attempts=2, concurrency=8).generate(ask(*map(str, range(1000)))):
            results.append(result)
    assert len([r for r in results if r.completions]) == 50 and not any(r.refused for r in results)


def test_a_few_bad_rows_alone_are_refused(endpoint, start):
    endpoint.fault = lambda name, attempt: error(400, "no")
    results = list(start().generate(ask("a", "b")))
    assert [(r.error, r.refused) for r in results] == [("HTTP 400: no", True)] * 2


def test_where_all_are_refused_it_is_a_failure(endpoint, start):
    endpoint.fault = lambda name, attempt: (
        error(400, "Unrecognized request argument: top_p") if name != "last" else None
    )
    results = {r.key: r for r in start(concurrency=1).generate(ask(*"abcdef", "last", "late"))}
    assert [results[f"key of {name}"].refused for name in "abcdef"] == [False] * 4 + [True] * 2
    assert results["key of last"].completions and results["key of late"].refused


@pytest.mark.parametrize("served", [0, 1])
def test_an_endpoint_that_is_gone_is_told_at_once_and_stops_the_run(endpoint, start, caplog, served):
    """The first failed connection says when the next try is; with none for `engine.silence` seconds, it ends."""
    engine = start(attempts=2, silence=0.3)
    assert all(r.completions for r in engine.generate(ask(*"a" * served)))
    endpoint.stop_listening()
    with pytest.raises(EngineError, match="could not be reached for .*ConnectError.*OPENAI_BASE_URL.*nothing is lost"):
        list(engine.generate(ask(*map(str, range(200)))))
    warnings = [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert len(warnings) == 1 and re.search(r"next try is in 0\.[01] s; after \S+=0\.3 s .* stops", warnings[0]), (
        warnings
    )


def test_an_endpoint_that_comes_back_in_time_is_asked_on(endpoint, start, caplog):
    """However often a connection fails meanwhile: that is no attempt of a request."""
    engine = start(attempts=1)
    endpoint.stop_listening()
    threading.Timer(0.5, endpoint.listen_again).start()
    results = list(engine.generate(ask(*"abcdef")))
    assert sorted(r.completions[0].text for r in results) == [f"{name} #10" for name in "abcdef"]
    assert caplog.text.count("cannot be reached") == caplog.text.count("can be reached again") == 1
    assert engine.client.attempts == endpoint.seen.total() == 6


def test_retry_after_is_waited_for(endpoint, start):
    slow = error(429, "slow down", "Retry-After: 1\r\n")
    endpoint.fault = lambda name, attempt: slow if attempt == 1 and name == "b" else None
    assert len(list(start().generate(ask("a", "b")))) == 2
    first, second = endpoint.times["b"]
    assert second - first >= 1.0


def test_delays_double_with_jitter_and_never_undercut_the_server():
    waits = [delay(n, None, 1.0, 20.0) for n in range(1, 12) for _ in range(50)]
    assert all(min(20, 2 ** (i // 50)) / 2 <= w <= min(20, 2 ** (i // 50)) for i, w in enumerate(waits))
    assert len(set(waits)) > 500
    assert all(30 <= delay(1, 30.0, 1.0, 20.0) <= 31 for _ in range(50))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("2.5", 2.5),
        ("-1", 0),
        *((bad, None) for bad in ("", "soon", "nan", "inf")),
    ],
)
def test_a_retry_after_is_read_or_passed_over(endpoint, start, header, seconds):
    endpoint.fault = lambda name, attempt: error(429, "slow down", f"Retry-After: {header}\r\n")
    engine, errors = start(attempts=1), []
    read = engine.client._error
    engine.client._error = lambda *of: errors.append(read(*of)) or errors[-1]
    assert next(engine.generate(ask("a"))).error and [error.wait for error in errors] == [seconds]


def test_rates_are_kept(endpoint, start):
    began = time.monotonic()
    assert len(list(start(requests_per_minute=1200).generate(ask(*"abcdefghijk")))) == 11
    asked = sorted(t for times in endpoint.times.values() for t in times)
    assert asked[-1] - began >= 0.5 - 0.05, "eleven at twenty a second"


def test_tokens_are_counted_against_the_rate_and_corrected_when_known(endpoint, start):
    engine = start(tokens_per_minute=60_000, concurrency=1)
    began = time.monotonic()
    assert len(list(engine.generate(ask(*"abc", max_tokens=500)))) == 3
    took = time.monotonic() - began
    assert took < 0.5 * 2, "each used 12 of the 500 tokens that it might have, and the rest was given back"


def test_no_more_in_flight_and_no_more_read_than_allowed(endpoint, start):
    endpoint.fault = lambda name, attempt: 0.05
    read = []

    def source():
        for i in range(100):
            read.append(i)
            yield from ask(str(i))

    results = start(concurrency=5).generate(source())
    for done in range(1, 20):
        next(results)
        assert len(read) <= done + 5
    assert endpoint.most <= 5
    results.close()


def test_left_early_nothing_stays(endpoint, start):
    endpoint.fault = lambda name, attempt: "hang" if int(name) > 3 else None
    engine = start(concurrency=20)
    results = engine.generate(ask(*map(str, range(100))))
    next(results)
    results.close()
    assert next(engine.generate(ask("1"))).completions, "the engine serves on"
    engine.close()
    engine.close()
    assert not [t for t in threading.enumerate() if t.name == "sq-openai"]
    deadline = time.monotonic() + 5
    while endpoint.connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert endpoint.connections == 0
    with pytest.raises(EngineError, match="closed"):
        engine.generate(ask("a"))


def test_a_source_that_fails_takes_its_requests_with_it(endpoint, start):
    endpoint.fault = lambda name, attempt: "hang"

    def source():
        yield from ask("a", "b")
        raise RuntimeError("the disk is full")

    engine = start()
    with pytest.raises(RuntimeError, match="the disk is full"):
        list(engine.generate(source()))


def test_fewer_choices_than_asked_are_asked_for_again(endpoint, start):
    only_one = {"choices": [{"index": 0, "finish_reason": "length", "message": {"content": "x"}}]}
    endpoint.fault = lambda name, attempt: (200, "", json.dumps(only_one)) if attempt == 1 else None
    (result,) = start().generate(ask("a", n=3))
    assert [c.text for c in result.completions] == ["x", "a #11", "a #12"]
    assert [c.finish_reason for c in result.completions] == ["length", "stop", "stop"]


def test_a_text_that_a_filter_ended_is_cut_off(endpoint, start):
    filtered = {"choices": [{"index": 0, "finish_reason": "content_filter", "message": {"content": "\\boxed{3}, but"}}]}
    endpoint.fault = lambda name, attempt: (200, "", json.dumps(filtered))
    (result,) = start().generate(ask("a"))
    assert result.completions[0].finish_reason == "length"


def test_requests_that_cannot_be_sent_are_errors(endpoint, start):
    bad = [
        Request(key="none", seed=0, sampling=Sampling()),
        Request(key="n", seed=0, prompt_ids=(1,), sampling=Sampling(n=0)),
        Request(key="nan", seed=0, prompt_ids=(1,), sampling=Sampling(temperature=float("nan"))),
    ]
    results = {r.key: r for r in start().generate([*bad, *ask("a")])}
    assert all(results[r.key].error for r in bad) and results["key of a"].completions
    assert sum(endpoint.seen.values()) == 1


def test_what_was_spent_is_told(endpoint, start, caplog):
    caplog.set_level(logging.INFO, logger="sq.engine.openai")
    endpoint.fault = lambda name, attempt: "malformed" if attempt == 1 and name == "a" else None
    engine = start(price_in=2.0, price_out=10.0)
    usage = Usage()
    metered = MeteredEngine(lambda: engine, usage, engine.config.api_prices)
    assert len(list(metered.generate(ask("a", "b", n=2)))) == 2
    engine.close()
    spent = {"usage/api_prompt_tokens": 14, "usage/api_output_tokens": 20, "usage/api_dollars": pytest.approx(228e-6)}
    assert {name: value for name, value in usage.metrics().items() if "api" in name} == spent
    assert "2 requests in 3 attempts, 14 tokens in, 20 out, cost 0.0002" in caplog.text
    start().close()
    assert "0 requests in 0 attempts, 0 tokens in, 0 out, cost unknown (no engine.price_in" in caplog.text


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("", "", "set OPENAI_BASE_URL to the endpoint's address"),
        ("localhost:8000", "", "is no address like http://localhost:8000/v1"),
        ("http://", "", "is no address"),
        ("http://user:hunter22@host:70000/v1", "", "is no address"),
        ("http://127.0.0.1/v1, localhost:8001", "", "localhost:8001' is no address"),
        ("http://127.0.0.1/v1", "sk-\u2019copied-badly-0123456789", "copy it again"),
    ],
)
def test_a_wrong_environment_is_told_before_anything_is_sent(monkeypatch, url, key, message):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EngineError, match=message) as caught:
        OpenAIConfig().create(MODEL)
    assert "hunter22" not in str(caught.value) and (not key or key not in str(caught.value))
    assert not [t for t in threading.enumerate() if t.name == "sq-openai"]


def test_it_does_not_score_and_says_who_it_is(start):
    engine = start(served="big-model", ids=True)
    assert engine.fingerprint == "endpoint:big-model" and engine.config.reads_ids and not OpenAIConfig().reads_ids
    with pytest.raises(EngineError, match="it cannot score"):
        engine.score([ScoreRequest(key="a", messages=())])


@pytest.mark.slow
def test_three_thousand_requests_at_twenty_percent_faults_none_lost_none_doubled(endpoint, start):
    faults = [*MALFORMED, "cut", "hang", (500, "", "oh no"), error(429, "slow", "Retry-After: 0.05\r\n"), (408, "", "")]

    def fault(name, attempt):
        rng = random.Random(f"{name}:{attempt}")
        return rng.choice(faults) if rng.random() < 0.2 else None

    endpoint.fault = fault
    engine = start(concurrency=100, timeout=1.0, attempts=12)
    names = [f"q{i}" for i in range(3_000)]
    results = list(engine.generate(itertools.chain.from_iterable(ask(name) for name in names)))
    assert Counter(r.key for r in results) == Counter(f"key of {name}" for name in names)
    assert all(r.completions[0].text == f"{r.key[7:]} #10" and r.error is None for r in results)
    assert engine.client.attempts >= sum(endpoint.seen.values()) > 3_600
