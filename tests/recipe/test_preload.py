"""Stages as forks of a process that has imported what they need: each is what its command would be, or its command."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sq.core.ledger import read_rows
from sq.core.provenance import process_is_gone, process_name
from sq.recipe.devices import Devices
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe
from sq.recipe.preload import OF_VLLM, Preload, forks_of, modules_of, open_preload
from sq.recipe.process import StageProcess, stop

PROBE = """
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "directory": os.getcwd(), "path": sys.path[0],
    "is_child_of_run": os.getppid() == int(os.environ["RUN"]), "leads_group": os.getpgid(0) == os.getpid(),
    "environment": {k: v for k, v in os.environ.items() if k not in ("_", "LC_CTYPE")},
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)],
    "files": sorted(os.listdir("/proc/self/fd"))[:-1], "stdin": os.readlink("/proc/self/fd/0"),
    "priority": os.getpriority(os.PRIO_PROCESS, 0), "threads": len(os.listdir("/proc/self/task")),
}))
print("preloaded" if "planted" in sys.modules else "its command", file=sys.stderr)
"""


@pytest.fixture
def preload(tmp_path, monkeypatch):
    """`preload(text)` -> a server that has imported a module of this text, with the environment of the test."""
    opened = []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)]))
    monkeypatch.setenv("RUN", str(os.getpid()))

    def start(text="", vllm=""):
        (tmp_path / "planted.py").write_text(text)
        (tmp_path / "planted_vllm.py").write_text(vllm)
        of_vllm = ("planted_vllm:prepare", "planted_vllm_import")
        (tmp_path / "planted_vllm_import.py").write_text("import os; at_import = os.environ['PREPARED']")
        opened.append(Preload(["planted"], os.environ, {"one": bool(vllm)}, of_vllm))
        while not opened[-1].is_ready("one") and opened[-1]._server.poll() is None:
            time.sleep(0.01)
        return opened[-1]

    yield start
    for server in opened:
        server.close()


def run_stage(tmp_path, monkeypatch, server, text=PROBE, **environment):
    """A script as a stage; its exit code, and what it wrote."""
    (tmp_path / "train.py").write_text(textwrap.dedent(text))
    monkeypatch.setattr("sq.recipe.process._program", lambda script: [sys.executable, str(tmp_path / "train.py")])
    stage = SimpleNamespace(name="one", script="train", launch="", overrides=["a=1", "b=x y"])
    log = tmp_path / "one.log"
    log.unlink(missing_ok=True)
    process = StageProcess(stage, ["c=2"], environment, log, server)
    while process.poll() is None:
        time.sleep(0.01)
    assert process.cpu_seconds > 0
    return process.code, log.read_text().splitlines()[1:]


def test_a_fork_is_what_its_command_would_be(preload, tmp_path, monkeypatch):
    server = preload("import os; os.environ.setdefault('SET_BY_AN_IMPORT', '1')")
    text = "import os; os.environ.setdefault('SET_BY_AN_IMPORT', '1')" + PROBE
    code, forked = run_stage(tmp_path, monkeypatch, server, text, CUDA_VISIBLE_DEVICES="3")
    assert code == 0 and forked[-1] == "preloaded", forked
    code, plain = run_stage(tmp_path, monkeypatch, None, text, CUDA_VISIBLE_DEVICES="3")
    assert code == 0 and plain[-1] == "its command", plain
    assert json.loads(forked[0]) == json.loads(plain[0])
    assert json.loads(forked[0])["environment"]["CUDA_VISIBLE_DEVICES"] == "3"


def test_what_an_import_set_is_kept_and_what_was_set_for_an_import_is_not(preload, tmp_path, monkeypatch):
    server = preload(
        "import os; os.environ.setdefault('SET_BY_AN_IMPORT', '1')",
        "import os\ndef prepare():\n    os.environ['PREPARED'] = 'for the import'",
    )
    text = """
        import os, sys
        at_import = sys.modules["planted_vllm_import"].at_import
        print([at_import, os.environ["SET_BY_AN_IMPORT"], os.environ.get("PREPARED")])
    """
    code, written = run_stage(tmp_path, monkeypatch, server, text)
    assert code == 0 and written == ["['for the import', '1', None]"]


def test_a_file_where_the_run_is_is_no_module(preload, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/colorsys.py").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    text = "import colorsys, os, sys; print(os.path.dirname(colorsys.__file__) == os.path.dirname(os.__file__))"
    server = preload("import colorsys")
    assert [run_stage(tmp_path, monkeypatch, each, text) for each in (server, None)] == [(0, ["True"])] * 2


def test_an_orphan_of_a_stage_is_not_the_runs(preload, tmp_path, monkeypatch):
    text = """
        import os, time
        if between := os.fork():
            os.waitpid(between, 0)
            time.sleep(0.5)
        elif os.fork() == 0:
            time.sleep(0.1)
            print(os.getppid() == int(os.environ["RUN"]), flush=True)
    """
    assert run_stage(tmp_path, monkeypatch, preload(), text) == (0, ["False"])


@pytest.mark.parametrize(
    ("text", "code", "written"),
    [
        ("import sys; sys.exit(75)", 75, ""),
        ("import sys; sys.exit('error: no')", 1, "error: no"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        ("import atexit; atexit.register(print, 'at its end')", 0, "at its end"),
    ],
)
def test_it_ends_as_its_command_does(preload, tmp_path, monkeypatch, text, code, written):
    server = preload()
    for each in (server, None):
        ended = run_stage(tmp_path, monkeypatch, each, "import sys, os\nsys.stdout.flush()\n" + text)
        assert ended[0] == code and written in (ended[1] or [""])[-1]


def test_two_forks_do_not_draw_the_same(preload, tmp_path, monkeypatch):
    server = preload("import numpy.random, random")
    text = "import random, sys, numpy; print(random.random(), numpy.random.random(), 'planted' in sys.modules)"
    draws = [run_stage(tmp_path, monkeypatch, server, text)[1][0].split() for _ in range(2)]
    assert draws[0][2] == draws[1][2] == "True" and draws[0][0] != draws[1][0] and draws[0][1] != draws[1][1]


BAD_FORK = """
import sys, types
sys.modules["torch"] = types.SimpleNamespace(
    cuda=types.SimpleNamespace(_is_in_bad_fork=lambda: {fork}, is_initialized=lambda: {initialized}))
