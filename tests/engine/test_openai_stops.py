"""Endpoints that come and go, answers that must not stop a run, and what the environment may not add to a request."""

import asyncio
import functools
import selectors
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import openai
import pytest
from openai_endpoint import KEY, Endpoint, ask, error

from sq.core.errors import EngineError
from sq.engine import openai_client, openai_silence
from sq.engine.openai import OpenAIConfig


@pytest.mark.parametrize("fault", ["cut", "hang", "malformed"])
def test_what_reached_an_endpoint_ends_the_time_in_which_it_was_gone(endpoint, start, caplog, fault):
    engine = start(attempts=1000, backoff=0.2, timeout=0.6)
    endpoint.fault = lambda name, attempt: fault if attempt == 1 else None
    endpoint.stop_listening()
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(list, engine.generate(ask("a")))
        wait_for(lambda: caplog.text.count("cannot be reached") == 1)
        endpoint.listen_again()
        wait_for(lambda: endpoint.seen["a"] and not endpoint.busy)
        endpoint.stop_listening()
        wait_for(lambda: caplog.text.count("cannot be reached") == 2 or answered.done())
        endpoint.listen_again()
        assert answered.result()[0].completions and caplog.text.count("cannot be reached") == 2


@pytest.fixture
def second(endpoint, monkeypatch):
    """Another endpoint beside the first, at an address with a password in it."""
    second = Endpoint()
    first = f"http://127.0.0.1:{endpoint.port}/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", f"{first}, http://me:hunter22@127.0.0.1:{second.port}/v1/")
    yield second
    second.close()


def test_several_endpoints_share_the_requests(endpoint, second, start):
    endpoint.fault = second.fault = lambda name, attempt: 0.01
    results = list(start(concurrency=8).generate(ask(*map(str, range(60)))))
    assert len(results) == 60 and min(endpoint.seen.total(), second.seen.total()) > 20


def test_where_one_of_them_is_gone_the_others_go_on_and_it_is_asked_again_when_it_is_back(
    endpoint, second, start, caplog
):
    engine = start(concurrency=4, attempts=1, silence=1e-9)  # one alone never ends a run
    second.stop_listening()
    results = list(engine.generate(ask(*map(str, range(40)))))
    assert all(r.completions for r in results) and endpoint.seen.total() == 40
    assert caplog.text.count("cannot be reached") == 1 and "; the others are asked meanwhile" in caplog.text
    second.listen_again()
    more = (next(ask(str(i))) for i in range(10**6) if not second.seen)
    assert all(r.completions for r in engine.generate(more)) and second.seen
    assert caplog.text.count("can be reached again") == 1 and "hunter22" not in caplog.text


def test_where_all_of_them_are_gone_the_run_stops(endpoint, second, start):
    for one in (endpoint, second):
        one.stop_listening()
    with pytest.raises(EngineError, match="could not be reached") as caught:
        list(start(silence=0.3).generate(ask("a")))
    assert "hunter22" not in str(caught.value)


def test_a_failed_request_goes_to_another_endpoint(endpoint, second, start):
    endpoint.fault = lambda name, attempt: (503, "", "warming up")
    assert all(r.completions for r in start(attempts=2, concurrency=1).generate(ask(*"abcdef")))


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_half_a_character_in_a_reply_or_an_error_is_replaced(endpoint, start):
    endpoint.say = lambda name, seed: "a\ud800b"
    endpoint.fault = lambda name, attempt: error(400, "no \udc00") if name == "refused" else None
    results = {r.key: r for r in start().generate(ask("served", "refused"))}
    assert results["key of served"].completions[0].text == "a?b"
    assert results["key of refused"].error == "HTTP 400: no ?"


