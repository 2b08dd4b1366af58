"""The thread that carries a run's file to MLflow, which is imported here alone.

MLflow's own queue (`synchronous=False`) drops a batch whose request fails, keeps no order, and makes no run, artifact
or end. Here the file is the queue: what was sent is known by a byte in it, and may be sent again without harm.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import logging
import os
import posixpath
import re
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from sq.core.secrets import redact
from sq.core.tracking_file import Record, RunFile

log = logging.getLogger("sq.tracking")

_PARAM, _TAG = 6000, 5000  # characters that MLflow takes (8000 in a tag since its version 2)
_NEVER = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE")
_PLACE = re.compile(r"(^|\.)(output_dir|input|path|cache|scores)$|^tracking\.")
"""Settings that are tags, not parameters: places, and how the run is tracked. As axes of MLflow's plots they would hide
what was varied."""
_KIND = ("mlflow.experimentKind", "custom_model_development")  # the experiment opens on its runs, not on traces
_PATIENCE = 120.0  # seconds that the end of a run waits for MLflow
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_CONFIGURE_LOGGING": "false", "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}  # fmt: skip


def whole_uri(uri: str) -> str:
    """The address; the path of an SQLite file made absolute, so that a later change of directory does not matter."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri or ":memory:" in path else f"sqlite:///{Path(path).expanduser().absolute()}"


def connect(uri: str, timeout: int = 10) -> Any:
    """MLflow's client, imported here, quiet, and without its own retries, which take minutes."""
    for name, value in {**_QUIET, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)}.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:////"):
        return MlflowClient(uri)
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as database:
        database.execute("begin immediate")  # where the file cannot be used MLflow would try for long
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # two that make the tables at once break each other's migrations
        return MlflowClient(uri)
    finally:
        os.close(directory)


