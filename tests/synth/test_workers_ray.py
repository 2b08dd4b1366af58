"""Workers on a Ray cluster whose nodes are on this machine; one of them is killed on the way."""

import os
import threading
import time

import pytest
from test_killed import content

from sq.core.errors import EngineError

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sq[ray]'")
ERRS = ("input=domain", "engine.error_rate=0.2", "part_size=8", "limit=60")


@pytest.fixture(scope="module")
def cluster():
    """A head without room for a worker, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    store = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **store)
    yield cluster
    cluster.shutdown()


def test_a_node_that_is_killed_takes_no_row_with_it(cluster, run, tmp_path):
    run("answers", *ERRS, to="calm")
    lost = threading.Event()

    def kill_a_node():
        while not (tmp_path / "a").is_dir() or not any((tmp_path / "a").glob("part-*.parquet")):
            time.sleep(0.05)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        lost.set()

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    given = ("workers=2", f"cluster.address='{cluster.address}'", "engine.error_rate=0.2")
    run("answers", *ERRS, *given, to="a")
    killer.join()
    assert lost.is_set() and content(tmp_path / "a") == content(tmp_path / "calm")
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_one_line(run):
    with pytest.raises(EngineError, match="no Ray cluster at cluster.address='127.0.0.1:1'.*ray start --head"):
        run("answers", *ERRS, "workers=2", "cluster.address='127.0.0.1:1'", to="b")
