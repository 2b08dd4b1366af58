"""The file of a run: all that it logs, a record a line, whether or not MLflow is there."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from sq.core.files import plain_errors, write_all
from sq.core.secrets import redact_tree

Record = dict[str, Any]


class RunFile:
    """`metrics.jsonl` of a directory: all that its runs log, a record a line, in the hands of this process alone.

    `open` begins a run, or says that it goes on; `sent` says that the MLflow at that address has all that stands above.
    Files that are logged lie in `tracking/` beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.artifacts = path, path.with_name(path.stem.replace("metrics", "tracking"))
        with plain_errors(path, "write it"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (begin := os.pread(self._fd, 13, 0)) and begin != b'{"op": "open"':
                raise FileExistsError(f"{path} is of another program")
        except OSError:
            os.close(self._fd)
            raise
        self._mutex, self.end = threading.Lock(), 0
        self.end = max((end for end, _ in self.records()), default=0)
        os.ftruncate(self._fd, self.end)  # without a last line that a kill cut off

    def append(self, op: str, **values: Any) -> None:
        """Add a record, without its secrets; one that the disk takes only in part is taken back."""
        kept = values if op == "metrics" else redact_tree(values)  # numbers, whatever their names
        line = json.dumps({"op": op, **kept}, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
        with self._mutex:
            try:
                write_all(self._fd, line)
                self.end += len(line)
            except OSError:
                os.ftruncate(self._fd, self.end)
                raise

    def records(self, start: int = 0) -> list[tuple[int, Record]]:
        """The whole records from this byte on, each with the byte after it."""
        lines = os.pread(self._fd, os.fstat(self._fd).st_size - start, start).splitlines(keepends=True)
        ends = itertools.accumulate(map(len, lines), initial=start)
        next(ends)
        return [(end, json.loads(line)) for end, line in zip(ends, lines, strict=True) if line.endswith(b"\n")]

    def last(self) -> Record:
        """The run it ends with: its header, its `status`, how often it was `opened`, and what MLflow was `sent` all."""
        last = Record()
        for _, record in self.records():
            if record["op"] == "open":
                opened = last["opened"] if last.get("id") == record["id"] else 0
                last = {**record, "opened": opened + 1, "status": None}
            elif record["op"] == "end":
                last["status"] = record["status"]
            last["sent"] = record["uri"] if record["op"] == "sent" else None
        return last

    def close_killed(self) -> None:
        """End the last run where its process did not: that is gone, for nobody else holds the file."""
        if self.last().get("status", "none there") is None:
            self.append("tags", tags={"sq.error": "its process ended without a word"})
            self.append("end", status="KILLED", time=int(time.time() * 1000))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)
