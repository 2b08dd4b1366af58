"""Workers: whichever does a part, and whichever dies, the directory is that of one worker that never did."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from forked_workers import children_of, fork_workers
from test_killed import content
from tqdm import tqdm

from sq.core.errors import EngineError, LedgerError, UnfinishedError
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.core.progress import Progress
from sq.data.readers import BadRow
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.oracle import OracleEngine
from sq.engine.engine_log import STREAM
from sq.synth.filters.duplicates import DuplicatesFilter
from sq.synth.score_store import ScoreStore
from sq.synth.stage import StageInput
from sq.synth.stage_metrics import read_stage_metrics

KILLS = 100
ERRS = ("input=domain", "engine.error_rate=0.2", "part_size=8")


def counts(directory):
    """What does not depend on a run's id or seconds."""
    manifest = read_manifest(directory)
    parts = [(part.index, part.items, part.rows, part.rejects, part.keys) for part in manifest.in_order]
    usage = read_stage_metrics(directory)["usage"]
    return parts, {name: usage[f"usage/{name}"] for name in ("requests", "prompt_tokens", "output_tokens")}


@pytest.fixture
def questions_twice(tmp_path):
    texts = [row["question"] for row in ArithmeticDomain().seeds(60, 3, "train")]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in [*texts, *texts[:9], "Apples."]))
    return path


@pytest.fixture
def forks(monkeypatch):
    fork_workers(monkeypatch)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_rows_in_the_same_order(run, tmp_path, forks):
    for stage, given in {"answers": [*ERRS, "limit=90"], "select": ["part_size=8", "engine.error_rate=0.1"]}.items():
        for workers in (1, 2, 8):
            before = [f"input={tmp_path}/answers-{workers}"] if stage == "select" else []
            run(stage, *given, *before, f"workers={workers}", to=f"{stage}-{workers}")
            assert content(tmp_path / f"{stage}-{workers}") == content(tmp_path / f"{stage}-1")
        assert counts(tmp_path / f"{stage}-8")[1] == counts(tmp_path / f"{stage}-1")[1]
    left = {path.name for path in (tmp_path / "answers-8").iterdir() if not path.name.startswith("part-")}
    assert left == {"manifest.json", "figures.json"}


def test_a_run_begun_with_two_workers_ends_with_five(job, run, tmp_path, forks, monkeypatch):
    run("answers", *ERRS, "limit=90", to="calm")
    answer = OracleEngine._answer

    def break_down(self, request):
        if len(list((tmp_path / "a").glob("part-*"))) > 3:
            raise EngineError("the engine broke down")
        with open(tmp_path / "asked", "a") as file:
            file.write("x")
        return answer(self, request)

    with monkeypatch.context() as patch:
        patch.setattr(OracleEngine, "_answer", break_down)
        with pytest.raises(EngineError, match="the engine broke down"):
            run("answers", *ERRS, "limit=90", "workers=2", to="a")
    begun = read_manifest(tmp_path / "a")
    assert not begun.finished
    requests = read_stage_metrics(tmp_path / "a")["usage"]["usage/requests"]
    assert requests == (tmp_path / "asked").stat().st_size, "what a worker asked before it failed is on the bill"
    shown = []
    monkeypatch.setattr(Progress, "close", lambda self, ended_well: shown.append(self.snapshot().done))
    run("answers", *ERRS, "limit=90", "workers=5", to="a")
    assert shown == [90], "with what the journals had"
    assert content(tmp_path / "a") == content(tmp_path / "calm")


@pytest.mark.parametrize("workers", [1, 2])
def test_rejects_are_in_the_progress_by_reason(run, tmp_path, forks, monkeypatch, workers):
    shown = []
    run("answers", *ERRS, "limit=30", "stage.n=3", to="a")
    monkeypatch.setattr(Progress, "close", lambda self, ended_well: shown.append(self.snapshot().rejects))
    run("select", f"input={tmp_path}/a", "part_size=8", f"workers={workers}", to="s")
    assert shown == [read_manifest(tmp_path / "s").reasons] and shown[0]