@pytest.mark.parametrize("key", [KEY, None])
def test_the_environment_adds_nothing_to_a_request(endpoint, start, monkeypatch, key):
    """The SDK would send these to any endpoint, in place of the key of `engine.key_env`."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-endpoint")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-private")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Token: private\nauthorization: Bearer private")
    monkeypatch.setenv("OUR_KEY", key or "")
    assert next(start(key_env="OUR_KEY").generate(ask("a"))).completions
    (headers,) = endpoint.headers
    assert headers.get("authorization") == (f"Bearer {KEY}" if key else None)
    assert not [name for name in headers if name.startswith("openai-")] and "private" not in str(headers).replace(
        KEY, ""
    )


@pytest.fixture
def hurried(monkeypatch, start):
    monkeypatch.setattr(openai_silence, "QUIET", 0.1)
    monkeypatch.setattr(openai_client, "PROBE", 0.3)
    return functools.partial(start, silence=0.3)


@pytest.mark.parametrize("fault", ["hang", (502, "", "bad gateway")])
def test_an_endpoint_that_answers_nothing_stops_the_run(endpoint, hurried, caplog, fault):
    endpoint.fault = lambda name, attempt: fault if name != "a" else None
    endpoint.models = None if fault == "hang" else 502
    results = []
    with pytest.raises(EngineError, match="answered no request for .*, nor GET /models: .*nothing is lost"):
        results.extend(hurried(concurrency=2, attempts=100, timeout=3).generate(ask("a")))
        results.extend(hurried(concurrency=2, attempts=100, timeout=3).generate(ask(*"bcd")))
    assert [r.key for r in results] == ["key of a"]
    assert caplog.text.count("where nothing comes from any endpoint") == 1


class Clock(selectors.DefaultSelector):
    """For an event loop: where it would wait, the time has passed."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0
        return super().select(0)


@pytest.fixture
def loop():
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    yield loop
    loop.close()


def silent(count, **settings):
    """A client of endpoints that answer nothing."""

    async def hang(endpoint):
        await asyncio.sleep(1e6)

    endpoints = [openai_client.Endpoint(f"http://{i}/v1") for i in range(count)]
    config = OpenAIConfig(**settings)
    return SimpleNamespace(endpoints=endpoints, asking=1, ask_models=hang, config=config, warned_of=set())


@pytest.mark.parametrize("silence", [45.0, 900.0])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("last", [0.0, 1.0, 4.9])
def test_where_nothing_answers_the_run_stops_within_ten_seconds_of_its_time(count, last, silence, loop, caplog):
    client = silent(count, silence=silence)
    loop.call_later(last, lambda: setattr(client.endpoints[-1], "last_answer", last))
    with pytest.raises(EngineError, match="nothing is lost.*engine.silence"):
        loop.run_until_complete(openai_silence.watch(client))
    assert silence <= loop.time() - last <= silence + 10
    assert (
        f"That is asked again in 5 s; where nothing comes from any endpoint for engine.silence={silence:g} s"
        in caplog.text
    )


@pytest.mark.parametrize("then", ["cannot be reached", "is asked nothing"])
def test_a_silent_endpoint_that_does_not_answer_does_not_answer_again(then, loop, caplog):
    client = silent(1)
    (endpoint,) = client.endpoints

    def change():
        assert endpoint.silent_since is not None
        if then == "cannot be reached":
            endpoint.away_since = loop.time()
        else:
            client.asking = 0

    loop.call_later(37.0, change)
    with pytest.raises(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(openai_silence.watch(client), 100.0))
    assert "answers again" not in caplog.text
    assert (endpoint.silent_since is None) == (then == "is asked nothing")


def test_the_question_for_models_finds_a_connection_beside_all_requests(endpoint, hurried, monkeypatch):
    """The SDK's own limit is as high as `engine.concurrency` can be."""
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=4)
    monkeypatch.setattr("openai._base_client.DEFAULT_CONNECTION_LIMITS", limits)
    endpoint.fault = lambda name, attempt: 1.5
    assert all(r.completions for r in hurried(concurrency=4).generate(ask(*"abcd")))


def test_an_endpoint_that_answers_wrongly_is_not_said_to_answer_nothing(loop, caplog):
    client = silent(1)
    client.endpoints[0].problem = "HTTP 500: out of memory"

    async def answer(endpoint):
        pass

    client.ask_models = answer
    with pytest.raises(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(openai_silence.watch(client), 100.0))
    assert "no answer that can be used for 30 s (HTTP 500: out of memory)" in caplog.text
    assert "engine.attempts=8" in caplog.text and "answered no request" not in caplog.text


@pytest.mark.parametrize("models", [200, 404, 501])
def test_a_long_generation_and_a_request_that_always_fails_are_no_silence(endpoint, hurried, caplog, models):
    endpoint.models = models
    endpoint.fault = lambda name, attempt: 1.5 if name == "long" else (500, "", "oh no")
    results = {r.key: r for r in hurried(attempts=12).generate(ask("long", "bad"))}
    assert results["key of long"].completions and caplog.text.count("It is there (GET /models)") == 1
    assert results["key of bad"].error == "no answer after 12 attempts; the last: HTTP 500: oh no"
    assert caplog.text.count("HTTP 500: oh no. The request is sent again in 0.0 s") == 1
