"""Tracking with MLflow: SQLite by default, any server by `tracking.uri`.

A run is first of all a file, `metrics.jsonl` in the stage's directory. One thread carries it to MLflow and never holds
up the work (`tracking_mlflow.py`); what a run could not send, `sq track DIR` sends.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import posixpath
import re
import signal
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sq.core.config import setting
from sq.core.errors import SqError
from sq.core.files import digest_of
from sq.core.provenance import provenance
from sq.core.secrets import REDACTED, contains_secret, redact, redact_tree, remember_named
from sq.core.tracking_file import Record, RunFile
from sq.core.tracking_mlflow import Sender, as_text

log = logging.getLogger("sq.tracking")

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
    traces: int = setting(20, ge=0, le=100, help="items of each synthesis stage whose requests are logged as traces")
    timeout: int = setting(10, ge=1, le=600, help="seconds that one request to a server may take")

    def __post_init__(self) -> None:
        scheme = re.split(r"[:+]", self.uri, maxsplit=1)[0]
        if scheme not in _SCHEMES or (scheme != "databricks" and "://" not in self.uri):
            raise ValueError(
                f"uri={redact(self.uri)!r} cannot be used: give sqlite:///path/to/mlflow.db, http://host:port, "
                "https://..., or a database as postgresql://..., mysql://..., mssql://..."
            )


@dataclass(frozen=True, kw_only=True)
class DataRef:
    """A dataset that a run reads or writes: where it is, what is in it, and the run that made it."""

    name: str
    path: str = ""
    digest: str = ""
    rows: int | None = None
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model: its weights by their place and digest, never a copy."""

    name: str
    path: str
    digest: str
    stage: str = ""
    """That made it."""
    params: Mapping[str, Any] = field(default_factory=dict)
    exported: bool = False
    """Whether this run exported it."""


@dataclass(frozen=True, kw_only=True)
class RequestTrace:
    """One request to a model: when (milliseconds since 1970), how long, the prompt, the reply, tokens in and out."""

    started: int
    seconds: float
    prompt: str
    response: str
    tokens: Mapping[str, int] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class ItemTrace(RequestTrace):
    """All requests that a stage made for one of its items."""

    name: str
    item: str
    requests: tuple[RequestTrace, ...] = ()


