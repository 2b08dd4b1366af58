"""`sq status DIR`: how far the stages in a directory are, read from another terminal; how long a recipe still takes.

What runs says so itself (`progress.json`); of the rest the ledgers' manifests and `recipe.json` tell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

from sq.core.count import clock, columns, count_noun, dollars, short
from sq.core.errors import ConfigError, LedgerError, SqError
from sq.core.files import locked_directories, read_json
from sq.core.ledger import read_manifest
from sq.core.manifest import NAME as MANIFEST
from sq.core.progress import NAME as PROGRESS
from sq.core.progress import Snapshot, read_progress
from sq.core.provenance import gpu_use, process_is_gone
from sq.recipe.bill import RECIPE, make_bill
from sq.recipe.plan import NAME as PLAN
from sq.recipe.record import TRAINED, RecipeRecord, StageRecord, Status, read_record
from sq.synth.stage_metrics import read_stage_metrics

JOURNAL = "metrics.jsonl"
"""What tracking writes, before a stage does."""
ENDED = {"FINISHED": "finished", "FAILED": "some jobs failed, ended", "KILLED": "stopped"}
"""How a sweep's run ended, in words."""
STEADY = 60.0
"""Seconds of work for which the forecast itself counts, so that one short stage makes no speed."""
SHORT = 160
"""Characters of a stage's closing line that are shown."""


def format_status(directory: str | Path) -> str:
    """How far everything in and below a directory is, with rejects and cost so far, and what the GPUs do.

    Raises:
        ConfigError: where no stage is.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ConfigError(f"there is no directory {directory}; give an output_dir, or one above several")
    lines = list(_of_recipe(directory) if (directory / RECIPE).is_file() else _of_stages(directory))
    if not lines:
        raise ConfigError(f"no stage is in or below {directory}; give an output_dir, or one above several")
    return "\n".join([*lines, *(f"GPU {line}" for line in gpu_use())])


def progress_of(directory: str | Path) -> Snapshot | None:
    """How far the stage that runs in a directory is; an evaluation's benchmarks have theirs below it."""
    paths = [Path(directory) / PROGRESS, *Path(directory).glob(f"*/*/{PROGRESS}")]
    shown = [snapshot for path in paths if (snapshot := read_progress(path.parent)) and snapshot.is_running]
    return shown[-1] if shown else None


def seconds_left(record: RecipeRecord, running: Mapping[str, float]) -> float | None:
    """About how long the chosen stages of a recipe still take: by its plan's forecast and its own stages so far.

    A stage's start and its work are timed apart: short stages that mostly start an engine say nothing of the speed.

    Args:
        record: what is done and how long it took.
        running: the stages that run, with the seconds that each has run.

    Returns:
        None where the recipe has no forecast.
    """
    forecast: dict[str, tuple[float, float, int]] = {}
    for line in read_json(Path(record.output_dir) / PLAN).get("stages") or []:
        start, work, _ = forecast.get(line["stage"], (0.0, 0.0, 1))
        own = line.get("start", 0.0)
        forecast[line["stage"]] = start + own, work + line["seconds"] - own, line.get("gpus", 1)
    timed = {name for name, (start, work, _) in forecast.items() if start + work}
    done = [stage for stage in record.stages if stage.status == Status.DONE and stage.name in timed]
    worked = {stage.name: stage.busy_seconds / forecast[stage.name][2] for stage in done if stage.busy_seconds}
    starts: dict[bool, list[float]] = {False: [], True: []}
    for stage in done:
        if stage.name in worked:
            own = max(0.0, stage.seconds - worked[stage.name]) / max(1, stage.attempts)
            starts[stage.script == "train"].append(own)

    def start_of(stage: StageRecord) -> float:
        expected, measured = forecast[stage.name][0], starts[stage.script == "train"]
        return median(measured) if expected and measured else expected

    took = sum(worked.get(stage.name, max(0.0, stage.seconds - start_of(stage))) for stage in done)
    speed = (took + STEADY) / (sum(forecast[stage.name][1] for stage in done) + STEADY)
    left = 0.0
    for stage in record.chosen_stages:
        if stage.status == Status.DONE:
            continue
        snapshot = progress_of(stage.output_dir) if stage.name in running else None
        if snapshot is not None and snapshot.seconds_left is not None:
            left += snapshot.seconds_left
        elif stage.name in forecast:
            expected = start_of(stage) + speed * forecast[stage.name][1]
            left += max(0.0, expected - running.get(stage.name, 0.0))
    return left / record.parallel if forecast else None


