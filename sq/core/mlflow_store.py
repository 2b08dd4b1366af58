"""The records of a journal as calls to an MLflow client, which `sq.core.tracking` hands in: no import of MLflow here.

Every record can be delivered twice without harm: metrics carry their time, and a run is found again by the ids that we
gave it (`sq.local_id`, its name from before MLflow answered; `sq.session`, one process's share of it).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sq.core.provenance import process_is_gone
from sq.core.run import VALUE_LIMIT, safe_name, shortened
from sq.core.secrets import redact
from sq.core.spool import Record, Refused

PARENT = "mlflow.parentRunId"
_TABLES = "mlflow.loggedArtifacts"
_PARAM_LIMITS = (6000, 500, 250)  # MLflow's own, and those of older servers
_BATCH_ITEMS, _BATCH_CHARACTERS = 100, 200_000  # a request holds 100 parameters or tags, and a million bytes
_NEVER = (
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "BAD_REQUEST",
    "INVALID_STATE",
)


class Mlflow(NamedTuple):
    """What the store needs of MLflow."""

    client: Any
    entities: Any
    error: type[Exception]


class MlflowStore:
    """One run of an MLflow store, as the `Store` that a `Sender` delivers to."""

    def __init__(self, uri: str, connect: Callable[[str], Mlflow]) -> None:
        self.uri, self.name, self.run_id = uri, f"MLflow at {redact(uri)}", ""
        self._connect = connect
        self._mlflow: Mlflow | None = None
        self._params: dict[str, str] = {}
        self._resumed = 0
        self._ended = self._in_use = False
        self._header: Record = {}
        self._files = Path()

    @property
    def mlflow(self) -> Mlflow:
        """The connection, made when it is first needed."""
        if self._mlflow is None:
            if path := sqlite_path(self.uri):
                _check_sqlite(path)
            self._mlflow = self._connect(self.uri)
        return self._mlflow

    def open(self, header: Record, files: Path, *, late: bool) -> None:
        """Find or make the run that a journal's header describes. `late`: the journal's process is gone."""
        client = self.mlflow.client
        self._header, self._files = header, files
        experiment = self._experiment(header["experiment"])
        tags = {safe_name(k): v for k, v in header["tags"].items()} | {"sq.session": header["session"]}
        if header["parent"]:
            parent = self.by_id(header["parent"])
            tags |= {"sq.parent": header["parent"], PARENT: parent.info.run_id if parent else header["parent"]}
            if parent and "sq.sweep" in parent.data.tags and not late:
                client.update_run(parent.info.run_id, status="RUNNING")
        if found := self._find(header, experiment):
            self._continue(found, tags, late)
        else:
            tags["sq.local_id"] = header["id"]
            made = client.create_run(experiment, start_time=header["started"], run_name=header["name"], tags=tags)
            self.run_id = made.info.run_id
            for child in self.search(f"tags.`sq.parent` = '{header['id']}'"):  # it opened while MLflow was away
                client.set_tag(child.info.run_id, PARENT, self.run_id)
        self._end_stale_runs(experiment)

    def deliver(self, record: Record) -> None:
        """Send one record; `Refused` where MLflow will never take it."""
        actions: dict[str, Callable[[Record], None]] = {
            "metrics": self._send_metrics, "params": self._send_params, "tags": self._send_tags,
            "dataset": self._send_dataset, "artifact": self._send_artifact, "end": self._end,
        }  # fmt: skip
        if record["op"] not in actions:
            raise Refused("the journal's line cannot be read")
        with self._refusals():
            actions[record["op"]](record)

    def alive(self) -> bool:
        """Whether MLflow answers a small question."""
        try:
            self.mlflow.client.get_run(self.run_id)
        except Exception:
            return False
        return True

    def mark_killed(self) -> None:
        """Close a run whose process went without a word."""
        if self._ended or self._in_use or self._header["find"]:
            return
        run = self.mlflow.client.get_run(self.run_id)
        if run.info.status == "RUNNING":
            self._kill(run)

    def by_id(self, id: str) -> Any:
        """The active run with this id of MLflow's or ours, or None."""
        try:
            run = self.mlflow.client.get_run(id)
            if run.info.lifecycle_stage == "active":
                return run
        except self.mlflow.error as error:
            if _code(error) not in _NEVER:
                raise
        return next(iter(self.search(f"tags.`sq.local_id` = {_quoted(id)}")), None)

    def search(self, where: str, experiments: Iterable[str] | None = None) -> Iterator[Any]:
        """Active runs, newest first, of all experiments unless some are named."""
        client, token = self.mlflow.client, None
        ids = list(experiments) if experiments else [e.experiment_id for e in client.search_experiments()]
        while ids:
            page = client.search_runs(ids, where, max_results=1000, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _find(self, header: Record, experiment: str) -> Any:
        found = self.by_id(header["resume"]) if header["resume"] else None
        found = found or next(iter(self.search(f"tags.`sq.local_id` = '{header['id']}'", [experiment])), None)
        for name, value in (header["find"] or {}).items():
            found = found or next(iter(self.search(f"tags.`{name}` = {_quoted(value)}", [experiment])), None)
        return found

    def _continue(self, run: Any, tags: Mapping[str, str], late: bool) -> None:
        client, old = self.mlflow.client, run.data.tags
        self.run_id, self._params = run.info.run_id, dict(run.data.params)
        self._resumed = int(old.get("sq.resumed", 0))
        if old.get("sq.session") == self._header["session"]:
            return  # our own, opened by a try whose answer was lost
        running = run.info.status == "RUNNING"
        self._in_use = late and running and not process_is_gone(old.get("process", ""))
        if self._in_use:
            return  # somebody has since continued it: only add what is missing
        if not self._header["find"]:
            self._resumed += 1
            ended = "KILLED (no word from its process)" if running else run.info.status
            tags = {**tags, "sq.resumed": str(self._resumed), "sq.resumed_from": ended}
        client.update_run(self.run_id, status="RUNNING")
        self._log_tags(tags)

    def _experiment(self, name: str) -> str:
        """The experiment's id; beside an SQLite file its artifacts go to `mlartifacts`, a server has its own place."""
        client = self.mlflow.client
        found = client.get_experiment_by_name(name)
        if found is None:
            place = None
            if path := sqlite_path(self.uri):
                place = (path.parent / "mlartifacts" / safe_name(name).replace("/", "_")).as_uri()
            try:
                return str(client.create_experiment(name, artifact_location=place))
            except self.mlflow.error:  # another process was first
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _end_stale_runs(self, experiment: str) -> None:
        """Runs of our directory whose process is gone were killed; the directory is ours alone now."""
        directory = self._header["tags"].get("sq.directory")
        if directory is None:
            return
        where = f"attributes.status = 'RUNNING' and tags.`sq.directory` = {_quoted(directory)}"
        for run in list(self.search(where, [experiment])):
            if run.info.run_id != self.run_id and process_is_gone(run.data.tags.get("process", "")):
                self._kill(run)

    def _kill(self, run: Any) -> None:
        self.mlflow.client.set_tag(run.info.run_id, "sq.error", "its process ended without a word")
        self.mlflow.client.set_terminated(run.info.run_id, "KILLED")
        self._settle_sweep(run.data.tags.get(PARENT))

    def _send_metrics(self, record: Record) -> None:
        made = [
            self.mlflow.entities.Metric(safe_name(k), value, time, step) for k, value, step, time in record["metrics"]
        ]
        for start in range(0, len(made), 1000):
            self.mlflow.client.log_batch(self.run_id, metrics=made[start : start + 1000])

    def _send_params(self, record: Record) -> None:
        """Parameters cannot change in MLflow: where a resumed run has others, they stand beside the first ones."""
        new = {safe_name(k): v for k, v in record["params"].items()}
        changed = {k for k, v in new.items() if k in self._params and self._params[k] != _short(v, _PARAM_LIMITS[0])}
        named = {f"resumed-{self._resumed}/{k}" if k in changed else k: v for k, v in new.items()}
        refusals: list[str] = []
        for batch in _batches((k, v) for k, v in named.items() if k not in self._params):
            try:
                self._log_params(batch, _PARAM_LIMITS[0])
            except Refused:
                refusals += [reason for item in batch if (reason := self._log_one_param(item))]
        if refusals:
            raise Refused("; ".join(refusals))

    def _log_one_param(self, item: tuple[str, str]) -> str:
        reason = ""
        for limit in _PARAM_LIMITS:
            try:
                self._log_params([item], limit)
                return ""
            except Refused as refusal:
                reason = f"{item[0]}: {refusal}"
        return reason

    def _log_params(self, items: list[tuple[str, str]], limit: int) -> None:
        with self._refusals():
            made = [self.mlflow.entities.Param(k, _short(v, limit)) for k, v in items]
            self.mlflow.client.log_batch(self.run_id, params=made)

    def _send_tags(self, record: Record) -> None:
        self._log_tags({safe_name(k): v for k, v in record["tags"].items()})

    def _log_tags(self, tags: Mapping[str, str]) -> None:
        for batch in _batches(tags.items()):
            made = [self.mlflow.entities.RunTag(k, shortened(v, VALUE_LIMIT, f"tags/{k}.txt")) for k, v in batch]
            self.mlflow.client.log_batch(self.run_id, tags=made)

    def _send_dataset(self, record: Record) -> None:
        entities, profile = self.mlflow.entities, json.dumps(record["profile"], ensure_ascii=False)
        source = json.dumps({"uri": record["path"]}, ensure_ascii=False)
        data = entities.Dataset(record["name"], record["digest"], "local", source, profile=profile)
        context = entities.InputTag("mlflow.data.context", record["context"])
        self.mlflow.client.log_inputs(self.run_id, [entities.DatasetInput(data, [context])])

    def _send_artifact(self, record: Record) -> None:
        file = self._files / record["file"]
        if not file.is_file():
            raise Refused(f"the file {file} is gone")
        client = self.mlflow.client
        client.log_artifact(self.run_id, str(file), record["to"] or None)
        if "table" in record:
            tables = json.loads(client.get_run(self.run_id).data.tags.get(_TABLES, "[]"))
            entry = {"path": record["table"], "type": "table"}
            if entry not in tables and len(json.dumps([*tables, entry])) <= VALUE_LIMIT:
                client.set_tag(self.run_id, _TABLES, json.dumps([*tables, entry]))

    def _end(self, record: Record) -> None:
        self._ended = True
        if not self._in_use:
            self.mlflow.client.set_terminated(self.run_id, record["status"], record["time"])
            self._settle_sweep(self.mlflow.client.get_run(self.run_id).data.tags.get(PARENT))

    def _settle_sweep(self, parent: str | None) -> None:
        """A sweep's parent is what its children are, of each directory the latest: none running, it has ended."""
        run = self.by_id(parent) if parent else None
        if run is None or "sq.sweep" not in run.data.tags:
            return
        latest: dict[str, str] = {}
        for child in self.search(f"tags.`{PARENT}` = '{run.info.run_id}'", [run.info.experiment_id]):
            latest.setdefault(child.data.tags.get("sq.directory", child.info.run_id), child.info.status)
        states = set(latest.values())
        if "RUNNING" not in states:
            self.mlflow.client.set_terminated(run.info.run_id, "FAILED" if states - {"FINISHED"} else "FINISHED")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except self.mlflow.error as error:
            if _code(error) in _NEVER:
                raise Refused(redact(str(error))) from error
            raise


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite address, None for every other address."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri or ":memory:" in path else Path(path)


def _check_sqlite(path: Path) -> None:
    """Raise at once where the file cannot be made, read or written: MLflow would try for minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as database:
        database.execute("begin immediate")
        database.execute("select count(*) from sqlite_master").fetchone()
        database.execute("rollback")


def _code(error: Exception) -> str:
    return str(vars(error).get("error_code", ""))


def _short(value: str, limit: int) -> str:
    return shortened(value, limit, "params.json")


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _batches(items: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    held = 0
    for key, value in items:
        size = len(key) + min(len(value), _PARAM_LIMITS[0])
        if batch and (len(batch) == _BATCH_ITEMS or held + size > _BATCH_CHARACTERS):
            yield batch
            batch, held = [], 0
        batch.append((key, value))
        held += size
    if batch:
        yield batch
