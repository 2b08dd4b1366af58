"""Programs that attack the machine. After each: it was held, nothing is left of it, and the worker serves on."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import isolation_here
import pytest

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Calls, Program, Raised
from sq.sandbox.programs import ProgramStatus as Status

LIMITS = {"workers": 1, "cpu_seconds": 1.0, "wall_seconds": 60.0, "memory_mb": 256, "processes": 8, "tmp_mb": 8}
BAD = set(Status) - {Status.PASSED, Status.CALLED}
pytestmark = pytest.mark.slow  # the proof that every attack is held: a second of processor time for each endless one
SECRET = "a-secret-that-nobody-shall-see"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def box(request):
    os.environ["PLANTED_SECRET"] = SECRET
    try:
        with Sandbox(SandboxConfig(isolation=request.param, **LIMITS)) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)
    finally:
        del os.environ["PLANTED_SECRET"]


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def impatient_box(request):
    """For what uses no processor time: it waits two seconds."""
    try:
        with Sandbox(SandboxConfig(isolation=request.param, **LIMITS | {"wall_seconds": 2.0})) as sandbox:
            yield sandbox
    except EngineError as error:
        isolation_here.refused(request.param, error)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """After every attack: no process of it, nothing in its temporary directory, and the next program runs."""
    yield
    names = {"box", "impatient_box"} & set(request.fixturenames)
    if not names:
        return
    box = request.getfixturevalue(names.pop())
    assert call(box, "import os\ndef f(): return os.listdir(os.environ['TMPDIR'])") == []
    template = template_of(box)
    assert children(template) == [], "a process is left"
    assert template == box.template, "the worker had to be started again"


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


ENDED = {  # name: the program, how it ends, a fragment of the reason
    "a huge answer": ("def f(): return 'x' * (40 * 2**20)", {Status.ERROR}, ""),
    "memory bit by bit": ("""
        def f():
            x = []
            while True: x.append(bytearray(2**22))
    """, {Status.MEMORY}, "256 MB"),
    "memory in one piece": ("x = bytearray(2**31)\ndef f(): return True", {Status.MEMORY}, ""),
    "threads with small stacks": ("""
        import threading, time
        threading.stack_size(32768)
        def f():
            for _ in range(3000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            time.sleep(9)
            return True
    """, {Status.MEMORY, Status.FAILED}, "thread"),
    "an infinite loop": ("def f():\n    while True: pass", {Status.TIMEOUT}, ""),
    "an infinite loop in C": ("def f(): return 9 ** 9 ** 9", {Status.TIMEOUT, Status.MEMORY}, ""),
    "an infinite loop while it is defined": ("while True: pass", {Status.TIMEOUT}, ""),
    "a catastrophic regular expression": (
        "import re\ndef f(): return re.match('(a+)+$', 'a' * 60 + 'b')", {Status.TIMEOUT}, ""),
    "ignoring every signal": ("""
        import signal
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def f():
            while True: pass
    """, {Status.TIMEOUT}, ""),
    "infinite output, which goes nowhere": ("""
        import sys
        while True:
            sys.stdout.write('x' * 10000)
            sys.stderr.write('x' * 10000)
    """, {Status.TIMEOUT}, ""),
    "many files": ("""
        def f():
            for i in range(10**6):
                open(f'f{i}', 'w').close()
    """, {Status.FAILED, Status.TIMEOUT, Status.OUTPUT}, ""),
    "many large files": ("""
        def f():
            for i in range(10**4):
                with open(f'f{i}', 'wb') as file: file.write(b'x' * 2**20)
    """, {Status.FAILED, Status.OUTPUT}, ""),
    "deep directories, counted where no mount bounds them": ("""
        import os, time
        def f():
            for i in range(1100):
                os.mkdir('d'); os.chdir('d')
            time.sleep(0.6)
            return True
    """, {Status.PASSED}, ""),
    "a fault in C": ("import ctypes\ndef f(): return ctypes.string_at(0)", {Status.CRASHED}, "SIGSEGV"),
    "an abort": ("import os\ndef f(): os.abort()", {Status.CRASHED, Status.ERROR}, ""),
    "deep recursion": ("def f(): return f()", {Status.FAILED}, "RecursionError"),
    "deep recursion with the limit raised": ("""
        import sys
        sys.setrecursionlimit(10**9)
        def f(): return repr(g(10**6))
        def g(n):
            x = []
            for _ in range(n): x = [x]
            return x
    """, BAD, ""),
    "nested too deep to parse": (
        "x = " + "(" * 100_000 + ")" * 100_000, {Status.ERROR, Status.MEMORY, Status.CRASHED}, ""),
    "a nul": ("x = '\x00'", {Status.ERROR}, ""),
    "half a character": ("x = '\ud800'\ndef f(): return True", {Status.ERROR, Status.PASSED}, ""),
    "closing every descriptor": ("""
        import os
        os.closerange(0, 1024)
        def f(): return True
    """, {Status.ERROR}, ""),
    "reading its input": ("def f(): return input()", {Status.FAILED}, "EOFError"),
    "killing its parent": ("""
        import os, signal
        def f():
            for pid in (os.getppid(), 1, -1, 0, *range(2, 400)):
                for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP):
                    if pid != os.getpid():
                        try: os.kill(pid, s)
                        except OSError: pass
            return True
    """, {Status.PASSED, Status.ERROR}, ""),
    "threads that never end": ("""
        import threading, time
        for _ in range(3): threading.Thread(target=time.sleep, args=(600,)).start()
        def f(): return True
    """, {Status.PASSED}, ""),
    "asyncio, which needs no socket of the net": ("""
        import asyncio
        async def g(): return True
        def f(): return asyncio.run(g())
    """, {Status.PASSED}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
def test_how_it_ends(box, name):
    source, statuses, reason = ENDED[name]
    outcome = run(box, source)
    assert outcome.status in statuses and reason in outcome.reason, outcome


MANY_PROCESSES = {
    "memory": "held = b'x' * (100 * 2**20)",
    "shared memory": "import mmap\n    held = mmap.mmap(-1, 100 * 2**20)\n"
    "    for i in range(0, len(held), 4096): held[i] = 1",
}


@pytest.mark.parametrize("name", MANY_PROCESSES)
def test_memory_by_many_processes(box, name):
    if box.tier == "landlock":
        pytest.skip("there a program has no child processes")
    source = f"""import os, time
