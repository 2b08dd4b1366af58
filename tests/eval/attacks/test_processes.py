"""Programs that reach for sockets, other processes, more rights, and the programs after them."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from attacks import LIMITS, alive, call, family, run

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.pool import Sandbox
from sq.sandbox.programs import Asserts, Program
from sq.sandbox.programs import ProgramStatus as Status

pytestmark = pytest.mark.slow  # the proof that every attack is held: a second of processor time for each endless one


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
