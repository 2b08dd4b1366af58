"""What a stage keeps beside its rows: what its models were asked, and figures that only the run itself could know."""

import itertools
import json
from types import SimpleNamespace

import pytest
from forked_workers import fork_workers

from sq.core.ledger import read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.oracle import OracleEngine
from sq.synth.pool import WorkerPool
from sq.synth.stage_metrics import NAME, StageMetrics, read_stage_metrics


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "q.jsonl"
    rows = ArithmeticDomain().seeds(40, 0, "train")
    file.write_text("".join(json.dumps({"question": row["question"]}) + "\n" for row in rows))
    return file


def test_tokens_and_seconds_of_a_stage_are_kept_for_the_bill(run, questions, tmp_path):
    metrics = run("answers", f"input={questions}", "stage.n=3", to="a")
    rows = list(read_rows(tmp_path / "a"))
    kept = read_stage_metrics(tmp_path / "a")["usage"]
    assert kept["usage/requests"] == 40 == metrics["usage/requests"]
    assert kept["usage/output_tokens"] == sum(row["response_tokens"] for row in rows)
    assert kept["usage/prompt_tokens"] == sum(row["response_prompt_tokens"] for row in rows) / 3
    assert kept["usage/engine_seconds"] > 0 and kept["usage/scored"] == 0
    assert read_stage_metrics(tmp_path / "a")["determinism"] == {"repeats": "always"}
    for filters, recorded in (
        ("format", {}),
        *((name, {"repeats": "always"}) for name in ("solvability", "pass_rate")),
    ):
        given = [f"input={questions}", f"filters=[{filters}]", f"stage.scores={tmp_path}/scores"]
        run("filter", *given, to=filters)
        assert read_stage_metrics(tmp_path / filters)["determinism"] == recorded
    run("questions", "source=fixed", f"input={questions}", to="fixed")
    assert read_stage_metrics(tmp_path / "fixed")["determinism"] == {}
    chosen = run("select", f"input={tmp_path}/a", to="s")
    assert chosen["usage/scored"] == 120 and chosen["usage/requests"] == 0


@pytest.mark.parametrize("name", ["solvability", "pass_rate"])
def test_what_a_store_had_is_counted_apart(run, questions, tmp_path, name):
    given = [f"filters=[{name}]", f"stage.scores={tmp_path}/scores"]
    half = run("filter", f"input={questions}", "limit=15", *given, to="half")
    whole = run("filter", f"input={questions}", *given, to="whole")
    again = run("filter", f"input={questions}", *given, to="again")
    asked = [one["usage/requests"] + one["usage/scored"] for one in (half, whole, again)]
    assert asked[0] >= 15 and asked[1] > 0 and asked[2] == 0
    assert [one.get("usage/stored", 0) for one in (half, whole, again)] == [0, 15, 40]


def test_what_was_asked_before_a_stop_is_counted_too_and_nothing_twice(run, questions, tmp_path, monkeypatch):
    answer, count = OracleEngine._answer, iter(range(25))

    def dies(self, request):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return answer(self, request)

    monkeypatch.setattr(OracleEngine, "_answer", dies)
    with pytest.raises(KeyboardInterrupt):
        run("answers", f"input={questions}", to="a")
    assert read_stage_metrics(tmp_path / "a")["usage"]["usage/requests"] == 25
    monkeypatch.setattr(OracleEngine, "_answer", answer)
    assert run("answers", f"input={questions}", to="a")["usage/requests"] == 40
    assert run("answers", f"input={questions}", to="a")["usage/requests"] == 40


def test_a_finished_filter_tells_what_it_told_and_measures_when_that_is_asked_for_later(run, questions, tmp_path):
    bench = tmp_path / "bench.jsonl"
    bench.write_text("".join(questions.read_text().splitlines(keepends=True)[:10]))
    chain = [f"input={questions}", f"stage.scores={tmp_path}/scores", "filters=[overlap,solvability]"]
    chain += [f"filters.overlap.benchmarks={{b: {bench}}}", "engine.error_rate=0.2"]
    first = run("filter", *chain, to="f")
    assert first["overlap/b/clean"] == 0 and "judge/recall" not in first
    again = run("filter", *chain, to="f")
    assert again == {**first, "resumed": 40}
    measured = run("filter", *chain, "filters.solvability.measure=true", "filters.solvability.planted=20", to="f")
    assert measured["judge/planted"] == 20 and measured["overlap/b/clean"] == 0
    assert measured["usage/requests"] > first["usage/requests"]
    (tmp_path / "f" / "figures.json").unlink()  # as if killed between the last part and this file
    last = run("filter", *chain, to="f")
    assert last["overlap/b/clean"] == 0 and last["rows"] == first["rows"]


@pytest.mark.parametrize(
    ("stage", "given", "total"),
    [
        ("answers", ["limit=20"], 20),
        ("fail_rate", ["limit=20"], 20),
        ("filter", ["limit=20", "filters=[format]"], 20),
        ("rewrite", ["limit=20"], 20),
        ("rewrite", ["limit=20", "stage.source=success_rate", "stage.window=8"], 3),
    ],
)
def test_a_stage_knows_about_how_many_items_it_has(job, stage, given, total):
    made = job(stage, "input=domain", *given)
    assert made.stage.spec(made).total == total


def test_select_has_as_many_items_as_its_candidates_have_questions(run, job, tmp_path):
    run("answers", "input=domain", "limit=6", "stage.n=3", to="a")
    made = job("select", f"input={tmp_path / 'a'}", "stage.method=majority")
    assert made.stage.spec(made).total == 6


def test_the_file_is_written_soon_and_then_less_often(tmp_path, monkeypatch):
    now, written = 0, []
    monkeypatch.setattr("sq.synth.stage_metrics.time", SimpleNamespace(monotonic=lambda: now))
    file = StageMetrics(tmp_path, [], {})
    for now in range(40):  # noqa: B007
        file.write_now_and_then()
        if (tmp_path / NAME).exists():
            written.append(now)
            (tmp_path / NAME).unlink()
    assert written == [1, 3, 7, 15, 25, 35]


def test_a_worker_says_soon_what_it_has_asked(run, tmp_path, monkeypatch):
    fork_workers(monkeypatch)
    clock, counts, on_count = itertools.count(), [], WorkerPool._on_count
    monkeypatch.setattr("sq.synth.stage_metrics.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(WorkerPool, "_on_count", lambda self, *given: counts.append(given[1]) or on_count(self, *given))
    run("answers", "input=domain", "limit=20", "part_size=20", "workers=2", to="a")
    assert next(filter(None, counts)) == 1 and sum(counts) == 20


def test_a_run_that_goes_on_adds_its_determinism_to_that_of_the_rows_there(tmp_path):
    for repeats in ("in batches of the same size", "in any batch", "in batches of the same size"):
        StageMetrics(tmp_path, [], {"dtype": "bfloat16", "repeats": repeats}).write()
    StageMetrics(tmp_path, [], {}).write()  # finished: nothing is asked
    recorded = read_stage_metrics(tmp_path)["determinism"]
    assert recorded == {"dtype": "bfloat16", "repeats": "in batches of the same size; in any batch"}
