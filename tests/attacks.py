"""What the attacks on the sandbox share: its limits, how a program is run, and which processes there are."""

from pathlib import Path
from textwrap import dedent

from sq.sandbox.programs import Asserts, Calls, Program, Raised
from sq.sandbox.programs import ProgramStatus as Status

LIMITS = {"workers": 1, "cpu_seconds": 1.0, "wall_seconds": 60.0, "memory_mb": 256, "processes": 8, "tmp_mb": 8}
BAD = set(Status) - {Status.PASSED, Status.CALLED}
SECRET = "a-secret-that-nobody-shall-see"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def template_of(box):
    """The process that programs are forked from."""
    pid = box._workers[0]._process.pid
    while (below := children(pid)) and box.tier == "namespaces":
        pid = below[0]
    box.template = getattr(box, "template", pid)
    return pid


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def run(box, source):
    return box.run_one(Program(source=dedent(source), tests=Asserts(tests=["assert f() is True"])))


def call(box, source, *arguments):
    """What the program's f gives; an exception's text where it raises."""
    (value,) = box.run_one(Program(source=dedent(source), tests=Calls(function="f", arguments=[arguments]))).values
    return value.error if isinstance(value, Raised) else value


def family(pid):
    return [pid, *(p for child in children(pid) for p in family(child))]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