class Run:
    """A run: calls that wait for no server, never raise, and hold no secret. Without a file they do nothing."""

    def __init__(self, id: str, file: RunFile | None = None, sender: Sender | None = None) -> None:
        self.id, self._file, self._sender = id, file, sender
        self._tables: dict[str, None] = {}
        self._problems: set[str] = set()
        self._step = 0

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers (floats, numpy or torch scalars, NaN and infinity too) at `step`."""
        points: Record = {}
        for name, value in values.items() if self._file else ():
            with self._safely(f"metric {name!r}"):
                number = float(value)
                points[redact(str(name))] = number if math.isfinite(number) else str(number)  # JSON has no NaN
        self._step = max(self._step, int(step or 0))
        if points:
            self._put("metrics", step=int(step or 0), time=int(time.time() * 1000), metrics=points)

    def tag(self, name: str, value: Any) -> None:
        """Set a tag."""
        self._put("tags", tags={name: value})

    def output(self, name: str, path: str | Path, digest: str = "", rows: int | None = None) -> None:
        """Log a dataset (or model) that this run made."""
        self._dataset("output", DataRef(name=name, path=str(path), digest=digest, rows=rows))

    def model(self, model: ModelRef, metrics: Mapping[str, float], data: DataRef) -> None:
        """Log what was measured of a model on `data` at the last step, and with it the model: MLflow ranks models."""
        numbers = {str(name): value for name, value in metrics.items() if math.isfinite(value)}
        self._put(
            "model", **asdict(model), metrics=numbers, data=asdict(data), step=self._step, time=int(time.time() * 1000)
        )

    def trace(self, trace: ItemTrace) -> None:
        """Log what was asked for one item, and what came of it."""
        self._put("trace", **asdict(trace))

    def table(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log rows as a table, shown by MLflow's table view; columns are the union of the rows' keys."""
        with self._safely("table"):
            listed = redact_tree([dict(r) for r in rows]) if self._file else []
            columns = list(dict.fromkeys(key for row in listed for key in row))
            data = {"columns": columns, "data": [[_cell(row.get(c)) for c in columns] for row in listed]}
            self._tables |= {self.text(f"tables/{name}.json", json.dumps(data, ensure_ascii=False)): None}
            self.tag("mlflow.loggedArtifacts", [{"path": path, "type": "table"} for path in self._tables])

    def text(self, name: str, text: str) -> str:
        """Log a text as the artifact `name`; its path among the artifacts."""
        return self._artifact(name, redact(text).encode("utf-8", "replace"))

    def artifact(self, path: str | Path, to: str = "") -> None:
        """Log a file under `to`: text without its secrets, another file unless a known secret is in it."""
        with self._safely("artifact"):
            data = Path(path).read_bytes() if self._file else b""
            if b"\0" not in data:
                data = redact(data.decode("utf-8", "replace")).encode("utf-8", "replace")
            elif contains_secret(data):
                raise ValueError(f"{path} is not logged: it holds the value of a secret")
            self._artifact(f"{to}/{Path(path).name}", data)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED, and say in one line what could not be sent."""
        if error is not None:
            self.tag("sq.error", f"{type(error).__name__}: {error}")
        if error is not None and status == "FAILED":
            self.text("error.txt", "".join(traceback.format_exception(error)))
        self._put("end", status=status, time=int(time.time() * 1000))
        with self._safely("end"):
            file, sender, self._file, self._sender = self._file, self._sender, None, None
            if file and sender:
                sender.finish()

    def _dataset(self, context: str, data: DataRef) -> None:
        path = str(Path(data.path).absolute()) if data.path and "://" not in data.path else data.path
        self._put("dataset", context=context, **{**asdict(data), "path": path})

    def _artifact(self, name: str, data: bytes) -> str:
        path = posixpath.normpath(f"/{redact(name)}").lstrip("/")
        with self._safely("artifact"):
            if self._file:
                target = self._file.artifacts / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                self._put("artifact", path=path)
        return path

    def _put(self, op: str, **values: Any) -> None:
        with self._safely(op):
            if self._file and self._sender:
                self._file.append(op, **values)
                self._sender.new.set()

    @contextmanager
    def _safely(self, call: str) -> Iterator[None]:
        """Nothing that goes wrong in tracking may stop the work; each problem is logged once."""
        try:
            yield
        except Exception as error:
            problem = redact(f"{call}: {type(error).__name__}: {error}")[:300]
            if problem not in self._problems and len(self._problems) < 100:
                self._problems.add(problem)
                log.warning("tracking: %s (in run %s; the work goes on)", problem, self.id)


@contextmanager
def track(
    config: TrackingConfig,
    *,
    stage: str,
    params: Mapping[str, Any],
    directory: str | Path,
    inputs: Iterable[DataRef] = (),
    identity: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """Track the block as one run: FINISHED at its end, FAILED on an exception, KILLED on Ctrl-C or SIGTERM.

    The run's file is in `directory`, the stage's own. Where the last run there was of the same `identity` (by default:
    of the same `params`, the whole flat config), killed or not, this goes on in it.
    """
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
    if not config.enabled or any(rank not in ("", "0") for rank in ranks):  # of several processes the first tracks
        yield Run(uuid.uuid4().hex)
        return
    remember_named({**params, "tracking.uri": config.uri})
    inputs, file = list(inputs), _file(Path(directory))
    sender = Sender(file, config.uri, config.timeout)
    own = identity or {name: value for name, value in params.items() if not name.startswith("tracking.")}
    tags: Record = {"sq.stage": stage, "sq.directory": str(Path(directory).absolute()), **provenance()}
    for name, ours in (("source.name", "command"), ("user", "user"), ("source.git.commit", "git.commit")):
        tags |= {f"mlflow.{name}": tags[ours]} if ours in tags else {}
    words = tags["mlflow.source.name"].split(" ")
    tags["mlflow.source.name"] = " ".join(words[: 2 if words[0] == "sq" else 1])  # MLflow shows a path's last part
    reads = ",".join(dict.fromkeys(data.run for data in inputs if data.run))
    seeds = {k: v for k, v in params.items() if k.rpartition(".")[2].lower() in ("seed", "seeds") and v is not None}
    tags |= {k: v for k, v in (("sq.seeds", seeds), ("sq.reads", reads)) if v}
    header: Record = {
        "id": uuid.uuid4().hex, "name": config.run_name or stage, "uri": sender.uri, "experiment": config.experiment,
        "started": int(time.time() * 1000), "parent": config.parent or os.environ.get("SQ_PARENT_RUN"), "resumed": 0,
        "identity": digest_of(stage, json.dumps(own, sort_keys=True, default=str)),
        "tags": {**tags, "mlflow.source.type": "LOCAL", **config.tags},
    }  # fmt: skip
    last = file.last()
    if last.get("sent") == sender.address:
        sender.sent = file.end
    if last.get("identity") == header["identity"]:
        header |= {"id": last["id"], "resumed": last["opened"]}
        header["tags"] |= {"sq.resumed": last["opened"], "sq.resumed_from": last["status"] or "KILLED (without a word)"}
    else:
        file.close_killed()
    file.append("open", **header)
    run = Run(header["id"], file, sender)
    sender.start()
    try:
        run._put("params", params=params)
        for data in inputs:
            run._dataset("input", data)
        yield run
    except BaseException as error:
        run.end(_status(error), None if _status(error) == "FINISHED" else error)
        raise
    run.end("FINISHED")


def send_tracked(directory: str | Path, uri: str | None = None) -> int:
    """Send what the runs in and below a directory could not, or all of them to `uri`; how many files.

    Raises:
        SqError: where MLflow cannot be reached; everything unsent stays where it is.
    """
    sent = 0
    for path in sorted(Path(directory).rglob("metrics*.jsonl"), key=lambda path: len(path.parts)):  # parents first
        try:
            file = RunFile(path)
        except OSError as error:
            log.warning("tracking: %s is left alone: it is in use, or of another program (%s)", path, error)
            continue
        file.close_killed()
        if REDACTED in (target := uri or file.last().get("uri", "")):
            raise SqError(f"{path}: the password of {target} is not kept; give the whole address: --uri ...")
        sender = Sender(file, target)
        if uri or file.last().get("sent") != sender.address:
            if not sender.send():
                raise SqError(f"{path} was not sent, MLflow at {sender.address} does not answer: {sender.reason}")
            file.append("sent", uri=sender.address)
            sent += 1
        file.close()
    return sent


def _file(directory: Path) -> RunFile:
    """The directory's file; while another process tracks in it, one beside that."""
    for name in itertools.chain(["metrics.jsonl"], (f"metrics-{n}.jsonl" for n in itertools.count(2))):
        with suppress(OSError):
            return RunFile(directory / name)
    raise AssertionError


def _cell(value: Any) -> Any:
    """A table's cell as JSON has it: numpy scalars are numbers, NaN is null, all that JSON lacks is text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float) else redact(as_text(value))


def _status(error: BaseException) -> str:
    """FINISHED, FAILED or KILLED: a signal may arrive as KeyboardInterrupt, or as an exit that follows from one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt | GeneratorExit):
            return "KILLED"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SystemExit):
        killed = error.code == 128 + signal.SIGTERM or type(error) is not SystemExit  # Lightning has its own
        return "KILLED" if killed else "FAILED" if error.code not in (None, 0) else "FINISHED"
    return "FAILED"
