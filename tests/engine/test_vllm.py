"""The vLLM engine, for real, on a Llama with random weights."""

import logging
import os
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest

from sq.core.errors import EngineError
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.engine_log import log_to
from sq.engine.failures import FailureLimit
from sq.engine.vllm import VLLMConfig
from sq.engine.vllm_environment import environment
from sq.models.load import ModelConfig

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")


@pytest.fixture(scope="module")
def engine(random_tiny):
    model = ModelConfig(name="random", path=str(random_tiny), dtype="fp32")
    engine = VLLMConfig(max_model_len=64, window=4, dtype="float32").create(model)
    yield engine
    engine.close()
    engine.close()


def test_no_core_is_bound_so_that_an_engine_of_several_processes_starts_too(monkeypatch):
    from vllm.utils.ompmultiprocessing import OMPProcessManager

    monkeypatch.setattr(os, "environ", {})
    environment(1)
    parallel = SimpleNamespace(local_world_size=3, data_parallel_rank_local=None, _api_process_count=1)
    assert OMPProcessManager(SimpleNamespace(parallel_config=parallel, kv_transfer_config=None)).skip_setup


def requests(count, **sampling):
    for i in range(count):
        prompt = tuple(5 + (i + j) % 40 for j in range(3 + i % 5))
        yield Request(key=f"r{i}", seed=100 + i, prompt_ids=prompt, sampling=Sampling(max_tokens=8, **sampling))


def texts(results):
    return {r.key: [c.token_ids for c in r.completions] for r in results}


def test_every_request_is_answered_once_and_by_its_seed_in_any_order(engine):
    asked = list(requests(12, top_p=0.99))
    first = texts(engine.generate(asked))
    assert first.keys() == {r.key for r in asked}
    assert texts(engine.generate(reversed(asked))) == first
    assert len({tuple(map(tuple, t)) for t in first.values()}) > 6


def test_what_is_drawn_depends_on_nothing_that_is_served_beside_it(engine):
    """Requests of different lengths, top-p and number of completions come, go and change places in the batch."""
    asked = []
    for i, request in enumerate(requests(24)):
        sampling = Sampling(
            n=1 + i % 3,
            max_tokens=2 + i % 9,
            top_p=(0.3, 0.9, 0.99, 1.0)[i % 4],
            temperature=(0.7, 1.0, 0.0)[i % 5 % 3],
        )
        if sampling.temperature or sampling.n == 1:
            asked.append(Request(key=request.key, seed=request.seed, prompt_ids=request.prompt_ids, sampling=sampling))
    together = texts(engine.generate(asked))
    alone = {key: text for one in asked for key, text in texts(engine.generate([one])).items()}
    assert together == alone and all(len(together[one.key]) == one.sampling.n for one in asked)


def test_a_small_top_p_is_greedy_as_in_vllms_own_sampling(engine):
    ours = texts(engine.generate(requests(6, top_p=1e-4)))
    assert ours == texts(engine.generate(requests(6, temperature=0.0)))
    engine._own_sampling = False
    theirs = texts(engine.generate(requests(6, top_p=1e-4)))
    engine._own_sampling = True
    assert ours == theirs


@pytest.mark.parametrize("top_k", [0, 5])  # our sampling, and vLLM's own
def test_the_largest_seed_is_taken(engine, top_k):
    sampling = Sampling(n=3, max_tokens=4, top_k=top_k)
    results = engine.generate([Request(key="a", seed=2**63 - 1, prompt_ids=(5, 6, 7), sampling=sampling)])
    assert [len(r.completions) for r in results] == [3]


def test_greedy_asks_for_one_text(engine):
    one = texts(engine.generate(requests(3, temperature=0.0)))
    assert one == texts(engine.generate(requests(3, temperature=0.0)))


def test_several_completions_come_from_one_request(engine):
    results = list(engine.generate(requests(3, n=5)))
    assert [len(r.completions) for r in results] == [5, 5, 5]
    assert all(len({c.token_ids for c in r.completions}) > 1 for r in results)
    assert all(c.finish_reason == "length" and c.tokens == 8 for r in results for c in r.completions)