def f():
    for _ in range(6):
        if not os.fork(): break
    {MANY_PROCESSES[name]}
    time.sleep(9)
    return True
"""
    outcome = run(box, source)
    assert outcome.status is Status.MEMORY and "together held" in outcome.reason


def test_fork_bomb(impatient_box):
    source = """
        import os
        def f():
            while True:
                try: os.fork()
                except OSError: pass
    """
    assert run(impatient_box, source).status is Status.TIMEOUT


def test_fork_is_bounded(box):
    source = """
        import os, time
        def f():
            n = 0
            try:
                while os.fork(): n += 1
            except OSError: return n
            time.sleep(9)
    """
    assert 0 <= call(box, source) <= 12


def test_endless_sleep(impatient_box):
    outcome = run(impatient_box, "import time\ndef f(): time.sleep(10**6)")
    assert outcome.status is Status.TIMEOUT and outcome.reason == "not done within 2 s"


def test_infinite_answers(box):
    source = """
        import os
        def f():
            while True: os.write(5, b'x' * 10000)
    """
    program = Program(source=dedent(source), tests=Calls(function="f", arguments=[[]], expected=[1]))
    result = box.run_one(program)
    assert result.status is Status.OUTPUT and result.passed == (False,)


def test_closing_its_answers_and_going_on(box):
    source = "import os, time\ndef f():\n    os.close(5)\n    time.sleep(600)"
    program = Program(source=source, tests=Calls(function="f", arguments=[[]], expected=[1]))
    assert box.run_one(program).status is Status.ERROR


def test_huge_file(box):
    source = """
        def f():
            with open('big', 'wb') as file:
                for _ in range(64): file.write(b'x' * 2**20)
    """
    assert "OSError" in call(box, source)


def test_a_sparse_file(box):
    assert "File too large" in call(box, "def f():\n    with open('s', 'wb') as file: file.truncate(2**40)")


def test_reading_a_secret_in_the_home_folder(box, tmp_path):
    home = Path.home() / f".sq-planted-{os.getpid()}"
    home.write_text(SECRET)
    try:
        for path in (home, tmp_path / "secret"):
            path.write_text(SECRET)
            told = call(box, "def f(p): return open(p).read()", str(path))
            assert SECRET not in told and ("FileNotFoundError" in told or "PermissionError" in told)
    finally:
        home.unlink()


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow", "/proc/1/environ", "/root", "/home", "/sys", "/proc"])
def test_reading_what_is_the_systems(box, path):
    source = "import os\ndef f(p): return os.listdir(p) if os.path.isdir(p) else open(p).read()"
    told = call(box, source, path)
    if isinstance(told, list):  # a directory that is there because Python lies below it
        assert set(told) <= set(Path(sys.base_prefix).parts)
    else:
        assert told.startswith(("FileNotFoundError", "PermissionError"))


def test_reading_the_projects_files(box):
    told = call(box, "def f(p): return open(p).read()", __file__)
    assert told.startswith(("FileNotFoundError", "PermissionError"))


def test_reading_the_environment(box):
    source = """
        import os, glob
        def f():
            found = str(dict(os.environ))
            for p in glob.glob('/proc/*/environ'):
                try: found += open(p).read()
                except OSError: pass
            return found
    """
    assert SECRET not in call(box, source)


def test_reading_the_environment_through_c(box):
    source = """
        import ctypes
        def f():
            e = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
            out, i = [], 0
            while e and e[i]: out.append(e[i]); i += 1
            return b' '.join(out)
    """
    assert SECRET.encode() not in call(box, source)


def test_reading_the_environment_that_it_was_started_with(box):
    """The strings stand in its memory, before the name of what was executed, whatever became of `environ`."""
    source = """
        import ctypes
        def f():
            c = ctypes.CDLL(None)
            c.getauxval.restype, c.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
            return ctypes.string_at(c.getauxval(31) - 3000, 3000)
    """
    found = call(box, source)
    assert b"PYTHONHASHSEED=0" in found and SECRET.encode() not in found
    names = {line.partition(b"=")[0] for line in found.split(b"\0") if b"=" in line[:40]}
    given = {os.fsencode(name) for name in ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "LC_ALL", *THREADS)}
    assert not (names & os.environb.keys()) - given


def test_writing_outside(box, tmp_path):
    target = tmp_path / "written"
    source = "def f(p):\n    with open(p, 'w') as file: file.write('x')"
    for path in (target, Path.home() / "sq-written", Path("/dev/shm/sq-written"), Path("/var/tmp/sq-written")):
        call(box, source, str(path))
        assert not path.exists()


def test_writing_into_pythons_own_files(box):
    told = call(box, "def f(p):\n    with open(p, 'a') as file: file.write('x')", threading.__file__)
    assert told.startswith(("OSError", "PermissionError"))


def test_removing_files(box, tmp_path):
    (tmp_path / "kept").write_text("x")
    source = """
        import os, shutil
        def f(p):
            for g in (os.unlink, shutil.rmtree, os.rmdir, lambda q: os.truncate(q, 0), lambda q: os.chmod(q, 0)):
                try: g(p)
                except OSError: pass
    """
    call(box, source, str(tmp_path / "kept"))
    assert (tmp_path / "kept").read_text() == "x" and (tmp_path / "kept").stat().st_mode & 0o600 == 0o600


def test_a_symbolic_link_out(box, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    source = """
        import os
        def f(p):
            os.symlink(p, 'link')
            return open('link').read()
    """
    assert SECRET not in call(box, source, str(tmp_path / "secret"))


def test_a_hard_link_out(box, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    told = call(
        box,
        """
        import os
        def f(p):
            os.link(p, 'link')
            return open('link').read()
    """,
        str(tmp_path / "secret"),
    )
    assert SECRET not in told


def test_climbing_out_of_the_root(box, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    source = """
        import os
        def f(p):
            os.mkdir('x'); fd = os.open('.', os.O_RDONLY)
            try: os.chroot('x'); os.fchdir(fd)
            except OSError: pass
            for _ in range(30): os.chdir('..')
            return open('.' + p).read()
    """
    assert SECRET not in call(box, source, str(tmp_path / "secret"))


@pytest.mark.parametrize(
    "path", ["/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/proc/self/fd", "/proc/self/mem"]
)
def test_tricks_with_proc(box, path, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    source = """
        import os
        def f(p, s):
            out = []
            for q in (p, p + s):
                try: out.append(str(os.listdir(q)) if os.path.isdir(q) else open(q).read())
                except OSError as e: out.append(str(e))
            return out
    """
    told = call(box, source, path, str(tmp_path / "secret"))
    assert SECRET not in str(told) and all("[Errno" in line or line == "[]" for line in told)


@pytest.mark.parametrize("kind", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET"])
def test_opening_a_socket(box, kind):
    told = call(box, f"import socket\ndef f(): return str(socket.socket(socket.{kind}, socket.SOCK_DGRAM))")
    assert "PermissionError" in told or "OSError" in told


def test_reaching_a_server_of_this_machine(box, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0sq-sandbox-test")
        local.listen()
        server.settimeout(0.1)
        source = """
            import socket
            def f(port):
                out = []
                tcp = lambda: socket.create_connection(('127.0.0.1', port), 1)
                local = lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + 'sq-sandbox-test')
                for make in (tcp, local):
                    try: make(); out.append('in')
                    except OSError as e: out.append(str(e))
                return out
        """
        told = call(box, source, server.getsockname()[1])
        assert "in" not in told
        with pytest.raises(TimeoutError):
            server.accept()


def test_sending_by_a_socket_pair(box):
    source = """
        import socket
        def f():
            a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            return a.sendto(b'x', chr(0) + 'sq-sandbox-test')
    """
    assert "Error" in str(call(box, source))


def test_sending_to_a_socket_in_a_directory(box, tmp_path):
    for path in (tmp_path, *tmp_path.parents):
        if "pytest" in path.name:
            path.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0o777)
        server.settimeout(0.1)
        source = """
            import socket
            def f(p):
                out = []
                for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
                    try: out.append(socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b'x', p))
                    except OSError as e: out.append(str(e))
                return out
        """
        told = call(box, source, str(tmp_path / "s"))
        assert all("[Errno" in one for one in told)
        with pytest.raises(TimeoutError):
            server.recv(1)


def test_signalling_this_very_process(box):
    source = """
        import os
        def f(pid):
            for s in (0, 15):
                os.kill(pid, s)
    """
    told = call(box, source, os.getpid())
    assert "ProcessLookupError" in told or "PermissionError" in told


def test_signals_by_the_owner_of_a_pipe(box):
    """The kernel signals whom a descriptor's owner is said to be; by F_SETSIG with any signal."""
    source = """
        import fcntl, os, struct
        def f(pid):
            r, w = os.pipe()
            for command, value in ((10, 9), (8, pid), (15, struct.pack('ii', 1, pid))):
                try: fcntl.fcntl(r, command, value)
                except OSError: pass
            try: fcntl.ioctl(r, 0x8901, struct.pack('i', pid))
            except OSError: pass
            fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
            os.write(w, b'x')
    """
    with subprocess.Popen(["sleep", "60"]) as other:
        call(box, source, other.pid)
        time.sleep(0.05)
        assert other.poll() is None
        other.kill()


