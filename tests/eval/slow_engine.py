"""An evaluation by a slow engine that speaks the protocol, in a process that can be killed: see test_run.py.

python slow_engine.py MODEL PROBLEMS OUTPUT_DIR SECONDS [key=value ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.errors import SqError
from sq.engine.base import Completion, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.eval.config import EvalJob
from sq.models.load import ModelConfig


@dataclass(frozen=True, kw_only=True)
class SlowConfig(EngineConfig):
    """Answers `\\boxed{N}` where N is what the seed says, in the reverse order within windows of four."""

    seconds: ClassVar[float] = 0.0  # neither decides what is answered
    log: ClassVar[str] = ""
    down: ClassVar[frozenset[int]] = frozenset()  # seeds, modulo 10, of requests that fail
    failing: bool = False

    def create(self, model: ModelConfig) -> SlowEngine:
        """Start it, and write down that it was."""
        note(self.log, {"started": model.name})
        return SlowEngine(self)


class SlowEngine:
    """Implements `sq.engine.base.Engine`."""

    def __init__(self, config: SlowConfig) -> None:
        self.config = config
        self.fingerprint = "slow"

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Answer in windows, last first."""
        window: list[Request] = []
        for request in requests:
            window.append(request)
            if len(window) == 4:
                yield from self._answers(window)
                window = []
        yield from self._answers(window)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """The longer the better."""
        for request in requests:
            if 10 in self.config.down:
                yield ScoreResult(key=request.key, error="HTTP 500: out of order")
                continue
            yield ScoreResult(key=request.key, score=float(len(request.messages[-1]["content"])))

    def close(self) -> None:
        """Nothing to free."""

    def _answers(self, window: list[Request]) -> Iterator[Result]:
        for request in reversed(window):
            time.sleep(self.config.seconds)
            note(self.config.log, {"key": request.key, "messages": request.messages, "ids": request.prompt_ids})
            if self.config.failing and request.seed % 3 == 0:
                yield Result(key=request.key, error="the prompt is too long", refused=True)
                continue
            if request.seed % 10 in self.config.down:
                yield Result(key=request.key, error="HTTP 500: out of order")
                continue
            texts = [f"I think it is \\boxed{{{(request.seed + i) % 5}}}." for i in range(request.sampling.n)]
            said = tuple(Completion(text=t, finish_reason="stop", tokens=9) for t in texts)
            yield Result(key=request.key, completions=said, prompt_tokens=7)


def note(log: str, what: dict[str, object]) -> None:
    """A line in the log, if there is one."""
    if log:
        with Path(log).open("a") as file:
            file.write(json.dumps(what) + "\n")


def job(
    model: str, output: str, *overrides: str, log: str = "", seconds: float = 0.0, failing: bool = False
) -> EvalJob:
    """An evaluation with this engine."""
    SlowConfig.log, SlowConfig.seconds = log, seconds
    base = ["format=bare", f"model.path={model}", "tracking=none", f"output_dir={output}", "++grader.workers=1"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", overrides=[*base, *overrides])
    return replace(build(config, EvalJob), engine=SlowConfig(failing=failing))


if __name__ == "__main__":
    _, model, problems, output, seconds, *overrides = sys.argv
    own = [f"++benchmark.gsm8k.path={problems}", "benchmark=[gsm8k]", *overrides]
    try:
        print(json.dumps(job(model, output, *own, seconds=float(seconds), log=f"{output}.log").run()))
    except SqError as error:
        sys.exit(f"error: {error}")