@pytest.mark.parametrize(("workers", "names"), [(1, {"engine.log"}), (2, {"engine-0.log", "engine-1.log"})])
def test_each_workers_engine_has_a_log_of_its_own(run, tmp_path, forks, monkeypatch, workers, names):
    answer = OracleEngine._answer
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: STREAM.write("asked\n") and answer(self, r))
    run("answers", *ERRS, "limit=32", f"workers={workers}", to="a")
    logs = {path.name: path.read_text() for path in (tmp_path / "a").glob("*.log")}
    assert logs.keys() <= names and "".join(logs.values()) == "asked\n" * 32


def test_the_items_of_a_stage_are_found_from_any_number_on(job, run, tmp_path):
    """Bad rows are items too, and keep their numbers."""
    run("answers", *ERRS, "limit=30", "stage.n=3", to="a")
    one = job("rewrite", f"input={tmp_path}/a", "columns={question: response_answer}")
    spec = one.stage.spec(one)
    items = list(spec.items())
    assert any(isinstance(item.payload, BadRow) for item in items) and len(items) == 90
    for start in (0, 1, 23, 24, 25, 47, 89, 90, 91):
        assert [item.key for item in spec.items_after(start)] == [item.key for item in items[start:]]
    assert spec.items_from is not None


@pytest.mark.parametrize("second", [5, 30, 79])
def test_a_key_that_comes_twice_is_refused_whichever_workers_have_it(run, forks, monkeypatch, second):
    items = StageInput.items

    def twice(self, key, start=0):
        every = list(items(self, key))
        every[second] = every[3]
        return iter(every[start:])

    monkeypatch.setattr(StageInput, "items", twice)
    for workers, what in ((3, r"an item key \(workers=1 says which\)"), (1, "the item key '[0-9a-f]+'")):
        with pytest.raises(LedgerError, match=f"{what} comes twice"):
            run("answers", *ERRS, "limit=80", f"workers={workers}", to="a")


@pytest.mark.slow
def test_processes_started_afresh_do_the_same(run, tmp_path):
    for workers in (1, 2):
        run("answers", *ERRS, "limit=40", f"workers={workers}", to=f"a{workers}")
    assert content(tmp_path / "a2") == content(tmp_path / "a1")


@pytest.mark.slow
def test_workers_and_coordinators_are_killed_a_hundred_times(job, tmp_path, forks, monkeypatch):
    answer = OracleEngine._answer
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: time.sleep(0.002) or answer(self, r))
    rng, kills, done = random.Random(16), Counter(), 0
    job("answers", *ERRS, "limit=80", f"output_dir={tmp_path}/calm").run()
    while kills.total() < KILLS or done == 0:
        one = job("answers", *ERRS, "limit=80", f"workers={rng.choice((2, 3, 5))}", f"output_dir={tmp_path}/a{done}")
        coordinator = os.fork()
        if coordinator == 0:
            tqdm.set_lock(threading.RLock())  # its own is shared with forks, and a killed one may die holding it
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                one.run()
                os._exit(0)
            except EngineError:
                os._exit(7)  # every worker was killed too often
            finally:
                os._exit(1)
        status = None
        while status is None:
            time.sleep(rng.uniform(0.02, 0.25))
            pid, ended = os.waitpid(coordinator, os.WNOHANG)
            if pid:
                status = os.waitstatus_to_exitcode(ended)
            elif rng.random() < 0.2:
                os.kill(coordinator, signal.SIGKILL)
                os.waitpid(coordinator, 0)
                kills["coordinator"] += 1
                status = 7
            elif workers := children_of(coordinator):
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills["worker"] += 1
        assert status in (0, 7)
        if status == 0:
            assert content(tmp_path / f"a{done}") == content(tmp_path / "calm")
            done += 1
    assert min(kills["coordinator"], kills["worker"]) >= 10