def _of_recipe(directory: Path) -> Iterator[str]:
    record = read_record(directory)
    if record is None:
        return
    for stage in record.stages:  # told from where the recipe was started; one may ask from elsewhere
        stage.output_dir = str(directory / Path(os.path.relpath(stage.output_dir, record.output_dir)))
    record.output_dir = str(directory)
    chosen = record.chosen_stages
    done, total = sum(stage.status == Status.DONE for stage in chosen), len(chosen)
    stages = (
        f"{count_noun(total, 'chosen stage')} ({len(record.stages)} in all)"
        if record.chosen
        else count_noun(total, "stage")
    )
    at_work = [stage for stage in record.stages if stage.process and not process_is_gone(stage.process)]
    snapshots = {stage.name: p for stage in at_work if (p := progress_of(stage.output_dir))}
    state: str = Status.STOPPED if record.status == Status.RUNNING and not at_work else record.status
    state = "ended" if state == Status.STOPPED and done == total else state
    left = seconds_left(record, {name: snapshot.seconds for name, snapshot in snapshots.items()})
    ahead = f", about {clock(left)} left" if left and done < total else ""
    yield f"{record.recipe}: {state}, {done} of {stages} done{ahead}"
    rows = [["stage", "status", "took", "rows"]]
    for stage in record.stages:
        text = str(snapshots[stage.name]) if stage.name in snapshots else stage.last[:SHORT]
        status = stage.status if stage in chosen or stage.status != Status.WAITING else "not chosen"
        rows.append([stage.name, status, clock(stage.seconds) if stage.seconds else "-", text])
    yield from columns(rows, left=4)
    with suppress(SqError):
        total = make_bill(directory)["total"]
        tokens = f"{short(total['tokens_in'])} tokens in, {short(total['tokens_out'])} out"
        yield f"so far, of what has ended: {dollars(total['price'])}, {tokens}"


def _of_stages(directory: Path) -> Iterator[str]:
    """A line for each sweep, each ledger and each training in and below a directory."""
    locked = set(locked_directories(directory))
    begun = {path.parent for name in (PROGRESS, MANIFEST, TRAINED) for path in directory.rglob(name)}
    starting = {path for path in locked - begun if {file.name for file in path.iterdir()} <= {JOURNAL}}
    sweeps = {path.parent: line for path in directory.rglob(JOURNAL) if (line := _of_sweep(path, begun | starting))}
    for place in sorted({*begun, *starting, *sweeps}):
        name = str(place.relative_to(directory)) if place != directory else str(directory)
        if place in sweeps:
            yield sweeps[place] if place == directory else f"{name}: {sweeps[place]}"
        if place not in begun | starting:
            continue
        snapshot = read_progress(place)
        if snapshot is not None and snapshot.is_running:
            yield f"{name}: {snapshot.stage} at work, {snapshot}"
        elif trained := read_json(place / TRAINED):
            state = "trained" if "figures" in trained else "starting" if place in locked else "stopped"
            yield f"{name}: {state}{f', {snapshot}' if snapshot else ''}"
        elif place in starting:
            yield f"{name}: starting"
        else:
            with suppress(LedgerError):  # another program's manifest
                manifest = read_manifest(place)
                state = "starting" if place in locked else f"stopped{f' at {snapshot}' if snapshot else ''}"
                state = "finished" if manifest.finished else state
                reasons = ", ".join(f"{n:,} {reason}" for reason, n in manifest.reasons.items())
                yield (
                    f"{name}: {state}, {count_noun(manifest.items, 'item')} in -> {count_noun(manifest.rows, 'row')}, "
                    f"{count_noun(manifest.rejects, 'reject')}{f' ({reasons})' if reasons else ''}"
                )
        usage = read_stage_metrics(place).get("usage") or {}
        read, written = usage.get("usage/prompt_tokens", 0), usage.get("usage/output_tokens", 0)
        if read or written:
            yield f"  {short(read)} tokens in, {short(written)} out"


def _of_sweep(journal: Path, begun: Collection[Path]) -> str:
    """Which job of how many a sweep is at, or how it ended, where this is its record; else nothing."""
    from sq.core.entry import of_jobs

    with suppress(OSError, ValueError, KeyError, TypeError):
        with journal.open() as file:
            if json.loads(file.readline())["name"] != "sweep":
                return ""
            params, *records = [json.loads(line) for line in file]
        below = [path.relative_to(journal.parent) for path in begun if path.is_relative_to(journal.parent)]
        number = len({path.parts[0] for path in below if path.parts})
        last = [{}, *(record for record in records if record["op"] in ("open", "end"))][-1]
        jobs = f"job {number or 1}{of_jobs(params['params']['overrides'])}"
        if last.get("op") == "end":
            return f"sweep: {ENDED.get(last['status'], last['status'].lower())} at {jobs}"
        return f"sweep: {'' if number else 'starting, '}{jobs}"
    return ""
