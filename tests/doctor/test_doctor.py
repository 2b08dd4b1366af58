"""The doctor on machines with something wrong: each is one line with its fix, and none of them stops the report."""

import http.server
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sq.doctor import environment, installed, machine
from sq.doctor.finding import problem

ROOT = Path(__file__).parents[2]
ABORTS = "import os\nos.abort()\n"
RAISES = "raise ImportError('libtorch_cpu.so: cannot open shared object file')\n"


@pytest.fixture
def broken_torch(tmp_path, monkeypatch):
    """A torch that fails as it is told to, before the real one on the path."""

    def breaking(code):
        (tmp_path / "broken" / "torch").mkdir(parents=True, exist_ok=True)
        (tmp_path / "broken" / "torch" / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))

    return breaking


def doctor(*arguments, **environment):
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])}
    command = [sys.executable, "-m", "sq.cli", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=environment.get("PWD", ROOT))


@pytest.mark.parametrize(("code", "words"), [(RAISES, "libtorch_cpu.so"), (ABORTS, "died of signal 6")])
def test_a_torch_that_does_not_load_is_one_problem_and_the_others_are_still_tried(
    broken_torch, monkeypatch, code, words
):
    broken_torch(code)
    monkeypatch.setattr(installed, "MODULES", {"torch": "torch", "numpy": "numpy", "pyarrow": "pyarrow"})
    loaded = installed.imports(60)
    found = {finding.name: finding for finding in loaded.findings}
    assert found["torch"].level == "problem" and words in found["torch"].text
    assert "pip install --force-reinstall torch==" in found["torch"].fix
    assert found["numpy"].level == found["pyarrow"].level == "ok"


def test_a_module_that_hangs_is_given_up(broken_torch, monkeypatch):
    broken_torch("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(installed, "MODULES", {"torch": "torch"})
    (finding,) = installed.imports(2).findings
    assert finding.level == "problem" and "no answer within 2 s" in finding.text


def test_nothing_heavy_is_imported_by_the_doctor_itself(broken_torch):
    broken_torch(ABORTS)
    done = doctor("--quick")
    assert done.returncode == 0, done.stderr
    assert "torch:" in done.stdout and "0 problems" in done.stdout and "One token" not in done.stdout


@pytest.mark.slow
def test_a_broken_torch_ends_in_exit_code_1_with_the_whole_report(broken_torch):
    broken_torch(RAISES)
    done = doctor()
    assert done.returncode == 1, done.stderr
    for heading in ("Packages", "Imports", "Machine", "Extras", "Surroundings", "One token by the tiny model"):
        assert f"\n{heading}\n" in done.stdout
    assert "problem  torch: does not load: ImportError: libtorch_cpu.so" in done.stdout
    assert "problem  engine=hf: no token" in done.stdout


@pytest.mark.slow
def test_a_sound_machine_gives_a_token(tmp_path):
    done = doctor(PWD=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " token " in done.stdout and "0 problems" in done.stdout


def test_a_package_that_is_absent_or_of_another_version_is_a_problem(monkeypatch):
    real = installed.version_of
    monkeypatch.setattr(installed, "version_of", lambda n: {"torch": None, "mlflow": "2.0.1"}.get(n, real(n)))
    found = {finding.name: finding for finding in installed.packages()}
    assert found["torch"].level == "problem" and found["torch"].text == "not installed"
    assert found["mlflow"].level == "problem" and "2.0.1, but >=3.10,<4 is needed" in found["mlflow"].text
    assert found["numpy"].level == "ok" and all(f.fix for f in found.values() if f.level == "problem")


@pytest.mark.parametrize(
    ("version", "asked", "fine"),
    [
        ("2.13.0+cpu", ">=2.11,<2.16", True), ("2.9.1", ">=2.11", False), ("2.16.0", "<2.16", False),
        ("0.9.4", "==0.9.*", True), ("0.10.0", "==0.9.*", False), ("3.0rc1", ">=3", True), ("1.2", "", True),
        ("1.2", "==1.2.0", True), ("1.2.0.post2", "!=1.2.0", False),
    ],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version, asked, fine):
    assert installed.fits(version, asked) is fine


def test_a_missing_extra_says_how_to_get_it(monkeypatch):
    real = installed.version_of
    monkeypatch.setattr(installed, "version_of", lambda n: None if n in ("gguf", "bitsandbytes", "ray") else real(n))
    found = {finding.name: finding for finding in installed.extras(has_gpu=True)}
    assert found["gguf"].level == "missing" and found["gguf"].fix == "make setup EXTRAS=gguf"
    assert "bitsandbytes" in found["cuda"].text and found["cuda"].fix == "make setup EXTRAS=cuda"
    without = {finding.name: finding for finding in installed.extras(has_gpu=False)}
    assert "there is no GPU" in without["cuda"].text and not without["cuda"].fix


def test_a_gpu_that_torch_does_not_see_is_a_problem(monkeypatch):
    there = {"cpu": "x", "cores": "8", "memory_gib": "64.0", "gpus": "NVIDIA H200, 143771 MiB, 570.1"}
    monkeypatch.setattr(machine, "hardware", lambda: there)
    seen = {f.name: f for f in machine.findings({"error": None, "cuda": False, "built": None, "flex": True})}
    assert seen["torch on the gpu"].level == "problem" and "without CUDA" in seen["torch on the gpu"].text
    fine = {f.name: f for f in machine.findings({"error": None, "cuda": True, "built": "12.8", "flex": True})}
    assert "torch on the gpu" not in fine and fine["gpu"].text.startswith("NVIDIA H200")


def test_a_token_is_told_as_there_and_its_value_never(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    assert any(f.name == "hugging face token" and f.level == "missing" for f in environment.findings())
    monkeypatch.setenv("HF_TOKEN", "hf_" + "abcdefgh" * 4)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecretvalue12345678")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:wordofpass@127.0.0.1:1")
    text = "\n".join(map(str, environment.findings()))
    assert "there (HF_TOKEN)" in text and "key there" in text and "127.0.0.1:1 does not answer" in text
    assert "abcdefgh" not in text and "verysecret" not in text and "wordofpass" not in text


def test_the_mlflow_store_is_reached_or_not(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def store():
        return next(f for f in environment.findings() if f.name == "mlflow store")

    assert "made by the first run" in store().text
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mlflow.db").write_bytes(b"this is no database at all" * 100)
    assert store().level == "problem" and "cannot be read" in store().text and "sq track outputs" in store().fix
    (tmp_path / "outputs" / "mlflow.db").unlink()
    with sqlite3.connect(tmp_path / "outputs" / "mlflow.db") as database:
        database.execute("create table runs (id text)")
        database.execute("insert into runs values ('a')")
    database.close()
    assert store().level == "ok" and "1 runs" in store().text


def test_a_server_that_answers_is_fine(monkeypatch):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    try:
        finding = next(f for f in environment.findings() if f.name == "mlflow store")
    finally:
        server.shutdown()
        server.server_close()
    assert finding.level == "ok" and "answers (200)" in finding.text


def test_a_full_disk_is_a_problem(monkeypatch):
    usage = type("Usage", (), {"free": 2**28})
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    found = [f for f in environment.findings() if f.name.startswith("disk")]
    assert [f.level for f in found] == ["problem", "problem"]


def test_a_finding_is_one_line_and_its_fix():
    text = str(problem("x", "is broken", "fix it"))
    assert text.splitlines() == ["problem  x: is broken", "         -> fix it"]
