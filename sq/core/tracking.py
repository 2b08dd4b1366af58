"""Tracking with MLflow, the only module that imports it: SQLite by default, any server by `tracking.uri`.

A run is written down without ever holding up the work: calls on `Run` go to a journal on disk, one background thread
carries them to MLflow, and while MLflow is away (no server, a locked or unwritable database) they stay in the journal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sq.core.config import nearest, setting
from sq.core.errors import SqError
from sq.core.mlflow_store import PARENT, Mlflow, MlflowStore, sqlite_path
from sq.core.provenance import provenance, seeds
from sq.core.run import VALUE_LIMIT, DataRef, Run, shortened
from sq.core.secrets import redact, redact_tree, remember_named
from sq.core.spool import Journal, Record, Sender, log

__all__ = ["DataRef", "Run", "TrackingConfig", "multirun_parent", "read_runs", "send_spool", "track"]

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are tracked, and under which names."""

    enabled: bool = setting(True, help="false: nothing is tracked")
    uri: str = setting("sqlite:///outputs/mlflow.db", help="an SQLite file, a database, or a server's address")
    experiment: str = setting("scalequest", help="the MLflow experiment that the runs belong to")
    run_name: str | None = setting(None, help="the run's name in MLflow; default: the stage's")
    parent: str | None = setting(None, help="id of the run to nest under; default: $SQ_PARENT_RUN")
    tags: dict[str, str] = setting({}, help="tags of your own")
    spool: str = setting("outputs/tracking-spool", help="directory that keeps what MLflow has not yet taken")
    timeout: int = setting(10, ge=1, le=600, help="seconds that one request to a server may take")

    def __post_init__(self) -> None:
        scheme = re.split(r"[:+]", self.uri, maxsplit=1)[0]
        if scheme not in _SCHEMES or (scheme != "databricks" and "://" not in self.uri):
            raise ValueError(
                f"uri={redact(self.uri)!r} cannot be used: give sqlite:///path/to/mlflow.db, http://host:port, "
                "https://..., or a database as postgresql://..., mysql://..., mssql://..."
            )


@contextmanager
def track(
    config: TrackingConfig,
    *,
    stage: str,
    params: Mapping[str, Any],
    inputs: Iterable[DataRef] = (),
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    directory: str | Path | None = None,
    resume_run_id: str | None = None,
) -> Iterator[Run]:
    """Track the block as one run: FINISHED at its end, FAILED on an exception, KILLED on Ctrl-C or SIGTERM.

    Args:
        config: Where to; with `enabled=false` the run does nothing.
        stage: The kind of work, and the run's name unless the config gives one.
        params: The whole flat config.
        inputs: The datasets it reads; their runs are linked.
        parent: Id of the run to nest under; else the config's, else $SQ_PARENT_RUN.
        tags: Further tags.
        directory: The output directory, held by this process alone: runs in it whose process died become KILLED.
        resume_run_id: Continue this run instead of opening another.
    """
    remember_named({**params, "tracking.uri": config.uri})
    extra = {"sq.directory": str(Path(directory).absolute())} if directory else {}
    header = _header(config, stage, {**extra, **config.tags, **(tags or {})}, parent or config.parent)
    header["resume"] = resume_run_id
    run = _start(config, header)
    with _terminated_by_signal():
        try:
            run.params(params)
            if header["long"]:
                run.text("run.json", json.dumps(header["long"], indent=1, ensure_ascii=False))
            if found := seeds(params):
                run.tag("sq.seeds", found)
            for data in inputs:
                run.input(data)
            yield run
        except BaseException as error:
            run.end(_status(error), None if _status(error) == "FINISHED" else error)
            raise
    run.end("FINISHED")