"""


@pytest.mark.parametrize(
    ("planted", "environment"),
    [
        ("", {"OMP_NUM_THREADS": "1"}),
        ("", {"VLLM_USE_V1": "1"}),
        ("import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", {}),
        ("import os; os._exit(1)", {}),
        ("import os; os.setpgid = lambda *_: os.kill(os.getpid(), 9)", {}),  # a fork that dies before it is the stage
        ("import os; os.getppid = lambda: 1", {}),  # one that would not be the run's child
        (BAD_FORK.format(fork=True, initialized=False), {}),
        (BAD_FORK.format(fork=False, initialized=True), {}),
    ],
)
def test_where_a_fork_might_differ_its_command_is_started(preload, tmp_path, monkeypatch, planted, environment):
    code, written = run_stage(tmp_path, monkeypatch, preload(planted), PROBE, **environment)
    assert code == 0 and written[-1] == "its command"
    facts = json.loads(written[0])
    assert facts["is_child_of_run"] and facts["leads_group"] and facts["argv"][1:] == ["a=1", "b=x y", "c=2"]
    assert facts["environment"].items() >= environment.items()


def test_a_server_that_was_killed_is_done_without(preload, tmp_path, monkeypatch):
    server = preload()
    os.killpg(server._server.pid, signal.SIGKILL)
    server._server.wait()
    assert run_stage(tmp_path, monkeypatch, server)[1][-1] == "its command"


def test_ctrl_c_ends_a_fork_and_all_it_has_started(preload, tmp_path, monkeypatch):
    text = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    (tmp_path / "train.py").write_text(text)
    monkeypatch.setattr("sq.recipe.process._program", lambda script: [sys.executable, str(tmp_path / "train.py")])
    stage = SimpleNamespace(name="one", script="train", launch="", overrides=[])
    process = StageProcess(stage, [], {}, tmp_path / "one.log", preload())
    while not process.tail(1):
        time.sleep(0.01)
    other = process_name(int(process.tail(1)[0]))
    stop([process])
    assert process.code == -signal.SIGINT and "KeyboardInterrupt" in process.tail(1)[0]
    wait_until_gone(other)


def wait_until_gone(*names):
    deadline = time.monotonic() + 20
    while not all(map(process_is_gone, names)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(map(process_is_gone, names))


RUN = """
import os, sys, time
from pathlib import Path
from sq.recipe.preload import Preload
server = Preload(["json"], os.environ, {"one": False})
while not server.is_ready("one"):
    time.sleep(0.01)