@pytest.mark.parametrize(
    ("stage", "n", "method"),
    [("select", 3, "_score"), ("filter", 1, "_answer")],
)
def test_no_row_of_an_item_that_ends_its_worker_is_lost(run, tmp_path, forks, monkeypatch, stage, n, method):
    """All candidates of a question, and the row of a filter, are the item's rejects."""
    run("answers", *ERRS, "limit=8", f"stage.n={n}", to="before")
    before = list(read_rows(tmp_path / "before"))
    lost = [row for row in before if row["question"] == before[-1]["question"]]
    usual = getattr(OracleEngine, method)

    def die(self, *asked):
        if lost[0]["question"] in str(asked):
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, *asked)

    monkeypatch.setattr(OracleEngine, method, die)
    given = ["filters=[solvability]", f"stage.scores={tmp_path}/scores"] if stage == "filter" else []
    given += [f"input={tmp_path}/before", "part_size=4", "workers=2", "engine.reject_failed=true"]
    run(stage, *given, to="a")
    rejects = [reject for reject in read_rejects(tmp_path / "a") if reject["reason"] == "engine"]
    assert [reject["id"] for reject in rejects] == [row["id"] for row in lost] and len(lost) == n
    assert all(json.loads(reject["row"])["question"] == lost[0]["question"] for reject in rejects)


