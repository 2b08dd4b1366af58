"""The OpenAI-compatible engine against a real `vllm serve`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from sq.core.errors import EngineError
from sq.engine.base import Request, Sampling
from sq.engine.hf import HFConfig
from sq.engine.openai import OpenAIConfig
from sq.models.load import Dtype, ModelConfig

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
KEY = "sk-private-0123456789"


@pytest.fixture(scope="module")
def url(random_tiny, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(random_tiny), "--port", port]
    command += ["--host", "127.0.0.1", "--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "128", "--max-num-seqs", "16", "--api-key", KEY]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0", "VLLM_NO_USAGE_STATS": "1"}
    output = tmp_path_factory.mktemp("serve") / "log"
    with output.open("wb") as log:
        server = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env={**os.environ, **env}, start_new_session=True
        )
        try:
            wait_until_up(server, f"http://127.0.0.1:{port}/health", output)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_until_up(server, health, output):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, output.read_text()[-3000:]
        try:
            urllib.request.urlopen(health, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError("vllm serve did not start:\n" + output.read_text()[-3000:])


@pytest.fixture
def engine(url, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    engine = OpenAIConfig(served="tiny", ids=True).create(ModelConfig(name="tiny", path="tiny"))
    yield engine
    engine.close()


def requests(count, **sampling):
    for i in range(count):
        prompt = tuple(5 + (7 * i + j) % 90 for j in range(3 + i % 7))
        yield Request(key=f"r{i}", seed=100 + i, prompt_ids=prompt, sampling=Sampling(max_tokens=8, **sampling))


def ids_of(results):
    return {r.key: [c.token_ids for c in r.completions] for r in results}


def test_texts_are_those_of_the_same_model_here(engine, random_tiny):
    served = {r.key: r for r in engine.generate(requests(12, temperature=0.0))}
    local = HFConfig(device="cpu").create(ModelConfig(name="here", path=str(random_tiny), dtype=Dtype.FP32))
    for here in local.generate(requests(12, temperature=0.0)):
        assert served[here.key] == here, "ids, text, finish reason, token counts"
    local.close()


def test_samples_follow_their_seeds_in_any_order(engine):
    asked = list(requests(12, n=3, top_p=0.95))
    first = ids_of(engine.generate(asked))
    assert ids_of(engine.generate(reversed(asked))) == first
    assert all(len(texts) == 3 and len(set(texts)) > 1 for texts in first.values())


def test_a_stop_id_ends_a_text(engine):
    greedy = next(engine.generate(requests(1, temperature=0.0))).completions[0]
    stop = greedy.token_ids[2]
    cut = next(engine.generate(requests(1, temperature=0.0, stop_token_ids=(stop,)))).completions[0]
    assert cut.finish_reason == "stop" and cut.token_ids == greedy.token_ids[: greedy.token_ids.index(stop) + 1]


def test_messages_and_bad_requests(engine):
    message = ({"role": "user", "content": "What is 2 + 3?"},)
    asked = [
        Request(key="chat", seed=1, messages=message, sampling=Sampling(max_tokens=5)),
        Request(key="long", seed=1, prompt_ids=(7,) * 500, sampling=Sampling(max_tokens=5)),
        Request(key="top-p", seed=1, prompt_ids=(7,), sampling=Sampling(top_p=7.0)),
    ]
    results = {r.key: r for r in engine.generate(asked)}
    assert results["chat"].completions[0].tokens == 5 and results["chat"].prompt_tokens > 6
    assert results["long"].error.startswith("HTTP 400") and "128" in results["long"].error
    assert results["top-p"].error.startswith("HTTP 400")


@pytest.mark.parametrize(("key", "served", "fix"), [("sk-wrong", "tiny", "401"), (KEY, "other", "no model 'other'")])
def test_a_wrong_key_or_model_stops_the_run(url, monkeypatch, key, served, fix):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    engine = OpenAIConfig(served=served, ids=True).create(ModelConfig(name="tiny", path="tiny"))
    with pytest.raises(EngineError, match=fix):
        list(engine.generate(requests(50)))
    engine.close()