pid = server.start("one", [sys.executable, sys.argv[1]], os.environ, Path("log"))
print(server._server.pid, pid, flush=True)
time.sleep(60)
"""


def test_kill_9_of_the_run_leaves_nothing(tmp_path):
    (tmp_path / "stage.py").write_text("import time; time.sleep(60)")
    command = [sys.executable, "-c", RUN, str(tmp_path / "stage.py")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    names = [process_name(int(pid)) for pid in run.stdout.readline().split()]
    assert len(names) == 2 and not any(map(process_is_gone, names))
    run.kill()
    run.wait()
    wait_until_gone(*names)


WAITING = """
import sys, time
from sq.cli import main
from sq.recipe import preload

def start(self, stage, *others):
    while stage in self._forks and not self.is_ready(stage):
        time.sleep(0.05)
    pid = own(self, stage, *others)
    assert bool(pid) == (stage in self._forks), stage
    print(stage, "forked" if pid else "started")
    return pid

own, preload.Preload.start, preload.LEAST = preload.Preload.start, start, 1
main(sys.argv[1:])
"""


def run_forked(directory, *words, environment, preload="true"):
    """`sq run` whose stages with weights in them are forked."""
    command = [sys.executable, "-c", WAITING, "run", *map(str, words), f"preload={preload}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment)


@pytest.mark.slow
def test_rows_and_weights_are_those_of_the_commands(finished, small, environment, content, tmp_path):
    done = run_forked(tmp_path, small, environment=environment)
    assert done.returncode == 0 and "sft forked" in done.stdout, done.stderr
    assert content(tmp_path) == content(finished[0])


@pytest.mark.vllm
def test_vllm_in_a_fork_has_the_rows_of_its_command(small, environment, tmp_path):
    recipe = yaml.safe_load(small.read_text())
    labels = {"stage": "fail_rate", "limit": 4, "stage.n": 1, "engine": "oracle"}
    answers = {"stage": "answers", "input": "@labels", "model": "tiny", "engine": "vllm", "stage.n": 2}
    recipe |= {"scripts": {}, "stages": {
        "labels": {"script": "synthesize", "set": labels},
        "answers": {"script": "synthesize", "set": answers | {"stage.max_tokens": 64}},
    }}  # fmt: skip
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    rows = []
    for output, preload in (("one", "true"), ("two", "false")):
        done = run_forked(tmp_path, "both.yaml", f"output_dir={output}", environment=environment, preload=preload)
        assert done.returncode == 0 and ("answers forked" in done.stdout) == (preload == "true"), done.stderr
        rows.append(
            [(row["id"], row["response"], row["response_answer"]) for row in read_rows(tmp_path / output / "answers")]
        )
    assert len(rows[0]) == 8 and rows[0] == rows[1]


TOUCHES = """
import json, os, sys, torch
from sq.recipe import preload_server
calls = []
for name in ("getDeviceCount", "init", "getArchFlags", "getCurrentRawStream", "isInBadFork"):
    name = f"_cuda_{name}"
    setattr(torch._C, name, lambda *_, name=name: calls.append(name) or 0)
