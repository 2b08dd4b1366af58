"""A recipe from where it stands to its end: what is done is passed over, the rest runs, each stage as its own process.

Kill it anywhere and run the same command again. Every stage is a ledger, or a training that continues from its last
checkpoint, so at most what was in flight is done twice; `recipe.json` says which stages are done.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sq.core.errors import ConfigError, LedgerError, SqError, UnfinishedError
from sq.core.files import DirectoryLock, plain_errors
from sq.recipe.carry_over import carry_over_record
from sq.recipe.check import check
from sq.recipe.completed_stages import completed_stages, remove
from sq.recipe.devices import Devices
from sq.recipe.expand import Stage
from sq.recipe.graph import closure, named
from sq.recipe.load import Recipe
from sq.recipe.plan import NAME as PLAN
from sq.recipe.plan import write_plan
from sq.recipe.process import StageProcess, end_left_behind, stop
from sq.recipe.progress import ProgressDisplay, clock
from sq.recipe.record import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    RecipeRecord,
    now,
    output_digest,
    run_of,
)  # fmt: skip
from sq.recipe.summary import stage_summary
from sq.recipe.tracked import parent_run, tracking_overrides

LOG_LINES = 20
"""Lines of a failed stage's log that are shown."""
AGAIN = 2
"""Times that a stage is started again where some of its requests failed, before the recipe stops."""
_POLL = 0.03


class StageFailed(SqError):
    """A stage ended with an error; the message has the end of its log and the command that continues."""


@dataclass(kw_only=True)
class RecipeResult:
    """What a run of a recipe came to."""

    record: RecipeRecord
    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    complete: bool = False
    """Whether every stage of the recipe is done, not only those asked for."""


def selected(recipe: Recipe, until: str | None = None, only: str | None = None) -> list[Stage]:
    """The stages that are asked for, in their order.

    Raises:
        ConfigError: for names that no stage has.
    """
    if until and only:
        raise ConfigError("--until and --only are both given; give one of them")
    bases = {stage.name: stage.base for stage in recipe.stages}
    reading = {stage.name: stage.reads for stage in recipe.stages}
    wanted = set(bases)
    if until:
        wanted = closure(reading, [n for p in until.split(",") for n in named(p, bases, "--until")])
    if only:
        wanted = {n for p in only.split(",") for n in named(p, bases, "--only")}
    return [stage for stage in recipe.stages if stage.name in wanted]


def run_recipe(
    recipe: Recipe, stages: Sequence[Stage], *, command: str, redo: bool = False, screen: ProgressDisplay | None = None
) -> RecipeResult:
    """Bring these stages to their end.

    Args:
        recipe: with all its stages.
        stages: those to run, in their order.
        command: what a person types to continue.
        redo: remove stages that were made with other settings or from another input, and make them again.
        screen: where a person looks.

    Raises:
        ConfigError: before anything runs, where a command is wrong or a stage was made with other settings.
        StageFailed: where a stage ends with an error; what runs beside it is stopped.
        LedgerError: where another process is at work in the directory.
    """
    logs = recipe.output_dir / "logs"
    jobs = {} if logs.exists() else check(stages)  # a mistake leaves nothing behind
    with plain_errors(logs, "make it"):
        logs.mkdir(parents=True, exist_ok=True)
    try:
        lock = DirectoryLock(logs)
    except LedgerError as error:
        why = str(error).partition(": ")[2]
        raise LedgerError(f"{recipe.output_dir}: another `sq run` is at work here: {why}") from error
    try:
        return _Run(recipe, carry_over_record(recipe, command), screen or ProgressDisplay(), redo).bring(stages, jobs)
    finally:
        lock.release()


