"""The table of devices, and which of them is here."""

from dataclasses import replace

import pytest

from sq.core import provenance
from sq.core.errors import ConfigError
from sq.recipe.assumptions import assumption_names, load_assumptions
from sq.recipe.hardware import devices_here, hardware_here, hardware_names, load_hardware


def test_every_figure_of_the_table_says_where_it_is_from():
    assert {"a100-40g", "a100-80g", "h100", "h200", "l4", "cpu", "cpu-avx2"} <= set(hardware_names())
    for name in hardware_names():
        found = load_hardware(name)
        assert all(found.sources.values()), name
    for name in assumption_names():
        stated = load_assumptions(name)
        assert {"prefix", "question", "answer", "instruction", "judge", "rewrite", "keep"} <= set(stated.sources), name


def test_a_missing_source_an_unknown_device_and_an_unknown_key_are_told():
    with pytest.raises(ValueError, match="does not say where price is from"):
        replace(
            load_hardware("h200"), sources={k: "x" for k in ("peak", "decode", "prefill_share", "train_share", "start")}
        )
    with pytest.raises(ConfigError, match="H20 is not one of .*did you mean 'h200'"):
        load_hardware("H20")
    with pytest.raises(ConfigError, match="maths is not one of .*did you mean 'math'"):
        load_assumptions("maths")
    with pytest.raises(ConfigError, match=r"hardware.*pryce.*did you mean 'price'"):
        load_hardware("h200", {"pryce": 1})
    with pytest.raises(ConfigError, match="assume.question=-1"):
        load_assumptions("math", {"question": -1})
    with pytest.raises(ConfigError, match="keep.solvabilty is no filter or stage, did you mean 'solvability'"):
        load_assumptions("math", {"keep.solvabilty": 0.5})
    with pytest.raises(ConfigError, match="keep.language=1.5 must be a share"):
        load_assumptions("math", {"keep.language": 1.5})


@pytest.mark.parametrize(
    ("gpus", "name"),
    [
        ("none", "cpu"), ("NVIDIA H200, 143771 MiB, 570.1; NVIDIA H200, 143771 MiB, 570.1", "h200"),
        ("NVIDIA A100-SXM4-40GB, 40960 MiB, 535", "a100-40g"), ("NVIDIA A100 80GB PCIe, 81920 MiB, 535", "a100-80g"),
        ("NVIDIA H100 80GB HBM3, 81559 MiB, 535", "h100"), ("NVIDIA L4, 23034 MiB, 535", "l4"),
        ("NVIDIA GH200 480GB, 97871 MiB, 535", "h200"),
    ],
)  # fmt: skip
def test_the_device_of_this_machine_is_found_in_the_table(monkeypatch, gpus, name):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": gpus})
    monkeypatch.setattr("sq.recipe.hardware.cpu_has_bf16", lambda: True)
    assert hardware_here() == name and devices_here() == (2 if ";" in gpus else 1)


@pytest.mark.parametrize("name", hardware_names())
def test_a_device_is_found_again_by_the_name_that_a_plan_keeps(name):
    assert load_hardware(load_hardware(name).name) == load_hardware(name)


def test_a_cpu_without_bf16_is_a_row_of_its_own(monkeypatch):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": "none"})
    monkeypatch.setattr("sq.recipe.hardware.cpu_has_bf16", lambda: False)
    slow, fast = load_hardware(hardware_here()), load_hardware("cpu")
    assert not slow.gpu and slow.train_seconds(0.135) > 2 * fast.train_seconds(0.135)


def test_a_gpu_that_is_not_in_the_table_is_told(monkeypatch):
    monkeypatch.setattr(provenance, "hardware", lambda: {"gpus": "NVIDIA L40S, 46068 MiB, 535"})
    with pytest.raises(ConfigError, match="NVIDIA L40S is not in the hardware table: say --hardware"):
        hardware_here()