torch.cuda._device_count_nvml = lambda: 1  # as where there is a GPU
torch.cuda._lazy_init = lambda: calls.append("_lazy_init")
preload_server._import(sys.argv[1:], {})
mlflow = sys.modules.get("mlflow")
print(json.dumps({
    "calls": [name for name in calls if name != "_cuda_isInBadFork"], "alone": preload_server._is_one_thread(),
    "missing": [name for name in sys.argv[1:] if name.partition(":")[0] not in sys.modules],
    "telemetry": bool(mlflow and mlflow.telemetry.get_telemetry_client()),
}))
"""


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(modules_of(["train", "synthesize", "evaluate"], tracked=True), marks=pytest.mark.slow),
        pytest.param([*modules_of(["synthesize", "evaluate"], tracked=False), *OF_VLLM], marks=pytest.mark.vllm),
    ],
    ids=["all", "vllm"],
)
def test_what_is_imported_asks_for_no_device_leaves_no_thread_and_sends_nothing(environment, modules):
    here = ("CI", "GITHUB", "PYTEST", "MLFLOW", "DO_NOT_TRACK")  # of tests, where MLFLOW sends nothing in any case
    users = {name: value for name, value in environment.items() if not name.startswith(here)}
    users |= {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
    done = subprocess.run([sys.executable, "-c", TOUCHES, *modules], capture_output=True, text=True, env=users)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "calls": [], "alone": True, "missing": [], "telemetry": False,
    }, done.stderr  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "forked"),
    [
        (False, {"samples": True, "one": True, "hf": False, "scores": True, "train": False}),
        (True, {"hf": False, "train": False}),
    ],
)
def test_the_stages_that_are_forked_and_those_with_vllm_in_them(jobs, gpus, forked):
    stages = [SimpleNamespace(name=name, launch="srun" if name == "launched" else "") for name in jobs]
    assert forks_of(stages, jobs, gpus=gpus) == forked


@pytest.fixture(scope="module")
def jobs():
    """Jobs by name; `launched` is one that is started by srun."""
    answers = ["stage=answers", "input=x", "model=tiny", "engine=vllm"]
    whole = ["stage=filter", "input=x", "filters=[duplicates,solvability]", "model=tiny", "engine=vllm", "workers=2"]
    words = {
        "samples": ("synthesize", answers), "several": ("synthesize", [*answers, "workers=2"]),
        "one": ("synthesize", whole), "oracle": ("synthesize", ["stage=answers", "input=vllm", "engine=oracle"]),
        "hf": ("synthesize", [*answers[:-1], "engine=hf"]),
        "scores": ("evaluate", ["model=tiny", "engine=vllm", "benchmark=[arithmetic]"]),
        "train": ("train", ["stage=sft", "model=tiny-base", "data.input=x"]),
        "launched": ("train", ["stage=sft", "model=tiny-base", "data.input=x"]),
    }  # fmt: skip
    return check(
        [SimpleNamespace(name=n, script=s, overrides=o, settings={"n": n}, tags={}) for n, (s, o) in words.items()]
    )


def test_without_memory_for_it_or_for_two_stages_alone_there_is_none(jobs, small, monkeypatch):
    recipe = load_recipe(str(small), ["preload=true"])
    jobs = {stage.name: jobs["hf"] for stage in recipe.stages}
    devices = Devices(1, recipe.config.profile)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: os.open("/no/such/file", os.O_RDONLY))
    assert open_preload(recipe, recipe.stages, jobs, devices, {}) is None
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it is not worth it"))
    assert open_preload(recipe, recipe.stages[:2], jobs, devices, {}) is None