def multirun_parent(
    config: TrackingConfig, sweep_dir: str | Path, *, name: str = "sweep", params: Mapping[str, Any] | None = None
) -> str | None:
    """The id of the one parent run of a sweep, found by its directory or made, also by jobs that start at once.

    The parent's status follows its children: RUNNING while one is, then FINISHED, or FAILED where the last run of a
    job failed. None where tracking is off.
    """
    if not _tracks(config):
        return None
    sweep, uri = Path(sweep_dir).absolute(), redact(_resolved(config.uri))
    note = sweep / ".mlflow-parent.json"
    with _locked(sweep):
        header = _header(config, name, {"sq.sweep": str(sweep), **config.tags}, config.parent)
        header["find"] = {"sq.sweep": str(sweep)}
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(note.read_text())
            header["resume"] = known["id"] if known["uri"] == uri else None
        run = _start(config, header)
        if params and header["resume"] is None:
            run.params(params)
        identity = run.id
        run.leave()
        with contextlib.suppress(OSError):
            note.write_text(json.dumps({"id": identity, "uri": uri}))
        return identity


def send_spool(path: str | Path, uri: str | None = None) -> int:
    """Send what an earlier run could not: a journal, or every journal in a directory. Returns the number of records.

    Raises:
        SqError: where a journal is in use or MLflow cannot be reached; everything unsent stays where it is.
    """
    path = Path(path)
    paths = sorted(_journals(path)) if path.is_dir() else [path]
    sent = 0
    for each in paths:
        journal = Journal.left_behind(each)
        if journal is None:
            raise SqError(f"{each} cannot be sent: it is missing, no journal of ours, or its run is still going on")
        target = uri or str(journal.header.get("uri"))
        store, waiting = _store(_resolved(target)), journal.pending
        reason = _send_left_behind(journal, store)
        if reason:
            raise SqError(f"{each} was not sent, {store.name} does not answer: {reason}. Another address: uri=...")
        sent += waiting
    return sent


def read_runs(uri: str, experiment: str, where: str = "") -> list[dict[str, Any]]:
    """Every run of an experiment, newest first: id, name, status, start, end, parent, params, metrics, tags.

    Args:
        uri: As in `TrackingConfig.uri`.
        experiment: The experiment's name.
        where: MLflow's filter, such as `tags.sq.stage = 'sft'`.
    """
    store = _store(_resolved(uri))
    try:
        client = store.mlflow.client
        found = client.get_experiment_by_name(experiment)
        runs = list(store.search(where, [found.experiment_id])) if found else []
    except Exception as error:
        raise SqError(f"{store.name} cannot be read: {redact(str(error)).splitlines()[0]}") from error
    if found is None:
        names = [e.name for e in client.search_experiments()]
        near = nearest(experiment, names) or "."
        raise SqError(f"{store.name} has no experiment {experiment!r}{near} It has: {', '.join(names) or 'none'}")
    return [
        {
            "id": r.info.run_id, "name": r.info.run_name, "status": r.info.status, "start": r.info.start_time,
            "end": r.info.end_time, "parent": r.data.tags.get(PARENT), "params": dict(r.data.params),
            "metrics": dict(r.data.metrics), "tags": dict(r.data.tags),
        }
        for r in runs
    ]  # fmt: skip


def _header(config: TrackingConfig, stage: str, tags: Mapping[str, str], parent: str | None) -> Record:
    """What opens a run, as the first line of its journal: free of secrets, complete enough to open it later."""
    facts = provenance() if _tracks(config) else {}
    plain = redact_tree({"sq.stage": stage, **facts, **tags})
    command = plain.get("command", "")
    plain |= {"mlflow.source.name": command, "mlflow.source.type": "LOCAL", "mlflow.user": plain.get("user", "")}
    plain |= {"mlflow.source.git.commit": facts["git.commit"]} if "git.commit" in facts else {}
    return {
        "op": "open",
        "id": uuid.uuid4().hex,
        "uri": redact(_resolved(config.uri)),
        "experiment": redact(config.experiment),
        "name": redact(config.run_name or stage),
        "tags": {k: shortened(str(v), VALUE_LIMIT, "run.json") for k, v in plain.items()},
        "long": {k: v for k, v in plain.items() if len(str(v)) > VALUE_LIMIT},
        "started": int(time.time() * 1000),
        "session": uuid.uuid4().hex,
        "parent": parent or os.environ.get("SQ_PARENT_RUN"),
        "resume": None,
        "find": None,
    }


