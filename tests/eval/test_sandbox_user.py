"""The sandbox of an ordinary user: no root anywhere, one identity, and still nothing of the user's within reach."""

import json
import os
import subprocess
import sys
from pathlib import Path

import isolation_here
import omegaconf
import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = (sys.executable, "/usr/bin/python3")
NOBODY = 65534
WHO = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
SCRIPT = """
import json, os, sys
from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Calls, Program, ProgramStatus
out = {"uid": os.getuid()}
secret = sys.argv[2]
attacks = {
    "right": "def f(p): return 1",
    "reads": "def f(p): return open(p).read()",
    "kills": '''
import os, signal
def f(p):
    for pid in (os.getppid(), 1, -1, 0, *range(2, 300)):
        for s in (9, 15, 2, 19):
            try:
                if pid != os.getpid(): os.kill(pid, s)
            except OSError: pass
    return 2
''',
    "caps": '''
import ctypes, struct
def f(p):
    h, d = ctypes.create_string_buffer(struct.pack('Ii', 0x20080522, 0)), ctypes.create_string_buffer(24)
    ctypes.CDLL(None).capget(h, d)
    c = ctypes.CDLL(None)
    return [sum(struct.unpack('6I', d.raw)), c.unshare(0x20000000), c.unshare(0x10000000), c.umount2(b'/box', 2)]
''',
    "socket": "import socket\\ndef f(p): return str(socket.socket())",
    "after": "def f(p): return 3",
}
try:
    with Sandbox(SandboxConfig(workers=1, isolation=sys.argv[1], cpu_seconds=1, memory_mb=256)) as box:
        pid = box._workers[0]._process.pid
        for name, source in attacks.items():
            o = box.run_one(Program(source=source, tests=Calls(function="f", arguments=[[secret]])))
            out[name] = o.values[0] if o.status is ProgramStatus.CALLED else o.reason
        out["same worker"] = box._workers[0]._process.pid == pid
except EngineError as error:
    out = {"refused": str(error)}
print(json.dumps(out))
"""


def python_of_nobody():
    """A Python that an ordinary user may run, with what the sandbox's config needs."""
    for python in PYTHONS:
        command = [python, "-c", "import sys, omegaconf, yaml; assert sys.version_info >= (3, 11)"]
        try:
            done = subprocess.run(command, env=environment(), capture_output=True, cwd="/", **WHO)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def environment():
    packages = Path(omegaconf.__file__).parents[1]
    return {"PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_an_ordinary_user(tier, tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and path.stat().st_uid == os.getuid() and "pytest" in path.name:
            path.chmod(0o755)
    (tmp_path / "secret").chmod(0o644)
    python = python_of_nobody()
    if python is None:
        pytest.skip("no Python here that an ordinary user may run")
    command = [python, "-c", SCRIPT, tier, str(tmp_path / "secret")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd="/", timeout=120, **WHO)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    if "refused" in told:
        isolation_here.refused(tier, told["refused"], **WHO)
    assert told["uid"] != 0 and told["right"] == 1 and told["after"] == 3 and told["same worker"]
    assert "s3cret" not in str(told["reads"]) and "Error" in told["reads"]
    assert told["kills"] == 2 and told["caps"] == [0, -1, -1, -1] and "Error" in told["socket"]
