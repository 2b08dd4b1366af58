"""The grading process, which fails in the way that a pair's prediction names."""

import os
import sys

from sq.eval import grade, worker


def failing(pair, profile):
    if pair.prediction == "hang":
        while True:
            pass
    if pair.prediction == "die":
        os._exit(1)
    if pair.prediction == "memory":
        raise MemoryError
    if pair.prediction == "fault":
        raise ValueError("a defect")
    return grade.grade_answer(pair, profile)


worker.grade_answer = failing
worker.main(int(sys.argv[1]))
