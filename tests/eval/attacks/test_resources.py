"""Programs that use up processor time, memory, processes and disk, or end oddly: how each ends."""

from textwrap import dedent

import pytest
from attacks import BAD, call, run

from sq.sandbox.programs import Calls, Program
from sq.sandbox.programs import ProgramStatus as Status

pytestmark = pytest.mark.slow  # the proof that every attack is held: a second of processor time for each endless one


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