def test_changing_the_flags_of_a_file_that_it_may_read(box):
    source = """
        import fcntl, os, struct
        def f(p):
            fd = os.open(p, os.O_RDONLY)
            out = []
            for number, given in ((0x40086602, struct.pack('L', 0x40)), (0x401c5820, bytes(28))):
                try: out.append(str(fcntl.ioctl(fd, number, given)))
                except OSError as e: out.append(str(e))
            try: out.append(str(fcntl.fcntl(fd, 1024, 0)))
            except OSError as e: out.append(str(e))
            return out
    """
    assert all("[Errno" in one for one in call(box, source, threading.__file__))


def test_it_has_no_descriptor_of_others(box):
    source = """
        import os, stat
        def f():
            found = []
            for fd in range(1024):
                try: found.append(stat.S_IFMT(os.fstat(fd).st_mode))
                except OSError: pass
            return [found.count(stat.S_IFCHR), found.count(stat.S_IFREG), found.count(stat.S_IFIFO), len(found)]
    """
    assert call(box, source) == [3, 2, 1, 6]  # the null device, its code and arguments, the pipe of its answers


def test_limiting_another_process(box):
    source = "import resource\ndef f(pid): resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))"
    assert "Error" in call(box, source, os.getpid())
    assert os.open(__file__, os.O_RDONLY)


