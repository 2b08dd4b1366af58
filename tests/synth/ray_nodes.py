"""A Ray cluster whose nodes are on this machine, and the end of a node by that of its own process, the raylet."""

from __future__ import annotations

import os
import signal
from typing import Any

STORE = {"object_store_memory": 100 << 20}


def start_cluster(nodes: int) -> Any:
    """A head without room for a worker, and nodes with room for one each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
    for _ in range(nodes):
        add_node(cluster)
    return cluster


def add_node(cluster: Any, **given: Any) -> None:
    """One more, with room for one worker; Ray gives a node 30 seconds to start, which a busy machine may not have."""
    for left in (2, 1, 0):
        try:
            cluster.add_node(num_cpus=1, **STORE, **given)
            return
        except Exception:
            if not left:
                raise


def kill_raylet(cluster: Any, number: int) -> None:
    """`kill -9` of the raylet of one node: its workers are left to see that by themselves."""
    node = list(cluster.worker_nodes)[number % len(cluster.worker_nodes)]
    process = node.all_processes["raylet"][0].process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cluster.remove_node(node, allow_graceful=False)  # its log monitor and agents
