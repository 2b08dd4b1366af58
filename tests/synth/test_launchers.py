"""What each worker is given: GPUs of its own, its share of an endpoint's rates, and a place on the right cluster."""

import os
import subprocess
from dataclasses import replace

import pytest
from forked_workers import fork_workers

from sq.core import provenance
from sq.core.errors import ConfigError, EngineError
from sq.core.provenance import visible_gpus
from sq.domains.oracle import OracleConfig
from sq.recipe.devices import gpus_needed
from sq.synth.launchers import LocalLauncher, job_of_each, launcher_of
from sq.synth.worker import WorkerTask


def test_more_workers_than_gpus_are_refused_and_each_sees_its_own(monkeypatch):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": "; ".join(["NVIDIA H200"] * 8)})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert visible_gpus() == ["4", "5", "6", "7"]
    assert LocalLauncher(2, 2)._gpus == [["4", "5"], ["6", "7"]]
    with pytest.raises(ConfigError, match="workers=8 need 8 GPUs, 1 each, and this machine shows 4: workers=4"):
        LocalLauncher(8, 1)
    with pytest.raises(
        ConfigError, match=r"an engine takes 8 GPUs, and this machine shows 4: engine.tensor_parallel=4 "
    ):
        LocalLauncher(1, 8)


@pytest.mark.parametrize(
    ("visible", "listed", "gpus"),
    [
        ("0,1", "none", []),
        ("NoDevFiles", "none", []),
        ("NoDevFiles", "A; B; C", []),
        ("", "A; B", []),
        ("0,-1,1", "A; B; C", ["0"]),
        ("2, 0,3,1", "A; B; C", ["2", "0"]),
        ("GPU-aa,MIG-bb, MIG-cc", "A; B", ["GPU-aa", "MIG-bb", "MIG-cc"]),
    ],
)
def test_gpus_that_are_shown_are_read_as_cuda_reads_them(monkeypatch, visible, listed, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus(listed) == gpus
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0,1")
    if listed != "none":
        with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1,0,1 names GPU 1 twice"):
            visible_gpus(listed)


@pytest.mark.parametrize("script", ["exit 9", "for i in 0 1 2 3; do echo 'NVIDIA H200, 143771 MiB, 570'; done"])
def test_gpus_that_are_listed_late_or_not_at_all_are_given_out_too(monkeypatch, tmp_path, script):
    """Else all workers would be on the first one."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    run = subprocess.run

    def run_late(command, timeout=None, **given):
        if command[0] == str(smi) and timeout < 20:
            raise subprocess.TimeoutExpired(command, timeout)
        return run(command, timeout=timeout, **given)

    monkeypatch.setattr(subprocess, "run", run_late)
    monkeypatch.setattr(provenance, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    provenance.hardware.cache_clear()
    try:
        assert LocalLauncher(4, 1)._gpus == [["0"], ["1"], ["2"], ["3"]]
    finally:
        provenance.hardware.cache_clear()


SCORER = "+engine@filters.difficulty.engine=vllm filters.difficulty.engine.tensor_parallel=4"


@pytest.mark.parametrize(
    ("stage", "gpus"),
    [
        ("answers", 8),
        ("filter filters=[format,language]", 0),
        ("filter filters=[duplicates,overlap]", 0),
        ("filter filters=[format,solvability]", 8),
        ("filter filters=[pass_rate]", 8),
        ("filter filters=[duplicates,solvability]", 1),
        ("filter filters=[difficulty] engine=openai", 8),
        (f"filter filters=[solvability,difficulty] engine=openai {SCORER}", 32),
        (f"filter filters=[difficulty] engine=hf {SCORER}", 32),
        ("rewrite engine=openai", 0),
        ("rewrite engine=openai stage.judge_prompt=judge_solvability +engine@stage.judge_engine=vllm", 8),
        ("select stage.method=majority", 0),
        ("select stage.method=weighted", 8),
    ],
)
def test_a_stage_without_a_model_takes_no_gpu(job, monkeypatch, stage, gpus):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": "; ".join(["NVIDIA H200"] * 8)})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    name, *settings = stage.split()
    one = job(name, "engine=vllm", *settings, "workers=8", "input=x", "output_dir=y")
    assert gpus_needed(one) == gpus
    if not gpus:
        assert launcher_of(one)._gpus == [[]] * 8  # more of them than there are GPUs, and none of these is shown


def test_rates_of_an_endpoint_are_shared_by_the_workers(run, job, monkeypatch):
    rates = ["engine.requests_per_minute=90", "engine.tokens_per_minute=9000", "workers=3"]
    judge = ["+engine@stage.judge_engine=openai", "stage.judge_engine.requests_per_minute=30"]
    judge += ["stage.judge_prompt=judge_solvability", "stage.judge_engine.served=other"]
    each = job_of_each(job("rewrite", "engine=openai", *rates, *judge, "input=x", "output_dir=y"))
    assert (each.engine.requests_per_minute, each.engine.tokens_per_minute) == (30, 3000)
    assert (each.stage.judge_engine.requests_per_minute, each.stage.judge_engine.tokens_per_minute) == (10, None)
    fork_workers(monkeypatch)
    shares, tasks = [], []
    monkeypatch.setattr(OracleConfig, "one_of", lambda self, n: shares.append(n) or replace(self, max_failures=0.5))
    monkeypatch.setattr("sq.synth.pool.WorkerTask", lambda **given: tasks.append(given) or WorkerTask(**given))
    run("answers", "input=domain", "limit=4", "workers=2", to="a")
    assert shares == [2] and tasks[0]["job"].engine.max_failures == 0.5


def test_a_local_cluster_is_a_new_one_whatever_the_environment_names(job, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sq[ray]'")
    from ray._private.services import canonicalize_bootstrap_address

    def init(address, **settings):
        raise RuntimeError(f"joins {canonicalize_bootstrap_address(address)}")  # as Ray reads it

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray, "init", init)
    for address, joined in (("local", "None"), ("auto", "10.0.0.1:6379")):
        with pytest.raises(EngineError, match=f"joins {joined}"):
            launcher_of(job("answers", "input=x", "output_dir=y", "workers=2", f"cluster.address={address}"))


@pytest.mark.parametrize("invariant", [None, "1"])
def test_workers_on_ray_have_the_mode_of_vllm_that_is_recorded(job, monkeypatch, invariant):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sq[ray]'")
    given = []
    monkeypatch.setattr(ray, "init", lambda **settings: None)
    monkeypatch.setattr(ray, "cluster_resources", dict)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    monkeypatch.setattr(ray, "remote", lambda **settings: given.append(settings) or (lambda work: work))
    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    if invariant:
        monkeypatch.setenv("VLLM_BATCH_INVARIANT", invariant)
    launcher_of(job("answers", "input=x", "output_dir=y", "workers=2", "cluster.address=auto"))
    assert given[0]["runtime_env"]["env_vars"]["VLLM_BATCH_INVARIANT"] == (invariant or "0")