def test_where_every_worker_ends_the_stage_says_so_and_the_same_command_goes_on(run, tmp_path, forks, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(OracleEngine, "generate", lambda self, requests: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(EngineError, match="every worker has failed 3 times with no part done"):
            run("answers", *ERRS, "limit=20", "workers=2", to="a")
    assert run("answers", *ERRS, "limit=20", "workers=2", to="a")["items"] == 20


def test_an_engine_that_no_worker_can_start_is_one_error(run, forks, monkeypatch):
    def refuse(self, requests):
        raise EngineError("no such device")

    monkeypatch.setattr(OracleEngine, "generate", refuse)
    with pytest.raises(EngineError, match="^no such device$"):
        run("answers", *ERRS, "limit=20", "workers=3", to="a")


def test_a_worker_whose_engine_breaks_down_starts_again_when_another_has_done_a_part(run, tmp_path, forks, monkeypatch):
    run("answers", *ERRS, "limit=60", to="calm")
    answer, first = OracleEngine._answer, tmp_path / "first"

    def break_down(self, request):
        try:
            os.close(os.open(first, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return answer(self, request)
        raise EngineError("a GPU fell off the bus")

    monkeypatch.setattr(OracleEngine, "_answer", break_down)
    run("answers", *ERRS, "limit=60", "workers=2", to="a")
    assert content(tmp_path / "a") == content(tmp_path / "calm")


def test_a_worker_that_does_not_see_the_directory_sends_its_parts(run, tmp_path, forks, monkeypatch):
    import sq.synth.worker

    run("select", *ERRS, "limit=60", "columns={response: solution}", to="calm")
    monkeypatch.setattr(sq.synth.worker, "join_directory", lambda marker: False)
    monkeypatch.setattr(sq.synth.worker.tempfile, "gettempdir", lambda: str(tmp_path))
    run("select", *ERRS, "limit=60", "columns={response: solution}", "workers=2", to="a")
    assert read_manifest(tmp_path / "a").digest == read_manifest(tmp_path / "calm").digest
    assert not list(tmp_path.glob("sq-*/")), "nothing stays where it worked"


def test_a_filter_is_done_by_one_worker_and_says_so(run, tmp_path, forks, caplog):
    given = ["input=domain", "limit=20", "filters=[format,duplicates]", f"stage.scores={tmp_path}/s"]
    run("filter", *given, "workers=2", to="f")
    assert "duplicates needs all rows, so one worker does the stage" in caplog.text
    assert read_manifest(tmp_path / "f").finished
    caplog.clear()
    run("filter", *given, "filters=[duplicates,solvability]", "workers=2", to="g")
    assert "filters=[duplicates], then filters=[solvability] over its output" in caplog.text


def test_that_rows_are_of_another_domain_is_said_once(run, tmp_path, forks, monkeypatch):
    monkeypatch.setattr("sq.synth.stage.other_domain", lambda domain, rows: "these are of another domain")

    def append(record):  # of any process: workers close the files that they have been given
        with (tmp_path / "log").open("a") as file:
            file.write(record.getMessage())

    handler = logging.Handler()
    handler.emit = append
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    run("answers", *ERRS, "limit=20", "workers=2", to="a")
    assert (tmp_path / "log").read_text().count("these are of another domain") == 1


def test_what_a_worker_measured_of_all_rows_is_not_measured_again(run, tmp_path, forks, monkeypatch):
    """On a cluster one worker does a filter that needs all rows, and sends what the judge's errors were."""
    given = ["input=domain", "limit=20", "filters=[duplicates,solvability]", "engine.error_rate=0.3"]
    given += ["filters.solvability.measure=true", "filters.solvability.planted=9"]
    here = run("filter", *given, f"stage.scores={tmp_path}/here", to="here")
    own, apply = os.getpid(), DuplicatesFilter.apply

    def elsewhere(*given):
        assert os.getpid() != own, "the coordinator filters"
        return apply(*given)

    monkeypatch.setattr(DuplicatesFilter, "apply", elsewhere)
    there = run("filter", *given, f"stage.scores={tmp_path}/there", "cluster.address=auto", to="there")
    assert there["judge/asked"] == 9
    assert all(there[name] == value for name, value in here.items() if not name.endswith("seconds"))


def test_filters_of_single_rows_are_done_by_all_workers_and_share_what_the_judge_said(
    run, tmp_path, forks, monkeypatch, questions_twice
):
    given = [
        f"input={questions_twice}",
        "filters=[format,language,solvability]",
        "part_size=8",
        "engine.error_rate=0.3",
    ]
    run("filter", *given, f"stage.scores={tmp_path}/s1", to="f1")
    run("filter", *given, f"stage.scores={tmp_path}/s3", "workers=3", to="f3")
    assert content(tmp_path / "f3") == content(tmp_path / "f1")
    assert read_manifest(tmp_path / "f3").digest == read_manifest(tmp_path / "f1").digest
    (one,), (several,) = ([*(tmp_path / name).iterdir()] for name in ("s1", "s3"))
    with ScoreStore(one) as alone, ScoreStore(several) as together:
        assert len(alone) == len(together) == 60
    assert len(list(several.glob("**/scores.jsonl"))) > 1

    monkeypatch.setattr(OracleEngine, "generate", lambda self, requests: pytest.fail("asked again"))
    run("filter", *given, f"stage.scores={tmp_path}/s3", "workers=2", to="again")
    assert content(tmp_path / "again") == content(tmp_path / "f1")


def test_a_judge_that_fails_now_and_then_leaves_the_others_their_parts(
    run, tmp_path, forks, monkeypatch, questions_twice
):
    given = [f"input={questions_twice}", "filters=[solvability]", "part_size=8"]
    run("filter", *given, f"stage.scores={tmp_path}/calm-s", to="calm")
    answer, flag = OracleEngine._answer, tmp_path / "mended"

    def fail(self, request):
        result = answer(self, request)
        if not flag.exists() and request.seed % 12 == 0:
            return replace(result, completions=(), error="HTTP 503")
        return result

    monkeypatch.setattr(OracleEngine, "_answer", fail)
    lenient = "engine.max_failures=1"
    with pytest.raises(UnfinishedError, match=r"[4-6]\d rows done, \d+ rows left.*(?s:.*)HTTP 503"):
        run("filter", *given, lenient, f"stage.scores={tmp_path}/s", "workers=2", to="f")
    flag.touch()
    run("filter", *given, f"stage.scores={tmp_path}/s", "workers=2", to="f")
    assert content(tmp_path / "f") == content(tmp_path / "calm")
