"""A recipe from where it stands to its end: what is done is passed over, the rest runs, each stage as its own process.

Kill it anywhere and run the same command again. Every stage is a ledger, or a training that continues from its last
checkpoint, so at most what was in flight is done twice; `recipe.json` says which stages are done.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sq.core.count import clock, count_noun
from sq.core.errors import ConfigError, LedgerError, SqError, UnfinishedError
from sq.core.files import DirectoryLock, plain_errors
from sq.recipe.completed_stages import completed_stages, remove
from sq.recipe.devices import Devices
from sq.recipe.graph import closure, matching
from sq.recipe.jobs import check
from sq.recipe.load import Recipe
from sq.recipe.plan import learn, renew_plan
from sq.recipe.process import StageProcess, end_left_behind, stop
from sq.recipe.progress import ProgressDisplay, stage_summary
from sq.recipe.record import RecipeRecord, Status, busy_seconds, now, output_digest, updated_record
from sq.recipe.rounds import pass_over
from sq.recipe.stages import Stage
from sq.recipe.status import progress_of, seconds_left
from sq.recipe.tracking import parent_run, tracking_overrides

LOG_LINES = 20
"""Lines of a failed stage's log that are printed."""
MOST_NAMES = 12
"""Stages that are named when --until or --only has chosen more."""
RESTARTS = 2
"""Times that a stage is started again where some of its requests failed, before the recipe stops."""
_POLL = 0.03


class StageFailed(SqError):
    """A stage ended with an error; the message has the end of its log and the command that continues."""


@dataclass(kw_only=True)
class RecipeResult:
    """What a run of a recipe came to."""

    record: RecipeRecord
    ran: list[str] = field(default_factory=list)
    complete: bool = False
    """Whether every stage of the recipe is done, not only those asked for."""


def selected(recipe: Recipe, until: str | None = None, only: str | None = None) -> list[Stage]:
    """The stages that are asked for, in their order."""
    if until and only:
        raise ConfigError("--until and --only are both given; give one of them")
    templates = {stage.name: stage.template for stage in recipe.stages}
    wanted = set(templates)
    if until:
        wanted = closure(recipe.reading, [n for p in until.split(",") for n in matching(p, templates, "--until")])
    if only:
        wanted = {n for p in only.split(",") for n in matching(p, templates, "--only")}
    return [stage for stage in recipe.stages if stage.name in wanted]


def format_selection(recipe: Recipe, stages: Sequence[Stage], patterns: str) -> str:
    """The stages that --until or --only chose, and those that have a like name and are not among them."""
    chosen = [stage.name for stage in stages]
    text = f"stages: {', '.join(chosen[:MOST_NAMES])}"
    if len(chosen) > MOST_NAMES:
        text += f" and {len(chosen) - MOST_NAMES} more"
    left = [
        stage.name
        for stage in recipe.stages
        if stage.name not in chosen and stage.name.startswith(tuple(f"{p}-" for p in patterns.split(",")))
    ]
    return f"{text}; not {', '.join(left)} ('{patterns}*' means those too)" if left else text


def run_recipe(
    recipe: Recipe, stages: Sequence[Stage], *, command: str, redo: bool = False, display: ProgressDisplay | None = None
) -> RecipeResult:
    """Bring these stages to their end.

    Args:
        recipe: with all its stages.
        stages: those to run, in their order.
        command: what a person types to continue.
        redo: remove stages that were made with other settings or from another input, and make them again.
        display: where a person looks.

    Raises:
        ConfigError: before anything runs, where a command is wrong or a stage was made with other settings.
        StageFailed: where a stage ends with an error; what runs beside it is stopped.
        LedgerError: where another process is at work in the directory.
    """
    devices = Devices(recipe.config.parallel, recipe.config.profile)
    logs = recipe.output_dir / "logs"
    jobs = {} if logs.exists() else check(stages, recipe.config.profile)  # a mistake leaves nothing behind
    with plain_errors(logs, "make it"):
        logs.mkdir(parents=True, exist_ok=True)
    try:
        lock = DirectoryLock(logs)
    except LedgerError as error:
        why = str(error).partition(": ")[2]
        raise LedgerError(f"{recipe.output_dir}: another `sq run` is at work here: {why}") from error
    try:
        record = updated_record(recipe, command)
        return _Run(recipe, record, display or ProgressDisplay(), devices, redo).run(stages, jobs)
    finally:
        lock.release()


