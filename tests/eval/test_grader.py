"""The pool of grading processes: order, threads, kills, limits, and a clean end."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.eval.grade import Pair, grade_answer
from sq.eval.grade_status import GradeStatus
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig, Profile


def pids(grader):
    return [w._process.pid for w in grader._workers]


def alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def numbered(count):
    return [Pair(prediction=f"It is \\boxed{{{i}}}", reference=str(i if i % 3 else -1)) for i in range(count)]


@pytest.fixture(scope="module")
def grader():
    with Grader(GraderConfig(workers=2)) as pool:
        yield pool


def test_grades_come_in_the_order_of_the_pairs(grader):
    grades = list(grader.grade(numbered(200)))
    assert [g.extracted for g in grades] == [str(i) for i in range(200)]
    assert [g.correct for g in grades] == [bool(i % 3) for i in range(200)]


def test_pairs_are_read_as_grades_are_taken(grader):
    taken = []

    def endless():
        i = 0
        while True:
            taken.append(i)
            yield Pair(prediction=str(i), reference=str(i))
            i += 1

    stream = grader.grade(endless())
    assert all(next(stream).correct for _ in range(50))
    assert len(taken) < 400


def test_a_worker_knows_the_reasoning_of_an_output_that_it_gets_the_end_of(grader):
    output = "<think>" + "well " * 20_000 + "so \\boxed{5} maybe. Wait"
    (grade,) = grader.grade([Pair(prediction=output, reference="5", finish_reason="length")])
    assert grade.status is GradeStatus.UNPARSED


def test_threads_share_the_pool(grader):
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: [g.correct for g in grader.grade(numbered(60))], range(6)))
    assert all(r == [bool(i % 3) for i in range(60)] for r in results)


def test_both_profiles_from_one_pool(grader):
    pair = Pair(prediction="3.04", reference="0.0304")
    assert grader.grade_one(pair, "strict").status is GradeStatus.WRONG
    assert grader.grade_one(pair, Profile.DART).status is GradeStatus.CORRECT


def test_a_worker_that_hangs_is_killed_and_replaced():
    with Grader(GraderConfig(workers=1, deadline=0.2)) as pool:
        assert pool.grade_one(Pair(prediction="1", reference="1")).correct
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGSTOP)  # as good as an endless loop: it will not answer
        grade = pool.grade_one(Pair(prediction="2", reference="2"))
        assert grade.status is GradeStatus.TIMEOUT
        assert "not decided within 0.2 s" in grade.reason
        assert not alive(pid)
        assert pool.grade_one(Pair(prediction="3", reference="3")).correct
        assert pids(pool) != [pid]


def test_a_worker_that_died_costs_no_verdict():
    with Grader(GraderConfig(workers=1)) as pool:
        assert pool.grade_one(Pair(prediction="1", reference="1")).correct
        os.kill(pids(pool)[0], signal.SIGKILL)
        assert pool.grade_one(Pair(prediction="2", reference="2")).correct


@pytest.mark.parametrize(
    ("prediction", "status", "reason"),
    [
        ("hang", GradeStatus.TIMEOUT, "not decided within 1 s"),
        ("die", GradeStatus.TIMEOUT, "the grading process died on this pair"),
        ("memory", GradeStatus.TIMEOUT, "ran out of memory"),
        ("fault", GradeStatus.UNVERIFIABLE, "ValueError: a defect"),
    ],
)
def test_a_pair_that_fails_within_a_chunk_costs_no_other_its_grade(monkeypatch, prediction, status, reason):
    start = subprocess.Popen
    script = str(Path(__file__).parent / "worker_that_fails.py")
    monkeypatch.setattr(subprocess, "Popen", lambda args, **kw: start([args[0], script, args[-1]], **kw))
    pairs = numbered(12)
    pairs[5] = Pair(prediction=prediction, reference="5")
    long = [Pair(prediction="π" * 59_000 + pair.prediction, reference=pair.reference) for pair in pairs[8:10]]
    with Grader(GraderConfig(workers=1, deadline=1)) as pool:
        grades = list(pool.grade([*pairs[:8], *long, *pairs[10:]]))
    assert (grades[5].status, grades[5].reason) == (status, reason)
    others = grades[:5] + grades[6:]
    assert [g.extracted for g in others] == [str(i) for i in range(12) if i != 5]
    assert [g.correct for g in others] == [bool(i % 3) for i in range(12) if i != 5]


def test_grades_are_those_of_each_pair_alone(grader):
    rows = [line.split("\t") for line in (Path(__file__).parent / "pairs.tsv").read_text().split("\n")[1:] if line]
    pairs = [Pair(prediction=row[2], reference=row[3]) for row in rows[::5]]
    for one, alone in zip(grader.grade(pairs), map(grade_answer, pairs), strict=True):
        assert one == replace(alone, reason=alone.reason[:300])


def test_many_final_answers_are_compared_as_each_alone(grader):
    hostile = "9^{9^{9^{9^{9}}}}"
    pairs = [("0.5", "1/2"), ("0.5", "1/2"), (" 7", "7 "), ("7", "8"), (hostile, "3"), ("3", hostile)]
    pairs += [("", ""), ("}{", "1")]
    alone = [a.strip() == b.strip() or grader.same_answers([(a, b)])[0] for a, b in pairs]
    assert grader.same_answers(pairs) == alone == [True, True, True, False, False, False, True, False]
    assert grader.same_answers([("3.1", "3"), ("3.1", "2")], 0.05) == [True, False] and grader.same_answers([]) == []


def test_workers_have_a_memory_limit_and_no_secrets(grader, monkeypatch):
    grader.grade_one(Pair(prediction="1", reference="1"))
    for pid in pids(grader):
        limits = Path(f"/proc/{pid}/limits").read_text()
        (line,) = [x for x in limits.splitlines() if x.startswith("Max address space")]
        assert str(1024 * 2**20) in line
        names = {v.partition("=")[0] for v in Path(f"/proc/{pid}/environ").read_text().split("\0")}
        assert names <= {"PYTHONPATH", "PATH", "LC_ALL", "OMP_NUM_THREADS", ""}


def test_no_process_is_left():
    pool = Grader(GraderConfig(workers=2))
    started = pids(pool)
    assert all(alive(p) for p in started)
    pool.close()
    assert not any(alive(p) for p in started)
    pool.close()  # twice does no harm


def test_an_abandoned_pool_ends_its_workers():
    pool = Grader(GraderConfig(workers=1))
    started = pids(pool)
    del pool
    assert not any(alive(p) for p in started)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("profile", "strikt", "did you mean 'strict'"), ("workers", 0, "workers=0"), ("deadline", 0, "above 0")],
)
def test_a_wrong_config_has_a_message(key, value, message):
    with pytest.raises(ConfigError, match=message):
        build({key: value}, GraderConfig)


CHOICES = ("5 eV", "The electron moves left", "It stays", "It stays.")


@pytest.mark.parametrize(
    ("output", "reference", "status", "extracted"),
    [
        ("The answer is 5 eV.", "A", "correct", "A"),
        (r"\boxed{5 eV}", "A", "correct", "A"),
        ("So the answer is: the electron moves left.", "B", "correct", "B"),
        ("The electron moves left", "B", "correct", "B"),
        (r"\boxed{\text{The electron moves left}}", "B", "correct", "B"),
        ("The answer is 5 eV.", "B", "wrong", "A"),
        ("The answer is B.", "B", "correct", "B"),
        ("The answer is (A) the electron moves left", "B", "wrong", "A"),
        ("The answer is 6 eV.", "A", "wrong", "6 eV"),
        (r"\boxed{\text{It stays}}", "C", "wrong", r"\text{It stays}"),
        (r"\boxed{C}", "C", "correct", "C"),
    ],
)
def test_the_text_of_one_choice_stands_for_its_letter(output, reference, status, extracted):
    grade = grade_answer(Pair(prediction=output, reference=reference, choices=CHOICES))
    assert (grade.status.value, grade.extracted) == (status, extracted)