def test_a_stop_id_ends_the_text_and_is_told(engine):
    greedy = next(iter(engine.generate(requests(1, temperature=0.0)))).completions[0].token_ids
    stop = greedy[2]
    cut = next(iter(engine.generate(requests(1, temperature=0.0, stop_token_ids=(stop,))))).completions[0]
    assert cut.finish_reason == "stop" and cut.token_ids == greedy[: greedy.index(stop) + 1]


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(engine):
    asked = {request.key: request for request in requests(8)}
    whole = {r.key: r.completions[0].text for r in engine.generate(asked.values())}
    key = max(whole, key=lambda k: len(whole[k]))
    stop = whole[key][len(whole[key]) // 2 :][:3]
    cut = next(iter(engine.generate([replace(asked[key], stop=(stop,))]))).completions[0]
    assert cut.finish_reason == "stop" and cut.text == whole[key][: whole[key].index(stop)]


def test_the_source_is_read_only_as_far_as_the_window(engine):
    taken = []

    def source():
        for request in requests(50):
            taken.append(request.key)
            yield request

    results = engine.generate(source())
    next(results)
    assert len(taken) <= 4
    results.close()
    assert len(list(engine.generate(islice(requests(50), 2)))) == 2, "an abandoned stream leaves nothing behind"


def test_a_bad_request_is_a_result_with_an_error_and_the_rest_goes_on(engine):
    bad = [
        Request(key="long", seed=0, prompt_ids=tuple(range(5, 105)), sampling=Sampling()),
        Request(key="empty", seed=0, prompt_ids=(), sampling=Sampling()),
        Request(key="top-p", seed=0, prompt_ids=(5,), sampling=Sampling(top_p=7.0)),
        Request(key="id", seed=0, prompt_ids=(999_999,), sampling=Sampling()),
        Request(key="none", seed=0, sampling=Sampling()),
    ]
    results = {r.key: r for r in engine.generate([bad[0], *requests(2), *bad[1:]])}
    assert "100 tokens, and the model's context 64" in results["long"].error
    assert all(results[r.key].error and not results[r.key].completions for r in bad)
    assert results["r0"].completions and results["r1"].completions
    assert results["long"].refused and results["empty"].refused, "these can never be served"
    assert not results["top-p"].refused and "VLLMValidationError: top_p must be in (0, 1]" in results["top-p"].error


def test_an_exception_at_every_request_is_no_ones_fault_but_the_engines(engine, monkeypatch):
    """Such as a logits processor that this vLLM does not take: the stage stops, and nothing is rejected."""

    def broken(*args, **more):
        raise NotImplementedError("this runner takes no logits processors\nof its users")

    monkeypatch.setattr(engine.llm.llm_engine, "add_request", broken)
    results = list(engine.generate(requests(6)))
    error = "NotImplementedError: this runner takes no logits processors\nof its users"
    assert [r.error for r in results] == [error] * 6 and not any(r.refused for r in results)
    with pytest.raises(EngineError, match="4 of 4 requests failed") as stopped:
        list(FailureLimit(engine.config).watch(engine.generate(requests(50))))
    assert str(stopped.value).count(error) == 3


def test_a_completion_that_vllm_breaks_off_is_no_text(engine, monkeypatch):
    step = engine.llm.llm_engine.step

    def failing():
        outputs = step()
        for output in outputs:
            if output.finished and output.request_id.startswith("r1"):
                output.outputs[-1].finish_reason = "error"
        return outputs

    monkeypatch.setattr(engine.llm.llm_engine, "step", failing)
    results = {r.key: r for r in engine.generate(requests(3, n=2))}
    assert "finish_reason='error'" in results["r1"].error and not results["r1"].refused
    assert results["r0"].completions and results["r2"].completions


def test_messages_are_rendered_by_the_chat_template(engine):
    message = ({"role": "user", "content": "What is 2 + 3?"},)
    result = next(iter(engine.generate([Request(key="m", seed=0, messages=message, sampling=Sampling(max_tokens=4))])))
    assert result.prompt_tokens > 6 and result.completions[0].tokens == 4


def test_what_cannot_start_names_the_log_which_has_vllms_own_lines(engine, random_tiny, tmp_path, capfd):
    with log_to(file := tmp_path / "engine.log"), pytest.raises(EngineError) as error:
        logging.getLogger("vllm.worker").error("a line of vLLM's")
        VLLMConfig(max_model_len=10**6).create(ModelConfig(name="long", path=str(random_tiny), dtype="fp32"))
    assert "vLLM cannot start with model long" in str(error.value) and f"Its log is {file}" in str(error.value)
    assert "a line of vLLM's" in file.read_text() and "Traceback" in file.read_text()
    assert capfd.readouterr() == ("", "")


def test_an_engine_that_dies_names_the_log(engine, tmp_path, monkeypatch):
    def die():
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(engine.llm.llm_engine, "step", die)
    with log_to(tmp_path / "engine.log"), pytest.raises(EngineError, match=r"died.*illegal.*Its log is .*engine\.log"):
        list(engine.generate(requests(2)))


def test_a_generating_engine_does_not_score(engine):
    with pytest.raises(EngineError, match="cannot score. Choose a reward model"):
        engine.score([ScoreRequest(key="a", messages=())])