class _Run:
    """One run of some stages. Everything happens in this thread: a stage is to die with the thread that started it."""

    def __init__(self, recipe: Recipe, record: RecipeRecord, screen: ProgressDisplay, redo: bool) -> None:
        self.recipe, self.record, self.screen, self.redo = recipe, record, screen, redo
        self.outcome = RecipeResult(record=record)
        self.finished: set[str] = set()
        self.running: dict[str, StageProcess] = {}
        self.number = {stage.name: i for i, stage in enumerate(recipe.stages, 1)}
        self.devices = Devices(recipe.config.parallel)
        self.jobs: Mapping[str, Any] = {}
        self.unfinished: Counter[str] = Counter()
        self.began: float | None = None
        self.before = record.seconds
        self.environment: dict[str, str] = {}

    def bring(self, stages: Sequence[Stage], jobs: Mapping[str, Any]) -> RecipeResult:
        """Run what is not done; `jobs` are those of stages that were checked already."""
        for each in self.record.stages:
            if each.process:
                end_left_behind(each.process)
                each.process, each.status = "", WAITING if each.status == RUNNING else each.status
        self.finished = completed_stages(self.recipe, self.record, stages, redo=self.redo)
        todo = [stage for stage in stages if stage.name not in self.finished]
        self.outcome.skipped = [stage.name for stage in stages if stage.name in self.finished]
        if todo:
            self._require(todo)
            self.jobs = jobs or check(todo)
            self._begin(len(todo))
            with parent_run(self.recipe, self.record) as self.environment, _signals_stop():
                self._all(todo)
        self.outcome.complete = all(each.status == DONE for each in self.record.stages)
        self._close(DONE if self.outcome.complete else STOPPED)
        return self.outcome

    def _require(self, todo: Sequence[Stage]) -> None:
        """With --only: what the stages read must be there."""
        wanted = {stage.name for stage in todo}
        for stage in todo:
            if missing := [name for name in stage.reads if name not in self.finished | wanted]:
                raise ConfigError(
                    f"stage {stage.name} reads {', '.join(missing)}, which is not done. "
                    f"Run it first: --until {missing[0]}"
                )

    def _begin(self, count: int) -> None:
        self.began = time.monotonic()
        done = f", {len(self.outcome.skipped)} of them done already" if self.outcome.skipped else ""
        self.screen.say(f"{self.recipe.name}: {self.recipe.title}")
        self.screen.say(f"{count + len(self.outcome.skipped)} stages{done} -> {self.recipe.output_dir}; "
                        f"{self._engine()}; {self.devices.told}")  # fmt: skip
        if not self.outcome.skipped or not (self.recipe.output_dir / PLAN).exists():
            write_plan(self.recipe, self.recipe.output_dir)  # a forecast is made before anything is known
        self.record.status, self.record.finished = RUNNING, None
        self.record.write()

    def _engine(self) -> str:
        if self.recipe.config.engine != "auto":
            return f"engine {self.recipe.engine}"
        why = "it is installed" if self.recipe.engine == "vllm" else "vLLM is not installed here"
        return f"engine {self.recipe.engine} ({why})"

    def _all(self, todo: Sequence[Stage]) -> None:
        waiting = list(todo)
        try:
            while waiting or self.running:
                for stage in self._startable(waiting):
                    waiting.remove(stage)
                    self._start(stage)
                for process in [p for p in self.running.values() if p.poll() is not None]:
                    if self._is_unfinished(process):
                        waiting.insert(0, process.stage)
                    else:
                        self._end(process)
                if self.screen.due():
                    self.screen.draw(self._live())
                time.sleep(_POLL)
        except BaseException:
            self._halt()
            raise
        finally:
            self.screen.clear()

    def _startable(self, waiting: Sequence[Stage]) -> Iterator[Stage]:
        for stage in list(waiting):
            if len(self.running) >= self.recipe.config.parallel:
                return
            if set(stage.reads) <= self.finished and self.devices.take(stage.name, self.jobs[stage.name]):
                yield stage

    def _start(self, stage: Stage) -> None:
        each = self.record.stage(stage.name)
        read = {name: self.record.stage(name).made for name in stage.reads}
        if each.read and each.read != read and Path(each.output_dir).is_dir():
            if not self.redo:
                others = ", ".join(name for name in read if each.read.get(name) != read[name])
                raise ConfigError(
                    f"stage {stage.name} was made from another {others}. Give another output_dir=, or --redo to make "
                    "it again"
                )
            remove(each)
        environment = {**self.environment, **self.devices.environment(stage.name)}
        process = StageProcess(stage, tracking_overrides(self.recipe, stage), environment, Path(each.log))
        self.running[stage.name] = process
        each.status, each.process, each.read = RUNNING, process.name, read
        each.attempts += 1
        self.record.write()
        if not self.screen.is_live:
            self.screen.say(f"{self._place(stage.name)} started")

    def _is_unfinished(self, process: StageProcess) -> bool:
        """Whether it ended because a few requests failed, and is to ask for those again."""
        name = process.stage.name
        if process.code != UnfinishedError.exit_code or self.unfinished[name] == AGAIN:
            return False
        self.unfinished[name] += 1
        self._leave(process)
        self.record.stage(name).status = WAITING
        self._close(RUNNING)
        self.screen.say(f"{self._place(name)} has requests that failed; they are asked again")
        return True

    def _end(self, process: StageProcess) -> None:
        name = process.stage.name
        each = self.record.stage(name)
        self._leave(process)
        each.made = output_digest(each) or "" if process.code == 0 else ""
        if process.code or not each.made:
            each.status = FAILED
            each.last = (process.tail(1) or [""])[0][:500]
            self._close(FAILED)
            raise StageFailed(self._failure(process))
        each.status, each.run_id = DONE, run_of(each)
        each.last = stage_summary(each.script, Path(each.output_dir), process.tail(1))
        self.finished.add(name)
        self.outcome.ran.append(name)
        self._close(RUNNING)
        self.screen.say(f"{self._place(name)} {clock(each.seconds):>12}  {each.last}".rstrip())

    def _leave(self, process: StageProcess) -> None:
        """The process has ended: its time counts."""
        name = process.stage.name
        del self.running[name]
        self.devices.give(name)
        each = self.record.stage(name)
        each.process = ""
        each.seconds = round(each.seconds + process.seconds, 2)
        each.cpu_seconds = round(each.cpu_seconds + process.cpu_seconds, 2)

    def _halt(self) -> None:
        """Stop what runs, so that the same command can continue it."""
        self.screen.clear()
        processes = list(self.running.values())
        if processes:
            self.screen.say(f"stopping {', '.join(self.running)} ...")
        try:
            stop(processes)
        finally:
            for process in processes:
                self.record.stage(process.stage.name).status = WAITING
                self._leave(process)
            self._close(self.record.status if self.record.status == FAILED else STOPPED)

    def _close(self, status: str) -> None:
        """Write what is known now."""
        self.record.status = status
        if self.began is not None:
            self.record.seconds = round(self.before + time.monotonic() - self.began, 2)
        if status == DONE and (self.outcome.ran or self.record.finished is None):
            self.record.finished = now()
        self.record.write()

    def _failure(self, process: StageProcess) -> str:
        lines = "".join(f"  | {line}\n" for line in process.tail(LOG_LINES))
        return (
            f"stage {process.stage.name} failed {_how(process.code)} after {clock(process.seconds)}. "
            f"The end of {process.log}:\n{lines}"
            f"What is done stays done. Once fixed, this continues:\n  {self.record.command}"
        )

    def _place(self, name: str) -> str:
        width = len(str(len(self.recipe.stages)))
        longest = max(len(stage.name) for stage in self.recipe.stages)
        return f"[{self.number[name]:>{width}}/{len(self.recipe.stages)}] {name:<{longest}}"

    def _live(self) -> list[str]:
        lines = []
        for name, process in self.running.items():
            latest = (process.tail(1) or ["starting"])[0]
            lines.append(f"{self._place(name)} {clock(process.seconds):>12}  {latest}")
        return lines


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"({name}{': killed, perhaps for want of memory' if name == 'SIGKILL' else ''})"
    return f"(exit code {code})" if code else "(it ended well, but its directory is not finished)"


@contextmanager
def _signals_stop() -> Iterator[None]:
    """SIGTERM and SIGHUP stop a recipe as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
