"""Commands of `sq` as forks of one process that has imported what they need: 5 s of CPU less for each start.

What such a fork does is what its command does: the script runs as `__main__` with the same words, in the same directory
and environment, can be sent signals, and ends with the same exit code. A variable that is read when a library is
imported comes too late here: a test of one starts a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
Environment = Mapping[str, str]
NEEDED = ["torch", "lightning.pytorch", "torchmetrics", "scipy.stats", "transformers.models.llama.modeling_llama",
          "sq.cli", "sq.core.entry", "sq.train.fit", "sq.synth.stage", "sq.eval.run", "sq.engine.hf", "sq.recipe.run",
          "sq.report.page"]  # fmt: skip
VLLM = ["vllm.entrypoints.llm", "vllm.v1.worker.cpu_worker", "vllm.model_executor.models.llama", "sq.engine.vllm"]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(NEEDED)


def preload_vllm() -> None:
    """Import what a start of vLLM imports, 12 of its 14 s of CPU, in the process of the forks: before the first one."""
    from sq.engine.vllm import VLLMConfig

    VLLMConfig().prepare()
    _server.set_forkserver_preload([*VLLM, "sq.cli", "sq.core.entry", "sq.synth.stage"])


class ForkedCommand:
    """`python SCRIPT WORDS`, started; as `subprocess.Popen` has it, with what it writes in files."""

    def __init__(
        self,
        script: str | Path,
        words: Sequence[str],
        cwd: str | Path | None = None,
        env: Environment = os.environ,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._written = [Path(self._scratch.name, name) for name in ("stdout", "stderr")]
        given = (str(ROOT / script), [str(word) for word in words], str(cwd or ROOT), dict(env), self._written)
        self._process = _server.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self) -> ForkedCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; none while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code; none where it has not ended in that many seconds."""
        self._process.join(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As Ctrl-C, `kill` and `kill -9` do."""
        if self.returncode is None:
            os.kill(self.pid, number)

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._written[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written to stderr."""
        return self._written[1].read_text(errors="replace")


class ForkedRank:
    """A further process of a training, in the place of what `sq.train.launch` starts; it ends with this process."""

    def __init__(self, plan: Path, environment: Environment, number: int) -> None:
        pipe, log = plan.parent / f"rank-{number}.pipe", plan.parent / f"rank-{number}.log"
        os.mkfifo(pipe)
        env = {**os.environ, **environment, "LOCAL_RANK": str(number)}
        given = (str(ROOT / "sq" / "train" / "rank.py"), [str(plan)], str(Path.cwd()), env, [log, log], pipe)
        self._process = _server.Process(target=_run, args=given)
        self._process.start()
        self._alive = os.open(pipe, os.O_WRONLY)
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self._process.join()
        os.close(self._alive)
        self._ended.set()

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("rank", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()


def run(
    script: str | Path, words: Sequence[str], cwd: str | Path | None = None, env: Environment = os.environ
) -> ForkedCommand:
    """The same command, once it has ended."""
    command = ForkedCommand(script, words, cwd, env)
    command.wait()
    return command


def _run(
    script: str, words: list[str], cwd: str, env: dict[str, str], written: list[Path], stdin: Path | None = None
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if stdin is not None:
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
    for stream, path in enumerate(written, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [script, *words]
    sys.path[:0] = [str(Path(script).parent), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