def _start(config: TrackingConfig, header: Record) -> Run:
    """Open a run; where MLflow does not answer in time it gets an id of ours, under which it is found later."""
    header["id"] = header["resume"] or header["id"]
    if not _tracks(config):
        return Run(header["id"])
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', header['name'])[:40]}-{header['session'][:12]}.jsonl"
    journal = Journal.create(Path(config.spool).absolute() / name, header)
    store = _store(_resolved(config.uri), config.timeout)
    sender = Sender(journal, store, then=lambda: _send_others(config, journal.path))
    sender.start()

    def answer() -> str:
        sender.answered.wait(timeout=60 + 2 * config.timeout)  # an answer or a failure comes long before
        return store.run_id if sender.opened and not header["resume"] else ""

    return Run(header["id"], sender, answer)


def _tracks(config: TrackingConfig) -> bool:
    """One process of a distributed training tracks: the first."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
    return config.enabled and all(rank in ("", "0") for rank in ranks)


def _resolved(uri: str) -> str:
    """A relative SQLite path made absolute, so that a later change of directory does not matter."""
    path = sqlite_path(uri)
    return f"sqlite:///{path.expanduser().absolute()}" if path else uri


def _status(error: BaseException) -> str:
    """FINISHED, FAILED or KILLED: a signal may arrive as KeyboardInterrupt, or as an exit that follows from one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return "KILLED"
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, SystemExit):
        killed = error.code == 128 + signal.SIGTERM or type(error) is not SystemExit  # Lightning has its own
        return "KILLED" if killed else "FAILED" if error.code not in (None, 0) else "FINISHED"
    return "KILLED" if isinstance(error, GeneratorExit) else "FAILED"


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """SIGTERM ends the block as an exit, unless somebody already handles it or this is no main thread."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory (no file is left in it); where it cannot be made there is nothing to share."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _journals(directory: Path) -> list[Path]:
    return [p for p in directory.glob("*.jsonl") if not p.name.endswith(".refused.jsonl")]


def _send_others(config: TrackingConfig, own: Path) -> None:
    """Send what processes that died, or ended while MLflow was away, have left behind for the same address."""
    for path in _journals(own.parent):
        journal = None if path == own else Journal.left_behind(path)
        if journal is None:
            continue
        if journal.header.get("uri") != redact(_resolved(config.uri)):
            journal.close()
        elif not _send_left_behind(journal, _store(_resolved(config.uri), config.timeout)):
            log.info("tracking: sent what an earlier run had left in %s", path)


def _send_left_behind(journal: Journal, store: MlflowStore) -> str:
    """Deliver the journal of a process that is gone; the reason where that fails."""
    sender = Sender(journal, store, late=True)
    if sender.send():
        with contextlib.suppress(Exception):
            store.mark_killed()
    journal.close()
    return sender.reason


def _store(uri: str, timeout: int = 10) -> MlflowStore:
    return MlflowStore(uri, lambda uri: _connect(uri, timeout))


def _connect(uri: str, timeout: int) -> Mlflow:
    """Import MLflow (a second) and keep it quiet: no telemetry, no links on stdout, no word about migrations."""
    # We wait and try again ourselves, in the background; MLflow would do so for minutes, in the way.
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_CONFIGURE_LOGGING": "false", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }  # fmt: skip
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import mlflow.entities
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # Two processes that make the tables of one new SQLite file at once break each other's migrations.
    path = sqlite_path(uri)
    with _locked(path.parent) if path else contextlib.nullcontext():
        return Mlflow(MlflowClient(uri), mlflow.entities, MlflowException)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m sq.core.tracking JOURNAL_OR_DIRECTORY [URI]")
    try:
        print(f"{send_spool(*sys.argv[1:])} records sent")
    except SqError as problem:
        sys.exit(f"error: {problem}")