class _Run:
    """One run of some stages. Everything happens in this thread: a stage is to die with the thread that started it."""

    def __init__(
        self, recipe: Recipe, record: RecipeRecord, display: ProgressDisplay, devices: Devices, redo: bool
    ) -> None:
        self.recipe, self.record, self.display, self.devices, self.redo = recipe, record, display, devices, redo
        self.result = RecipeResult(record=record)
        self.finished: set[str] = set()
        self.running: dict[str, StageProcess] = {}
        self.number: dict[str, int] = {}
        self.jobs: Mapping[str, Any] = {}
        self.restarts: Counter[str] = Counter()
        self.started: float | None = None
        self.seconds_before = record.seconds
        self.environment: dict[str, str] = {}

    def run(self, stages: Sequence[Stage], jobs: Mapping[str, Any]) -> RecipeResult:
        """Run what is not done; `jobs` are those of stages that were checked already."""
        self.number = {stage.name: i for i, stage in enumerate(stages, 1)}
        self.record.chosen = [*self.number] if len(stages) < len(self.recipe.stages) else []
        for each in self.record.stages:
            if each.process:
                end_left_behind(each.process)
                each.process, each.status = "", Status.WAITING if each.status == Status.RUNNING else each.status
        self.finished = completed_stages(self.recipe, self.record, stages, redo=self.redo)
        waiting = [stage for stage in stages if stage.name not in self.finished]
        self._pass_over(waiting)
        if waiting:
            self._require_inputs(waiting)
            self.jobs = jobs or check(waiting, self.recipe.config.profile)
            self._open(len(stages), sum(stage.name in self.finished for stage in stages))
            with parent_run(self.recipe, self.record) as self.environment, _signals_stop():
                self._run_stages(waiting)
        self.result.complete = all(each.status in (Status.DONE, Status.PASSED_OVER) for each in self.record.stages)
        self._write_status(Status.DONE if self.result.complete else Status.STOPPED)
        return self.result

    def _require_inputs(self, waiting: Sequence[Stage]) -> None:
        """With --only: what the stages read must be there."""
        there = self.finished | {stage.name for stage in waiting}
        for stage in waiting:
            if missing := [name for name in stage.reads if name not in there]:
                raise ConfigError(
                    f"stage {stage.name} reads {', '.join(missing)}, which is not done. "
                    f"Run it first: --until {missing[0]}"
                )

    def _open(self, count: int, done: int) -> None:
        self.started, recipe = time.monotonic(), self.recipe
        engine = f"engine {recipe.engine}"
        if recipe.config.engine == "auto":
            engine += " (it is installed)" if recipe.engine == "vllm" else " (vLLM is not installed here)"
        self.display.print_line(f"{recipe.name}: {recipe.title}")
        self.display.print_line(
            f"{count_noun(count, 'stage')}{f', {done} of them done already' if done else ''} -> {recipe.output_dir}; "
            f"{engine}; {self.devices.description}"
        )
        renew_plan(recipe, self.finished)  # a forecast is made before anything is measured
        self.record.status, self.record.finished = Status.RUNNING, None
        self.record.write()

    def _run_stages(self, waiting: list[Stage]) -> None:
        try:
            while waiting or self.running:
                for stage in list(waiting):
                    if self._can_start(stage):
                        waiting.remove(stage)
                        self._start(stage)
                for process in [p for p in self.running.values() if p.poll() is not None]:
                    if self._is_to_restart(process):
                        waiting.insert(0, process.stage)
                    else:
                        self._end(process)
                        self._pass_over(waiting)
                if self.display.is_due():
                    self.display.draw([*map(self._live_line, self.running.values()), *self._time_left()])
                time.sleep(_POLL)
        except BaseException:
            self._halt()
            raise
        finally:
            self.display.clear()

    def _pass_over(self, waiting: list[Stage]) -> None:
        for name, why in pass_over(self.recipe, self.record, waiting, self.finished).items():
            self.display.print_line(f"{self._label(name)} {why}")

    def _can_start(self, stage: Stage) -> bool:
        """Whether what it reads is there, and a place and devices are free, which it then has."""
        if len(self.running) >= self.recipe.config.parallel or not set(stage.reads) <= self.finished:
            return False
        return self.devices.take(stage.name, self.jobs[stage.name])

    def _start(self, stage: Stage) -> None:
        own = self.record.stage(stage.name)
        inputs = self.record.input_digests(stage)
        if own.input_digests and own.input_digests != inputs and Path(own.output_dir).is_dir():
            if not self.redo:
                others = ", ".join(name for name in inputs if own.input_digests.get(name) != inputs[name])
                raise ConfigError(
                    f"stage {stage.name} was made from another {others}. Give another output_dir=, or --redo to make "
                    "it again"
                )
            remove(own)
        environment = {**self.environment, **self.devices.environment(stage.name)}
        process = StageProcess(stage, tracking_overrides(self.recipe, stage), environment, Path(own.log))
        self.running[stage.name] = process
        own.status, own.process, own.input_digests = Status.RUNNING, process.name, inputs
        own.attempts += 1
        self.record.write()
        if not self.display.is_live:
            self.display.print_line(f"{self._label(stage.name)} started")

    def _is_to_restart(self, process: StageProcess) -> bool:
        """Whether it ended because a few requests failed, and is to ask for those again."""
        name = process.stage.name
        if process.code != UnfinishedError.exit_code or self.restarts[name] == RESTARTS:
            return False
        self.restarts[name] += 1
        self._leave(process)
        self.record.stage(name).status = Status.WAITING
        self._write_status(Status.RUNNING)
        self.display.print_line(f"{self._label(name)} has requests that failed; they are asked again")
        return True

    def _end(self, process: StageProcess) -> None:
        name = process.stage.name
        own = self.record.stage(name)
        self._leave(process)
        own.output_digest = output_digest(own) or "" if process.code == 0 else ""
        if process.code or not own.output_digest:
            own.status = Status.FAILED
            own.last = (process.tail(1) or [""])[0][:500]
            self._write_status(Status.FAILED)
            raise StageFailed(self._failure(process))
        own.status, own.busy_seconds = Status.DONE, busy_seconds(own)
        own.last = stage_summary(own.script, Path(own.output_dir), process.tail(1))
        self.finished.add(name)
        self.result.ran.append(name)
        with suppress(
            OSError, ValueError, KeyError, SqError
        ):  # a plan of an earlier version: nothing is learnt from it
            learn(self.recipe, own)
        self._write_status(Status.RUNNING)
        self.display.print_line(f"{self._label(name)} {clock(own.seconds):>12}  {own.last}".rstrip())

    def _leave(self, process: StageProcess) -> None:
        """The process has ended: its time counts."""
        name = process.stage.name
        del self.running[name]
        own, gpus = self.record.stage(name), self.devices.give(name)
        own.process = ""
        if self.devices.gpus and not (own.seconds and own.gpu_seconds is None):
            own.gpu_seconds = round((own.gpu_seconds or 0.0) + gpus * process.seconds, 2)
        own.seconds = round(own.seconds + process.seconds, 2)
        own.cpu_seconds = round(own.cpu_seconds + process.cpu_seconds, 2)

    def _halt(self) -> None:
        """Stop what runs, so that the same command can continue it."""
        self.display.clear()
        processes = list(self.running.values())
        if processes:
            self.display.print_line(f"stopping {', '.join(self.running)} ...")
        try:
            stop(processes)
        finally:
            for process in processes:
                self.record.stage(process.stage.name).status = Status.WAITING
                self._leave(process)
            self._write_status(Status.FAILED if self.record.status == Status.FAILED else Status.STOPPED)

    def _write_status(self, status: str) -> None:
        self.record.status = status
        if self.started is not None:
            self.record.seconds = round(self.seconds_before + time.monotonic() - self.started, 2)
        if status == Status.DONE and (self.result.ran or self.record.finished is None):
            self.record.finished = now()
        self.record.write()

    def _failure(self, process: StageProcess) -> str:
        lines = "".join(f"  | {line}\n" for line in process.tail(LOG_LINES))
        return (
            f"stage {process.stage.name} failed {_how_it_ended(process.code)} after {clock(process.seconds)}. "
            f"The end of {process.log}:\n{lines}"
            f"What is done stays done. Once fixed, this continues:\n  {self.record.command}"
        )

    def _label(self, name: str) -> str:
        width, longest = len(str(len(self.number))), max(map(len, self.number))
        return f"[{self.number[name]:>{width}}/{len(self.number)}] {name:<{longest}}"

    def _time_left(self) -> list[str]:
        """A line on the whole recipe, by its plan and its own speed."""
        seconds = {name: process.seconds for name, process in self.running.items()}
        left = seconds_left(self.record, seconds)
        return [f"{self.recipe.name}: about {clock(left)} left"] if left else []

    def _live_line(self, process: StageProcess) -> str:
        snapshot = progress_of(self.record.stage(process.stage.name).output_dir)
        latest = str(snapshot or (process.tail(1) or ["starting"])[0])
        return f"{self._label(process.stage.name)} {clock(process.seconds):>12}  {latest}"


def _how_it_ended(code: int | None) -> str:
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
