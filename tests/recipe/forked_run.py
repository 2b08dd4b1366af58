"""`sq run` whose stages are forks of this process, as it is one of a process that has imported what they need.

What such a fork does is what its command does: Hydra reads the same words, and the log, the group, the death with its
parent and the exit code are the process's own.
"""

import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from sq.cli import main
from sq.cli.scripts import run_script
from sq.recipe import process


def fork(words, *, stdin, stdout, stderr, env, process_group, preexec_fn):
    """In the place of `subprocess.Popen`."""
    child = os.fork()
    if child:
        os.setpgid(child, process_group)
        return SimpleNamespace(pid=child, returncode=None)
    code = 1
    try:
        os.setpgid(0, process_group)
        preexec_fn()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for stream, target in enumerate((os.open(os.devnull, os.O_RDONLY), stdout.fileno(), stderr.fileno())):
            os.dup2(target, stream)
        os.environ.clear()
        os.environ.update(env)
        run_script(Path(words[1]).stem, words[2:])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    process.subprocess = SimpleNamespace(Popen=fork, DEVNULL=subprocess.DEVNULL)
    main()
