"""A further process of a training on this machine: `python -m sq.train.rank JOB`, started by `sq/train/launch.py`."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from sq.core.errors import SqError  # noqa: E402
from sq.train.config import TrainJob  # noqa: E402


def main() -> None:
    """Train as this rank; end when the process that started us does, however it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: TrainJob = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        job.run()
    except SqError as error:
        sys.exit(f"error: {error}")


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the other end of this pipe closes: with the parent
    os._exit(1)


if __name__ == "__main__":
    main()
