"""The runs of an experiment as MLflow has them, and where the files of a directory say that they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sq.core.config import nearest
from sq.core.errors import ConfigError, SqError
from sq.core.secrets import redact
from sq.core.tracking_mlflow import connect, whole_uri


def experiment_of(directory: Path) -> tuple[str, str]:
    """The experiment that the runs in and below a directory were tracked in, and where, by their own files.

    Raises:
        ConfigError: where none was tracked.
    """
    for path in sorted(directory.rglob("metrics*.jsonl"), key=lambda path: len(path.parts)):
        with suppress(OSError, ValueError, KeyError):
            first = json.loads(path.open(encoding="utf-8").readline())
            return str(first["experiment"]), str(first["uri"])
    raise ConfigError(
        f"no run in or below {directory} was tracked; give a sweep's output_dir, or two evaluations to compare"
    )


def read_runs(uri: str, experiment: str, where: str = "") -> list[dict[str, Any]]:
    """Every run of an experiment, newest first: id, name, status, start, end, parent, params, metrics, tags.

    Args:
        uri: As in `TrackingConfig.uri`.
        experiment: The experiment's name.
        where: MLflow's filter, such as `tags.sq.stage = 'sft'`.
    """
    place = f"MLflow at {redact(whole_uri(uri))}"
    try:
        client = connect(whole_uri(uri))
        stored = client.get_experiment_by_name(experiment)
        names = [] if stored else [e.name for e in client.search_experiments()]
        runs = client.search_runs([stored.experiment_id], where, max_results=50_000) if stored else ()
    except Exception as error:
        raise SqError(f"{place} cannot be read: {redact(str(error)).splitlines()[0]}") from error
    if stored is None:
        near = nearest(experiment, names) or "."
        raise SqError(f"{place} has no experiment {experiment!r}{near} It has: {', '.join(names) or 'none'}")
    return [
        {
            "id": r.info.run_id, "name": r.info.run_name, "status": r.info.status, "start": r.info.start_time,
            "end": r.info.end_time, "parent": r.data.tags.get("mlflow.parentRunId"), "params": dict(r.data.params),
            "metrics": dict(r.data.metrics), "tags": dict(r.data.tags),
        }
        for r in runs
    ]  # fmt: skip


def latest_runs(runs: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The latest run of each directory, newest first as they come; how many others there are, by their end."""
    directories: set[str] = set()
    kept: list[dict[str, Any]] = []
    left: Counter[str] = Counter()
    for run in runs:
        directory = run["tags"].get("sq.directory", run["id"])
        if directory in directories:
            left["run again since"] += 1
        elif run["status"] == "FINISHED":
            kept.append(run)
        else:
            left[run["status"].lower()] += 1
        directories.add(directory)
    return kept, dict(left)


def value_of(run: Mapping[str, Any], key: str) -> str:
    """A setting of a run; of a resumed run the latest; tags are settings too."""
    values = [v for k, v in run["params"].items() if k == key or (k.startswith("resumed-") and k.endswith(f"/{key}"))]
    return str(values[-1] if values else run["tags"].get(key, "-"))
