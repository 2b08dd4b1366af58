"""Replicas on a local Ray cluster, one of them killed in the middle."""

import os
import signal
from itertools import islice

import pytest

from sq.domains.arithmetic import ArithmeticConfig
from sq.domains.oracle import OracleConfig
from sq.engine.base import Request, Sampling, ScoreRequest
from sq.engine.ray import RayConfig
from sq.models.load import ModelConfig

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sq[ray]'")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20},
    )
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield cluster
    cluster.shutdown()


MODEL = ModelConfig(name="none", path="none")
INNER = OracleConfig(role="solve", error_rate=0.4)


@pytest.fixture(scope="module")
def engine(cluster):
    engine = RayConfig(inner=INNER, address=cluster.address, ahead=16).create(MODEL)
    yield engine
    engine.close()
    engine.close()
    assert not ray.is_initialized()


def requests(count):
    problems = ArithmeticConfig().create().seeds(count, 1, "train")
    for i, problem in enumerate(problems):
        message = ({"role": "user", "content": problem["question"]},)
        yield Request(key=f"r{i}", seed=100 + i, messages=message, sampling=Sampling(n=2))


def texts_of(results):
    return {r.key: [c.text for c in r.completions] for r in results}


@pytest.fixture(scope="module")
def wanted():
    texts = texts_of(INNER.create().generate(requests(200)))
    assert len({t for pair in texts.values() for t in pair}) > 100
    return texts


def test_two_replicas_give_what_one_engine_gives(engine, wanted):
    results = list(engine.generate(requests(200)))
    assert len(results) == 200 and texts_of(results) == wanted


def test_a_replica_killed_in_the_middle_is_replaced_and_the_results_are_the_same(engine, wanted, caplog):
    stream = engine.generate(requests(200))
    first = list(islice(stream, 5))
    os.kill(next(slot.pid for slot in engine._slots if slot.owed), signal.SIGKILL)
    results = first + list(stream)
    assert len(results) == 200 and texts_of(results) == wanted
    assert "and is replaced; it owed" in caplog.text


def test_a_node_that_goes_takes_nothing_with_it(cluster, engine, wanted):
    cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    stream = engine.generate(requests(200))
    first = list(islice(stream, 5))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    results = first + list(stream)
    assert len(results) == 200 and texts_of(results) == wanted


def test_a_stream_left_early_leaves_nothing_behind(engine):
    stream = engine.generate(requests(200))
    next(stream)
    stream.close()
    assert set(texts_of(engine.generate(requests(3)))) == {"r0", "r1", "r2"}


def test_bad_requests_are_told_and_scores_come_as_by_the_inner_engine(engine):
    bad = Request(key="bad", seed=0, prompt_ids=(5,), sampling=Sampling())
    results = {r.key: r for r in engine.generate([bad, *requests(2)])}
    assert "reads chat messages" in results["bad"].error and results["r1"].completions
    asked = [
        ScoreRequest(key=r.key, messages=(*r.messages, {"role": "assistant", "content": "5"})) for r in requests(9)
    ]
    scores = {s.key: s.score for s in engine.score(asked)}
    assert scores == {s.key: s.score for s in INNER.create().score(asked)}
