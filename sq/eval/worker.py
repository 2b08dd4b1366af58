"""A grading process: reads pairs from its input, one JSON line each, and answers one JSON line each.

It limits its own memory and processor time, ignores Ctrl-C (its parent decides when it ends), and ends when its input
does. It is started by `grader.Grader` with an environment that holds no secrets.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

from sq.eval.grade import Pair, grade_answer
from sq.eval.grader_config import Profile

_CPU_GRACE = 5
"""Seconds of processor time beyond the deadline after which the kernel ends a worker whose parent did not."""


def main(memory_mb: int) -> None:
    """Answer pairs until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing a library prints may end up among the answers
    limit = memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write("ready\n")
    for line in sys.stdin:
        request = json.loads(line)
        _bound_cpu(request["deadline"])
        try:
            reply = _answer(request)
        except MemoryError:
            answers.write(json.dumps({"error": "ran out of memory"}) + "\n")
            return
        answers.write(json.dumps(reply) + "\n")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        grade = grade_answer(Pair(**request["pair"]), Profile(request["profile"]))
    except MemoryError:
        raise
    except Exception as error:  # a defect of ours must cost one pair, not the run; it is named in the reason
        return {"error": f"{type(error).__name__}: {error}"[:300], "fault": True}
    return {
        "verdict": grade.status.value,
        "reason": grade.reason[:300],
        "extracted": grade.extracted,
        "where": grade.location.value,
    }


def _bound_cpu(deadline: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime + deadline) + _CPU_GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(int(sys.argv[1]))
