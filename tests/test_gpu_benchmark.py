"""`benchmarks/gpu.py`: what it says of a machine where something is missing, or the time."""

import argparse
import importlib.util
import json
import re
import sys
import time
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_all_but_serving_fits_eight_minutes_and_what_does_not_fit_is_skipped(gpu, monkeypatch, tmp_path):
    assert 60 * 8 - 60 > sum(seconds for name, seconds in gpu.SECONDS.items() if name != "serving")
    clock = [0.0]

    def run(name, seconds):
        clock[0] += seconds
        return {"ran": name}

    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu, "machine", lambda device: {})
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "attempt", lambda way, device: way())
    monkeypatch.setattr(gpu, "parity", lambda *_: run("parity", 30) | {"holds": True})
    monkeypatch.setattr(gpu, "trained", lambda case, *_: run(case.name, 2 * case.seconds))
    monkeypatch.setattr(gpu, "plain_loop", lambda *_: run("plain-loop-4k", 20))
    monkeypatch.setattr(gpu, "serving", lambda asked, seconds: run("serving", seconds))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(tmp_path / "gpu.json")])
    gpu.main()
    assert clock[0] <= 480 + max(gpu.SECONDS.values())
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["sft-16k-compiled"].get("ran") and found["serving"]["skipped"] == "no time left: --only serving"
    assert found["qft-4k-compiled"]["skipped"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "sft4k"], r"--only sft4k: no case is called that; there are parity, serving, .*sft-4k"),
        ([], r"PyTorch sees no GPU here.* make setup EXTRAS=cuda.*--device cpu --shapes tiny"),
    ],
)
def test_what_cannot_run_is_said_in_a_line(gpu, monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_a_case_that_failed_or_is_wrong_is_named_by_the_exit(gpu):
    good = {"machine": {}, "parity": {"holds": True}, "serving": {"skipped": "no time left"}, "sft-4k": {"mfu": 0.5}}
    assert gpu.wrong(good) == []
    assert gpu.wrong(good | {"parity": {"holds": False}, "sft-4k": {"error": "x"}}) == ["parity", "sft-4k"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_serving_has_what_is_left_of_the_time_and_leaves_nothing_behind(gpu, monkeypatch, tmp_path):
    (tmp_path / "serving.py").write_text(
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    pytest.importorskip("torch")  # what imports it takes is not of the time below
    importlib.import_module("sq.domains.base")
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "gpu.py"))
    found = gpu.serving(argparse.Namespace(shapes="tiny", device="cpu"), 5)
    assert found["skipped"] == "no time left: --only serving"
    pid, tries = int((tmp_path / "pid").read_text()), 50
    while is_running(pid) and (tries := tries - 1):  # a kill takes a moment
        time.sleep(0.1)
    assert tries


def is_running(pid):
    """Zombies, whose parent is gone, do not run."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_qpo_starts_at_ln_2_whatever_the_steps_after_the_first_learn(gpu, monkeypatch):
    from sq.train.qpo import QPOStage

    check = QPOStage.__post_init__

    def much_faster(stage):
        object.__setattr__(stage, "lr", 0.05)
        check(stage)

    monkeypatch.setattr(QPOStage, "__post_init__", much_faster)
    found = gpu.trained(gpu.Case(name="qpo", stage="qpo", optimizer="adamw"), "cpu", "tiny")
    assert abs(found["ln2_off"]) < 1e-6 < abs(found["loss"] - 0.6931)


RIGHT, WRONG, MISSING = {"gradient": 0.01}, {"gradient": 0.5}, {"not_available": "attention=flash has no kernel"}


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ({"flex": RIGHT, "flash": RIGHT}, True),
        ({"flex": RIGHT, "flash": MISSING}, True),
        ({"flex": MISSING, "flash": RIGHT}, False),
        ({"flex": RIGHT, "flash": WRONG}, False),
        ({"flex": RIGHT, "flash": {"error": "RuntimeError: no"}}, False),
        ({"flex": {"gradient": float("nan")}}, False),
    ],
)
def test_packed_is_unpacked_on_each_kernel_that_runs_and_on_flex(gpu, found, holds):
    from benchmarks import gpu_parity

    found = {"rows": 9, "bf16_alone": {"gradient": 0.01}, **found}
    assert gpu_parity.holds(found, "flex") is holds
    said = gpu.table({"parity": {**found, "holds": holds}})
    assert ("FAILS" in said) is not holds and ("not available: fl" in said) is (MISSING in found.values())


@pytest.mark.slow
def test_a_kernel_that_cannot_run_here_is_not_available(gpu):
    import torch

    from benchmarks import gpu_parity, gpu_rows
    from sq.models.attention import Kernel

    model = gpu_rows.new_model("tiny", "cpu", torch.bfloat16)
    rows = [row for item in gpu_rows.rows_of("sft", 512, 60, 0.1) for row in item.rows]
    found = gpu_parity.attempt(lambda: gpu_parity.loss_and_gradient(model, rows, Kernel.FLASH, 0), "cpu")
    assert "attention=flash" in found["not_available"] and "error" not in found