def test_leaving_a_daemon_behind(box):
    source = """
        import os, time
        def f():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    for fd in range(64):
                        try: os.close(fd)
                        except OSError: pass
                    time.sleep(600)
                os._exit(0)
            return True
    """
    outcome = run(box, source)
    assert outcome.ok if box.tier == "namespaces" else "BlockingIOError" in outcome.reason


def test_thousands_of_threads(box):
    source = """
        import threading, time
        def f():
            n = 0
            try:
                while n < 5000: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); n += 1
            except (RuntimeError, MemoryError): pass
            return n
    """
    assert 1 <= call(box, source) < 5000


def test_calls_of_the_other_abi(box):
    if os.uname().machine != "x86_64":
        pytest.skip("x86_64 alone has one")
    outcome = run(box, "import ctypes\ndef f(): return ctypes.CDLL(None).syscall(0x40000000 + 39)")
    assert outcome.status in (Status.CRASHED, Status.ERROR)


def test_becoming_root(box):
    source = """
        import os
        def f():
            out = []
            for g in (os.setuid, os.setgid, os.seteuid):
                try: g(0); out.append(g.__name__)
                except OSError: pass
            open('/dev/null/../../etc/x', 'w')
    """
    assert "Error" in call(box, source)


def test_having_no_capability(box):
    source = """
        import ctypes, struct
        def f():
            h = ctypes.create_string_buffer(struct.pack('Ii', 0x20080522, 0)); d = ctypes.create_string_buffer(24)
            ctypes.CDLL(None).capget(h, d)
            return list(struct.unpack('6I', d.raw))
    """
    assert call(box, source) == [0] * 6


