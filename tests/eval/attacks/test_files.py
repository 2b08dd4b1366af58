"""Programs that read, write and remove what is not theirs."""

import os
import sys
import threading
from pathlib import Path

import pytest
from attacks import SECRET, THREADS, call

pytestmark = pytest.mark.slow  # the proof that every attack is held: a second of processor time for each endless one


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