class Sender(threading.Thread):
    """Follows a run's file and sends what is new in it, in order; while MLflow is away it tries again."""

    def __init__(self, file: RunFile, uri: str, timeout: int = 10) -> None:
        super().__init__(name="tracking", daemon=True)
        self.file, self.uri, self._timeout, self.sent = file, whole_uri(uri), timeout, 0
        self.address, self.reason, self._refused = redact(self.uri), "", set[str]()
        self.new, self._closing = threading.Event(), threading.Event()
        self._run, self._experiment, self._resumed, self._logged = "", "", 0, Record()

    @cached_property
    def client(self) -> Any:
        """MLflow's client, made when it is first needed."""
        return connect(self.uri, self._timeout)

    def run(self) -> None:
        """Send until closed, and then once more."""
        failures, last = 0, False
        while not last:
            last = self._closing.is_set()
            failures = 0 if self.send() else failures + 1
            if not last:
                self._closing.wait(min(30.0, 2.0**failures)) if failures else self.new.wait()
                self.new.clear()

    def send(self) -> bool:
        """Send what there is; whether MLflow took it."""
        try:
            while batch := self.file.records(self.sent):
                for op, group in itertools.groupby(batch, lambda each: str(each[1]["op"])):
                    ends, records = zip(*group, strict=True)
                    self._deliver(op, records)
                    self.sent = ends[-1]
        except Exception as error:  # whatever MLflow raises, the work goes on
            text = "tracking: MLflow at %s does not answer (%s); the work goes on, all is kept in %s"
            if not self.reason and not self._closing.is_set():
                log.warning(text, self.address, _reason(error), self.file.path)
            self.reason = _reason(error)
            return False
        if self.reason:
            log.info("tracking: MLflow at %s is back, what was kept is sent", self.address)
        self.reason = ""
        return True

    def finish(self) -> None:
        """Wait until all is sent, or MLflow is away, or it takes long; say what is left."""
        self._closing.set()
        self.new.set()
        self.join(_PATIENCE)
        if self.is_alive() or self.reason:
            text = "tracking: MLflow at %s was not reached (%s); the run is whole in %s, and sent by: sq track %s"
            log.warning(text, self.address, self.reason or "it takes long", self.file.path, self.file.path.parent)
        elif not self._refused:
            self.file.append("sent", uri=self.address)
        if not self.is_alive():  # else it still reads there
            self.file.close()

    def _deliver(self, op: str, records: Sequence[Record]) -> None:
        """Send neighbouring records of one kind; one that MLflow will never take is logged, and stops no other."""
        try:
            self._log(op, records)
        except Exception as error:
            gone = op == "artifact" and isinstance(error, FileNotFoundError)
            if op == "open" or not (gone or getattr(error, "error_code", "") in _NEVER):
                raise
            for record in records if len(records) > 1 else ():
                self._deliver(op, [record])
            if len(records) == 1 and (reason := _reason(error)) not in self._refused:
                self._refused.add(reason)
                log.warning("tracking: MLflow refuses %s (%s); it stays in %s", op, reason, self.file.path)

    def _log(self, op: str, records: Sequence[Record]) -> Any:
        from mlflow.entities import Metric, RunTag

        if op == "metrics":
            points = [(key(k), float(v), r["time"], r["step"]) for r in records for k, v in r["metrics"].items()]
            return self.client.log_batch(self._run, metrics=[Metric(*point) for point in points])
        for record in records:
            if op == "open":
                self._open(record)
            elif op == "params":
                self._log_params(record["params"])
            elif op == "tags":
                tags = [RunTag(key(k), _short(v, _TAG, self.file.path.name)) for k, v in record["tags"].items()]
                self.client.log_batch(self._run, tags=tags)
            elif op == "artifact":
                path = self.file.artifacts / record["path"]
                self.client.log_artifact(self._run, str(path), posixpath.dirname(record["path"]) or None)
            elif op == "dataset":
                self._log_dataset(record)
            elif op == "model":
                self._log_model(record)
            elif op == "trace":
                self._log_trace(record)
            elif op == "end":
                self.client.set_terminated(self._run, record["status"], record["time"])

    def _open(self, header: Record) -> None:
        """Find the run, which goes on, or make it."""
        client, name, tags = self.client, header["experiment"], dict(header["tags"])
        self._resumed, self._logged = header["resumed"], {}
        if (experiment := client.get_experiment_by_name(name)) is None:
            path = Path(self.uri.removeprefix("sqlite:///"))  # artifacts of SQLite lie beside it; a server has a place
            place = (path.parent / "mlartifacts" / key(name)).as_uri() if path.is_absolute() else None
            self._experiment = client.create_experiment(name, artifact_location=place, tags=dict([_KIND]))
        else:
            self._experiment = experiment.experiment_id
            if _KIND[0] not in experiment.tags:
                client.set_experiment_tag(self._experiment, *_KIND)
        if found := self._find(header["id"]):
            self._run, self._logged = found.info.run_id, dict(found.data.params)
            client.update_run(self._run, status="RUNNING")
        else:
            run = client.create_run(self._experiment, header["started"], {"sq.run": header["id"]}, header["name"])
            self._run = run.info.run_id
            for child in self._search(f"tags.`sq.parent` = '{header['id']}'"):  # it opened while MLflow was away
                client.set_tag(child.info.run_id, "mlflow.parentRunId", self._run)
        if parent := header["parent"]:
            found = self._find(parent)
            tags |= {"sq.parent": parent, "mlflow.parentRunId": found.info.run_id if found else parent}
        self._log("tags", [{"tags": tags}])

    def _find(self, id: str) -> Any:
        """The active run with this id of ours or MLflow's, or none."""
        id = id.replace("'", "")
        return next(iter(self._search(f"tags.`sq.run` = '{id}'") or self._search(f"attributes.run_id = '{id}'")), None)

    def _search(self, where: str) -> Any:
        return self.client.search_runs(self._experiments(), where)

    def _experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in self.client.search_experiments()]

    def _log_params(self, params: Record) -> None:
        """Parameters cannot change in MLflow: where a run that goes on has others, they stand beside the first ones."""
        from mlflow.entities import Param

        self.client.log_text(self._run, json.dumps(params, indent=1, ensure_ascii=False), "params.json")
        places = {k: v for k, v in params.items() if v is not None and _PLACE.search(k)}
        self._log("tags", [{"tags": places}])
        short = {key(k): _short(v, _PARAM, "params.json") for k, v in params.items() if not _PLACE.search(k)}
        beside = f"resumed-{self._resumed}/"
        new = [Param(k if self._logged.get(k, v) == v else beside + k, v) for k, v in short.items()]
        for start in range(0, len(new), 25):  # a request holds a million bytes
            self.client.log_batch(self._run, params=new[start : start + 25])

    def _log_dataset(self, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps({k: record[k] for k in ("rows", "digest", "run") if record.get(k)})
        digest = record["digest"] or hashlib.blake2b(record["path"].encode(), digest_size=8).hexdigest()
        data = Dataset(record["name"][:500], digest[:36], "local", json.dumps({"uri": record["path"]}), profile=profile)
        self.client.log_inputs(self._run, [DatasetInput(data, [InputTag("mlflow.data.context", record["context"])])])

    def _log_model(self, record: Record) -> None:
        """Metrics of a model, known by the digest of its weights; it is entered where it is not there yet.

        What this run exported is an entry of its own, beside another run's of equal weights.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        name, digest, data = re.sub(r"[/:.%\"']", "-", record["name"])[:250], record["digest"], record["data"]
        same = f"tags.`sq.weights` = '{digest}'"
        if record["exported"]:
            entries = self.client.search_logged_models([self._experiment], same)
            found = [entry for entry in entries if entry.source_run_id == self._run]
        else:
            found = self.client.search_logged_models(self._experiments(), same, max_results=1)
        if found:
            model = found[0]
        else:
            own = {"source_run_id": self._run} if record["exported"] else {}
            params = {key(k): _short(v, 250, "params.json") for k, v in record["params"].items()}
            tags = {"sq.weights": digest, "sq.path": record["path"]}
            model = self.client.create_logged_model(
                self._experiment, name, tags=tags, params=params, model_type=record["stage"], **own
            )
            self.client.finalize_logged_model(model.model_id, "READY")
        outputs = self.client.get_run(self._run).outputs
        logged = {output.model_id for output in (outputs.model_outputs if outputs else ())}
        if record["exported"] and model.model_id not in logged:
            self.client.log_outputs(self._run, [LoggedModelOutput(model.model_id, 0)])
        of = (record["time"], record["step"], model.model_id, data["name"], data["digest"][:36], self._run)
        metrics = [Metric(key(k), float(v), *of) for k, v in record["metrics"].items()]
        self.client.log_batch(self._run, metrics=metrics)

    def _log_trace(self, record: Record) -> None:
        """What a stage asked for one item, a span a request. Its id follows from run and item, so twice is once."""
        from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState

        trace = hashlib.blake2b(f"{self._run}/{record['name']}/{record['item']}".encode(), digest_size=16).hexdigest()
        spans = [
            Span.from_dict_v2(_span(trace, number, record["name"] if number == 0 else "request", each))
            for number, each in enumerate([record, *record["requests"]])
        ]
        info = TraceInfo(
            trace_id=f"tr-{trace}", trace_location=TraceLocation.from_experiment_id(self._experiment),
            request_time=record["started"], state=TraceState.ERROR if record["failed"] else TraceState.OK,
            request_preview=record["prompt"][:1000], response_preview=record["response"][:1000],
            execution_duration=int(record["seconds"] * 1000), trace_metadata={"mlflow.sourceRun": self._run},
            tags={"mlflow.traceName": record["name"], "sq.item": record["item"]},
        )  # fmt: skip
        self.client._tracing_client.start_trace(info)
        self.client._tracing_client.log_spans(self._experiment, spans)


def _span(trace: str, number: int, name: str, each: Record) -> Record:
    """A span as MLflow reads it: number 0 is the item's, the others are requests in it."""
    begun = each["started"] * 1_000_000
    attributes = {
        "mlflow.traceRequestId": f"tr-{trace}", "mlflow.spanType": "LLM" if number else "CHAIN",
        "mlflow.spanInputs": each["prompt"], "mlflow.spanOutputs": each["response"],
        **({"mlflow.chat.tokenUsage": each["tokens"]} if each["tokens"] else {}),
    }  # fmt: skip
    return {
        "name": name, "context": {"trace_id": f"0x{trace}", "span_id": f"0x{number + 1:016x}"},
        "parent_id": f"0x{1:016x}" if number else None, "start_time": begun,
        "end_time": begun + int(each["seconds"] * 1e9), "status_code": "ERROR" if each["failed"] else "OK",
        "status_message": "", "attributes": {k: json.dumps(v, ensure_ascii=False) for k, v in attributes.items()},
        "events": [],
    }  # fmt: skip


def _short(value: Any, limit: int, file: str) -> str:
    """A value as MLflow takes it; of one that is too long its head, length and digest, and where the whole is."""
    if len(text := as_text(value)) <= limit:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{text[: limit - 200]}... [{len(text)} characters, blake2b {digest}, whole in {file}]"


def key(name: str) -> str:
    """`name` with what MLflow allows in a key; where that changes it, a digest keeps two names apart."""
    safe = re.sub(r"[^\w.\- /:]|^[./ ]+|[./ ]+$|\.\.|//+", "_", name)[:220] or "_"
    safe = safe if posixpath.normpath(safe) == safe else safe.replace("/", "_")
    return safe if safe == name else f"{safe}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def as_text(value: Any) -> str:
    """A value as MLflow has it: text, and JSON for all else."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _reason(error: BaseException) -> str:
    """What is at the bottom of an error, in one line: "ConnectionRefusedError: [Errno 111] Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {redact(str(error))}".partition("\n")[0][:300]
