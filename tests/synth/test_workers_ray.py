"""Workers on a Ray cluster whose nodes are on this machine; one of them is killed on the way."""

import random
import threading
import time

import pytest
from ray_nodes import add_node, kill_raylet, start_cluster
from test_killed import content

from sq.core.errors import EngineError
from sq.engine.ray import RayLauncher
from sq.synth.launchers import ClusterConfig

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sq[ray]'")
ERRS = ("input=domain", "engine.error_rate=0.2", "part_size=8", "limit=60")


@pytest.fixture(scope="module")
def cluster():
    cluster = start_cluster(2)
    yield cluster
    cluster.shutdown()


def test_a_node_whose_raylet_is_killed_takes_no_row_with_it(cluster, run, tmp_path):
    run("answers", *ERRS, to="calm")
    lost = threading.Event()

    def kill_a_node():
        while not (tmp_path / "a").is_dir() or not any((tmp_path / "a").glob("part-*.parquet")):
            time.sleep(0.05)
        kill_raylet(cluster, random.randrange(2))
        lost.set()

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    given = ("workers=2", f"cluster.address='{cluster.address}'", "engine.error_rate=0.2")
    run("answers", *ERRS, *given, to="a")
    killer.join()
    assert lost.is_set() and content(tmp_path / "a") == content(tmp_path / "calm")
    assert not ray.is_initialized()


def test_a_worker_waits_for_a_gpu_that_the_cluster_has_yet_to_add(cluster, tmp_path, caplog):
    """As an autoscaler would; without `cluster.gpus` it runs on what is there, which is said."""

    def work(address, key, number):
        address.touch()

    def wait_for(worker, seconds):
        deadline = time.monotonic() + seconds
        while worker.ended() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return worker.ended()

    on_cpus = RayLauncher(ClusterConfig(address=cluster.address), 1, work)
    assert "the Ray cluster has no GPU now" in caplog.text and "cluster.gpus=1" in caplog.text
    assert wait_for(on_cpus.start(0, tmp_path / "cpu", b""), 60) and (tmp_path / "cpu").exists()
    on_cpus.close()
    caplog.clear()
    on_gpus = RayLauncher(ClusterConfig(address=cluster.address, gpus=1), 1, work)
    worker = on_gpus.start(0, tmp_path / "gpu", b"")
    assert wait_for(worker, 2) is None and not (tmp_path / "gpu").exists()
    add_node(cluster, num_gpus=1)
    assert wait_for(worker, 60) and (tmp_path / "gpu").exists() and not caplog.text
    on_gpus.close()


def test_a_worker_that_has_done_its_work_is_not_said_to_have_died(cluster, run, capfd):
    run("answers", *ERRS, "workers=1", f"cluster.address='{cluster.address}'", to="a")
    assert "A worker died" not in "".join(capfd.readouterr())


def test_a_cluster_that_is_not_there_is_one_line(run):
    with pytest.raises(EngineError, match="no Ray cluster at cluster.address='127.0.0.1:1'.*ray start --head"):
        run("answers", *ERRS, "workers=2", "cluster.address='127.0.0.1:1'", to="b")
