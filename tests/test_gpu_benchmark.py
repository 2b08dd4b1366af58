"""`benchmarks/gpu.py`: what it says of a machine where something is missing, or the time."""

import importlib.util
import sys
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
    found = {"rows": 9, "bf16_alone": {"gradient": 0.01}, **found}
    assert gpu.holds(found, "flex") is holds
    said = gpu.table({"parity": {**found, "holds": holds}})
    assert ("FAILS" in said) is not holds and ("not available: fl" in said) is (MISSING in found.values())


@pytest.mark.slow
def test_a_kernel_that_cannot_run_here_is_not_available(gpu):
    import torch

    from sq.models.attention import Kernel

    model = gpu.new_model("tiny", "cpu", torch.bfloat16)
    rows = [row for item in gpu.rows_of("sft", 512, 60, 0.1) for row in item.rows]
    found = gpu.attempt(lambda: gpu.loss_and_gradient(model, rows, Kernel.FLASH, 0), "cpu")
    assert "attention=flash" in found["not_available"] and "error" not in found