def test_the_limits_that_are_in_force(box):
    source = """
        import resource
        def f(names): return {name: resource.getrlimit(getattr(resource, name))[1] for name in names}
    """
    wanted = {"RLIMIT_AS": 256 * 2**20, "RLIMIT_CPU": 2, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 128, "RLIMIT_MEMLOCK": 0}
    wanted["RLIMIT_FSIZE"] = box.config.file_mb * 2**20
    assert call(box, source, list(wanted)) == wanted


def test_what_it_can_see_is_mounted_read_only(box):
    if box.tier == "landlock":
        pytest.skip("there nothing is mounted for it")
    source = """
        import os
        def f(*paths):
            flags = [os.statvfs(path).f_flag for path in (*paths, os.environ["TMPDIR"])]
            return [(bool(f & os.ST_RDONLY), bool(f & os.ST_NOSUID)) for f in flags]
    """
    paths = "/", threading.__file__, os.path.realpath(sys.executable)
    assert call(box, source, *paths) == [(True, True)] * 3 + [(False, True)]


def test_raising_its_own_limits(box):
    source = """
        import resource
        def f():
            for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE'):
                try: resource.setrlimit(getattr(resource, name), (2**40, 2**40)); return name
                except (ValueError, OSError): pass
            return ''
    """
    assert call(box, source) == ""


def test_a_stopped_process(impatient_box):
    source = """
        import os, signal
        def f():
            os.kill(os.getpid(), signal.SIGSTOP)
            return True
    """
    outcome = run(impatient_box, source)
    assert outcome.status in (
        Status.TIMEOUT,
        Status.PASSED,
    )  # the first process of a namespace cannot be stopped


def test_tests_are_confined_as_programs_are(box, tmp_path):
    test = f"import os\nopen({str(tmp_path / 'x')!r}, 'w')"
    outcome = box.run_one(Program(source="def f(): return 1", tests=Asserts(tests=["assert f() == 1", test])))
    assert outcome.passed == (True, False) and outcome.reason.startswith("test 2: ") and not (tmp_path / "x").exists()


def test_tests_that_never_end(impatient_box):
    program = Program(source="def f(): return 1", tests=Asserts(tests=["while f(): pass"]))
    assert impatient_box.run_one(program).status is Status.TIMEOUT


def test_one_program_sees_nothing_of_the_one_before(box):
    call(
        box,
        """
        import builtins, sys
        builtins.left = 1
        sys.modules['left'] = 1
        open('left', 'w')
        def f(): return 1
    """,
    )
    source = """
        import builtins, sys, os
        def f(): return [hasattr(builtins, 'left'), 'left' in sys.modules, os.path.exists('left')]
    """
    assert call(box, source) == [False, False, False]


def test_closing_ends_every_process_at_once():
    box = Sandbox(SandboxConfig(**{**LIMITS, "workers": 2, "wall_seconds": 60.0, "cpu_seconds": 60.0}))
    endless = Program(source="while True: pass", tests=Asserts(tests=["f()"]))
    told = []

    def serve():
        try:
            list(box.run([endless]))
        except EngineError as error:
            told.append(str(error))

    runner = threading.Thread(target=serve, daemon=True)
    runner.start()
    time.sleep(0.3)
    roots = [worker._process.pid for worker in box._workers]
    below = [pid for root in roots for pid in family(root)]
    assert len(below) >= 6
    box.close()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in below) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in below if alive(pid)]
    runner.join(5)
    assert told == ["the sandbox is closed"]


def family(pid):
    return [pid, *(p for child in children(pid) for p in family(child))]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
