"""One tracked run as the rest of the program sees it: calls that cost microseconds, never raise, and hold no secret.

Each call becomes a record that the background thread of `sq.core.spool` carries to MLflow. What is logged from a file
is copied at the time of the call, so the caller may change or delete it at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sq.core.secrets import REDACTED, contains_secret, redact, redact_tree
from sq.core.spool import Record, Sender

log = logging.getLogger("sq.tracking")

VALUE_LIMIT = 5000  # MLflow takes 8000 characters in a tag and 6000 in a parameter, older servers less
_PATIENCE = 120.0  # seconds without any progress before the end of a run stops waiting for the store


@dataclass(frozen=True, kw_only=True)
class DataRef:
    """A dataset that a run reads or writes: where it is, what is in it, and the run that made it."""

    name: str
    path: str = ""
    digest: str = ""
    rows: int | None = None
    run: str | None = None


class Run:
    """A run that is being tracked (or, with `sender=None`, one that is not: the same methods, doing nothing)."""

    def __init__(self, id: str, sender: Sender | None = None, answer: Callable[[], str] | None = None) -> None:
        """`answer` gives MLflow's id of the run, or "" where it has not answered in good time; then `id` is its id."""
        self._id, self._answer = id, answer
        self._sender = sender
        self._reads: list[str] = []
        self._params: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._failed: set[str] = set()

    @property
    def id(self) -> str:
        """The run's id, the same from its first use on. Only this first use waits for MLflow, while it is starting."""
        if self._answer is not None:
            self._id, self._answer = self._answer() or self._id, None
        return self._id

    @property
    def env(self) -> dict[str, str]:
        """Environment for a child process, so that its runs nest under this one."""
        return {"SQ_PARENT_RUN": self.id}

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers (floats, numpy or torch scalars, NaN and infinity too) at `step`."""
        with self._safely("metrics"):
            if self._sender is None:
                return
            now, points = int(time.time() * 1000), []
            for name, value in values.items():
                try:
                    points.append([self._name(name), float(value), int(step or 0), now])
                except (TypeError, ValueError, OverflowError) as error:
                    self._complain("metrics", f"metric {name!r} is no number: {error}")
            if points:
                self._put({"op": "metrics", "metrics": points})

    def params(self, values: Mapping[str, Any]) -> None:
        """Log flat settings. Values too long for MLflow are shortened there; `params.json` has them whole."""
        with self._safely("params"):
            if self._sender is None:
                return
            clean = redact_tree(values)
            self._params |= clean
            self.text("params.json", json.dumps(self._params, indent=1, ensure_ascii=False, default=str))
            self._put({"op": "params", "params": {k: _as_text(v) for k, v in clean.items()}})

    def tag(self, name: str, value: Any) -> None:
        """Set a tag; a value too long for MLflow is kept whole as an artifact under `tags/`."""
        with self._safely("tag"):
            clean = _as_text(redact_tree(value, name))
            if len(clean) > VALUE_LIMIT and self._sender is not None:
                self.text(f"tags/{safe_name(redact(name))}.txt", clean)
            self._put({"op": "tags", "tags": {redact(name): clean}})

    def input(self, data: DataRef) -> None:
        """Log a dataset that this run reads; the run that made it is linked in the tag `sq.reads`."""
        with self._safely("input"):
            self._put({"op": "dataset", "context": "input", **_dataset(data)})
            if data.run and data.run not in self._reads:
                self._reads.append(data.run)
                self.tag("sq.reads", ",".join(self._reads))

    def output(self, name: str, path: str | Path, digest: str = "", rows: int | None = None) -> None:
        """Log a dataset (or model) that this run made."""
        with self._safely("output"):
            data = DataRef(name=name, path=str(path), digest=digest, rows=rows)
            self._put({"op": "dataset", "context": "output", **_dataset(data)})

    def table(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log rows as a table, shown by MLflow's table view; columns are the union of the rows' keys."""
        with self._safely("table"):
            if self._sender is None:
                return
            name, listed = redact(name), redact_tree([dict(r) for r in rows])
            columns = list(dict.fromkeys(key for row in listed for key in row))
            data = {"columns": columns, "data": [[_cell(row.get(c)) for c in columns] for row in listed]}
            file = f"tables/{safe_name(name)}.json"
            self.text(file, json.dumps(data, ensure_ascii=False, default=str), table=file)

    def figure(self, name: str, figure: Any) -> None:
        """Log a matplotlib figure, or an image file by its path, under `figures/`."""
        with self._safely("figure"):
            if self._sender is None:
                return
            name = redact(name)
            if isinstance(figure, str | Path):
                self._file(Path(figure), f"figures/{safe_name(name)}{Path(figure).suffix}")
            else:
                target = self._staged(f"figures/{safe_name(name)}.png")
                figure.savefig(target, dpi=150, bbox_inches="tight")
                self._send_staged(target, "figures")

    def artifact(self, path: str | Path, to: str = "") -> None:
        """Log a file, or a directory with everything in it, under `to`. Text is kept without its secrets."""
        with self._safely("artifact"):
            path = Path(path)
            if self._sender is None:
                return
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist")
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                self._file(file, "/".join(p for p in (to, file.relative_to(path.parent).as_posix()) if p))

    def text(self, name: str, text: str, **extra: Any) -> None:
        """Log a text as the artifact `name`."""
        with self._safely("text"):
            if self._sender is not None:
                name = redact(name)
                target = self._staged(name)
                target.write_text(redact(text), encoding="utf-8", errors="replace")
                self._send_staged(target, _folder(name), **extra)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED, and say in one line what could not be sent."""
        with self._safely("end"):
            if error is not None:
                self.tag("sq.error", f"{type(error).__name__}: {error}"[:VALUE_LIMIT])
                if status == "FAILED":
                    self.text("error.txt", "".join(traceback.format_exception(error)))
            self._put({"op": "end", "status": status, "time": int(time.time() * 1000)})
        self.leave()

    def leave(self) -> None:
        """Stop following the run without closing it."""
        sender, self._sender = self._sender, None
        if sender is None:
            return
        sent, journal = sender.finish(_PATIENCE), sender.journal
        if not sent:
            why = f" ({sender.reason})" if sender.reason else ""
            lost = f", {journal.dropped} more were dropped" if journal.dropped else ""
            log.warning(
                "tracking: %s was not reached%s: %d records of run %s are kept in %s%s; the next run sends them, or: "
                "python -m sq.core.tracking %s%s",
                sender.store.name, why, journal.pending, self.id, journal.path, lost, journal.path,
                " URI" if REDACTED in sender.store.name else "",
            )  # fmt: skip
        if sender.refused:
            kept = journal.path.with_suffix(".refused.jsonl")
            log.warning(
                "tracking: %s refused %d records of run %s (first: %s); they are kept in %s",
                sender.store.name, len(sender.refused), self.id, sender.refused[0], kept,
            )  # fmt: skip

    def _put(self, record: Record) -> None:
        if self._sender is not None:
            self._sender.put(record)

    def _name(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = redact(str(name))
        return self._names[name]

    def _file(self, path: Path, to: str) -> None:
        """Stage a copy: text without its secrets; other files as they are, unless a known secret is in them."""
        target = self._staged(to)
        if _is_text(path):
            with path.open(encoding="utf-8", errors="replace") as source, target.open("w", encoding="utf-8") as copy:
                copy.writelines(redact(block) for block in _blocks(source))
        elif path.stat().st_size < 256 << 20 and contains_secret(path.read_bytes()):
            self._complain(str(path), f"{path} is not logged: it holds the value of a secret")
            return
        else:
            _link_or_copy(path, target)
        self._send_staged(target, _folder(to))

    def _staged(self, name: str) -> Path:
        assert self._sender is not None
        folder = self._sender.journal.files / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        return folder / redact(Path(name).name)

    def _send_staged(self, target: Path, to: str, **extra: Any) -> None:
        file = f"{target.parent.name}/{target.name}"
        self._put({"op": "artifact", "file": file, "to": redact(to), "staged": True, **extra})

    @contextmanager
    def _safely(self, call: str) -> Iterator[None]:
        """Nothing that goes wrong in tracking may stop the work; it is said once per call and reason."""
        try:
            yield
        except Exception as error:
            self._complain(call, f"{type(error).__name__}: {error}")

    def _complain(self, call: str, problem: str) -> None:
        if (said := f"{call}: {problem}"[:300]) not in self._failed and len(self._failed) < 100:
            self._failed.add(said)
            log.warning("tracking: %s (in run %s; the work goes on)", redact(said), self.id)


@lru_cache(maxsize=4096)
def safe_name(name: str) -> str:
    """`name` with what MLflow allows in a key; where that changes it, a digest keeps two names apart."""
    safe = re.sub(r"[^\w.\- /:]", "_", str(name)).strip("/ ") or "value"
    safe = re.sub(r"/{2,}", "/", safe)
    if any(part in (".", "..") for part in safe.split("/")):
        safe = safe.replace("..", "_").replace("./", "_/")
    if safe != name or len(safe) > 240:
        safe = f"{safe[:220]}-{hashlib.blake2b(str(name).encode('utf-8', 'replace'), digest_size=4).hexdigest()}"
    return safe


def shortened(value: str, limit: int, where: str) -> str:
    """A value that is too long for MLflow as its head, its length, its digest, and where the whole is."""
    if len(value) <= limit:
        return value
    digest = hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).hexdigest()
    note = f"... [{len(value)} characters, blake2b {digest}, whole in {where}]"
    return value[: limit - len(note)] + note


def _dataset(data: DataRef) -> Record:
    profile = {"rows": data.rows, "digest": data.digest, "run": data.run}
    path = str(Path(data.path).absolute()) if data.path and "://" not in data.path else data.path
    return {
        "name": redact(data.name)[:500],
        "digest": (data.digest or hashlib.blake2b(path.encode(), digest_size=8).hexdigest())[:36],
        "path": redact(path),
        "profile": {k: v for k, v in profile.items() if v not in (None, "")},
    }


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cell(value: Any) -> Any:
    """A table's cell as JSON has it: NaN is null, what JSON does not know is text, numpy scalars are numbers."""
    if isinstance(value, float):
        return value if value == value and value not in (float("inf"), float("-inf")) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    try:
        return _cell(float(value))
    except (TypeError, ValueError):
        return redact(str(value))


def _folder(name: str) -> str:
    folder = Path(name).parent.as_posix()
    return "" if folder == "." else folder


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _blocks(lines: Iterable[str], size: int = 1 << 20) -> Iterator[str]:
    """Whole lines in blocks, so that a log of gigabytes is never in memory and a private key stays in one piece."""
    block: list[str] = []
    held = 0
    for line in lines:
        block.append(line)
        held += len(line)
        if held >= size and "PRIVATE KEY" not in line:
            yield "".join(block)
            block, held = [], 0
    yield "".join(block)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
