"""Conversations: many talks through one stream, in any order, with follow-ups; what a faulty engine does to them."""

import random

import pytest

from sq.core.errors import ConfigError, EngineError
from sq.core.ledger import WorkItem
from sq.engine.base import Completion, Request, Result, Sampling
from sq.engine.meter import Usage
from sq.synth.filters.base import FilterItem
from sq.synth.filters.waiting import HELD, replies_in_order
from sq.synth.model_client import READY, ModelClient, _FlowRunner
from sq.synth.score_store import ScoreStore
from sq.synth.stage import ItemResult

SAMPLING = Sampling()


def request(key):
    return Request(key=key, sampling=SAMPLING, seed=1, prompt_ids=(1,))


class Shuffling:
    """Serves a window of requests in random order; notes how many it held at once, and how often it was started."""

    def __init__(self, window=8):
        self.window, self.most, self.starts, self.rng = window, 0, 0, random.Random(0)

    def __call__(self, requests):
        self.starts += 1
        held = []
        while True:
            while len(held) < self.window and (one := next(requests, None)) is not None:
                held.append(one)
            self.most = max(self.most, len(held))
            if not held:
                return
            one = held.pop(self.rng.randrange(len(held)))
            yield Result(key=one.key, completions=(Completion(text=one.key, finish_reason="stop"),))


def items(count):
    return (WorkItem(str(i), i) for i in range(count))


def test_every_talk_has_its_own_results_with_any_number_of_turns():
    def flow(item):
        texts = []
        for turn in range(item.payload % 4):
            results = yield [request(f"{item.key}-{turn}-{i}") for i in range(item.payload % 3)]
            texts += [r.completions[0].text for r in results]
        return ItemResult(key=item.key, rows=texts)

    engine = Shuffling()
    done = {o.key: o.rows for o in _FlowRunner(items(200), flow).results(engine)}
    assert done == {str(i): [f"{i}-{t}-{k}" for t in range(i % 4) for k in range(i % 3)] for i in range(200)}
    assert engine.most <= 8


def test_items_are_read_only_as_fast_as_they_are_served():
    read = []

    def watched():
        for item in items(100):
            read.append(item.key)
            yield item

    def flow(item):
        yield [request(item.key)]
        return ItemResult(key=item.key)

    for done, _ in enumerate(_FlowRunner(watched(), flow).results(Shuffling()), 1):
        assert len(read) <= done + 9


def test_no_engine_is_asked_where_nothing_is():
    def flow(item):
        return ItemResult(key=item.key)
        yield

    done = list(_FlowRunner(items(2 * READY + 5), flow).results(engine := Shuffling()))
    assert len(done) == 2 * READY + 5 and engine.starts == 0


def test_an_engine_that_loses_a_request_is_told():
    def flow(item):
        yield [request(item.key)]
        return ItemResult(key=item.key)

    def losing(requests):
        for one in requests:
            if one.key != "3":
                yield Result(key=one.key)

    with pytest.raises(EngineError, match="left 1 requests without a result"):
        list(_FlowRunner(items(10), flow).results(losing))


def test_an_engine_of_whole_messages_cannot_continue_a_prefix(job):
    synth_job = job("questions")
    with pytest.raises(ConfigError, match="bare prefix; use engine=vllm"):
        ModelClient(synth_job.model, synth_job.engine).own_chat  # noqa: B018


def test_a_sampled_question_ends_with_the_end_of_a_question_and_an_answer_with_that_of_an_answer(job, random_tiny):
    ends = "model.chat.end='<|im_start|>'", "model.chat.answer_end='<|im_end|>'"
    synth_job = job("questions", "engine=hf", "model=tiny", f"model.path={random_tiny}", *ends)
    client = ModelClient(synth_job.model, synth_job.engine)
    end, answer_end = client.own_chat.end_ids[0], client.own_chat.answer_stop_ids[0]
    assert end != answer_end
    answers = client.sampling(temperature=1.0, max_tokens=8)
    assert answers.stop_token_ids[0] == answer_end
    assert client.prefix_request("0" * 32, answers).sampling.stop_token_ids[0] == end
    assert client.request("0" * 32, "How many?", answers).sampling.stop_token_ids[0] == answer_end


def test_replies_that_cannot_become_as_long_as_allowed_are_told_before_the_run(job, caplog):
    synth_job = job("answers", "input=none.jsonl", "engine=hf", "engine.max_model_len=256")
    client = ModelClient(synth_job.model, synth_job.engine)
    prompt = len(client.own_chat.answer_ids("?"))
    client.sampling(temperature=0.7, max_tokens=256 - prompt)
    assert not caplog.text
    for _ in range(3):
        client.sampling(temperature=0.7, max_tokens=300)
    assert caplog.text.count("stage.max_tokens=300 does not fit") == 1
    assert f"is 256 tokens here, and the shortest prompt takes {prompt}" in caplog.text
    assert f"Set stage.max_tokens={256 - prompt} or less" in caplog.text and "engine.max_model_len" in caplog.text


def test_the_models_own_context_counts_and_an_engine_that_does_not_know_one_says_nothing(job, caplog):
    synth_job = job("answers", "input=none.jsonl", "engine=hf")
    ModelClient(synth_job.model, synth_job.engine).sampling(
        temperature=0.7, max_tokens=1024, setting="filters.solvability.max_tokens"
    )
    assert "filters.solvability.max_tokens=1024 does not fit: the context of model tiny is 1,024 tokens" in caplog.text
    caplog.clear()
    synth_job = job("answers", "input=none.jsonl", "engine=oracle")
    ModelClient(synth_job.model, synth_job.engine).sampling(temperature=0.7, max_tokens=100_000)
    assert not caplog.text


def test_one_open_request_does_not_let_all_cases_with_kept_replies_be_read(tmp_path):
    count, read, held = 4 * HELD, 0, []

    def cases():
        nonlocal read
        for read in range(1, count + 1):
            yield FilterItem(row={"question": str(read)})

    def ask(requests):
        some = list(requests)
        held.append(read)
        for request in some:
            yield Result(key=request.key, completions=(), prompt_tokens=1)

    class Client:
        usage = Usage()

        def run_flows(self, items, flow):
            return _FlowRunner(items, flow).results(ask)

    def flow(item):
        yield [Request(key=item.key, seed=1, messages=(), sampling=Sampling())]
        return ItemResult(key=item.key, rows=[{"replies": []}])

    with ScoreStore(tmp_path) as scores:
        for number in range(2, count + 1):
            scores.put(str(number), {"replies": []})
        answered = replies_in_order(
            Client(), cases(), scores, key=lambda case: case.row["question"], request_flow=flow, whole=True, who="it"
        )
        assert sum(1 for _ in answered) == count
    assert held == [HELD + READY] and Client.usage.stored == count - 1
