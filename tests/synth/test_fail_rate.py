"""Difficulty labels: counts, intervals, and sampling that stops when it knows enough."""

import pytest

from sq.core.errors import LedgerError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.oracle import OracleEngine


def test_a_label_is_k_of_n_with_its_interval(run, tmp_path):
    metrics = run("fail_rate", "limit=40", "engine.error_rate=0.3", to="l")
    rows = list(read_rows(tmp_path / "l"))
    assert len(rows) == 40 and {r["n"] for r in rows} == {16} and {r["stopped"] for r in rows} == {"full"}
    assert all(r["fail_rate"] == r["k"] / 16 and r["ci_low"] <= r["fail_rate"] <= r["ci_high"] for r in rows)
    assert all(len(r["solver_answers"]) == 16 and r["parents"] for r in rows)
    assert all(len(r["solver_solutions"]) == 16 and sum(r["solver_right"]) == 16 - r["k"] for r in rows)
    assert 0.2 < metrics["fail_rate"] < 0.4 and metrics["tokens_saved"] == 0


def test_sampling_stops_early_where_the_interval_is_narrow(run, tmp_path, monkeypatch):
    checked, check = [], ArithmeticDomain.check
    monkeypatch.setattr(ArithmeticDomain, "check", lambda self, *given: checked.append(given) or check(self, *given))
    metrics = run("fail_rate", "limit=40", "engine.error_rate=0.1", "stage.n=32", "stage.width=0.45", to="l")
    rows = list(read_rows(tmp_path / "l"))
    early = [r for r in rows if r["stopped"] == "interval"]
    assert early and all(r["n"] < 32 and r["ci_high"] - r["ci_low"] <= 0.45 for r in early)
    assert all(r["n"] == 32 for r in rows if r["stopped"] == "full")
    assert metrics["tokens_saved_share"] > 0.4 and metrics["solutions"] == sum(r["n"] for r in rows)
    assert len(checked) == sum(bool(answer) for r in rows for answer in r["solver_answers"])  # each once, not each step


def test_every_step_asks_for_other_solutions(run, tmp_path, monkeypatch):
    seeds = []
    answer = OracleEngine.generate
    monkeypatch.setattr(
        OracleEngine, "generate", lambda self, asked: answer(self, (seeds.append(r.seed) or r for r in asked))
    )
    run("fail_rate", "limit=20", "engine.error_rate=0.5", "stage.n=16", "stage.width=0.01", to="l")
    assert len(seeds) == len(set(seeds)) == 20 * 4
    assert all(row["n"] == 16 for row in read_rows(tmp_path / "l"))


def test_a_problem_without_an_answer_is_a_reject(run, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?"}\n')
    metrics = run("fail_rate", f"input={file}", to="l")
    assert metrics["rows"] == 1 and metrics["rejects"] == 1
    (reject,) = read_rejects(tmp_path / "l")
    assert reject["reason"] == "missing_column"


@pytest.mark.parametrize("field", ["extractor", "checker"])
@pytest.mark.parametrize(
    "stage",
    [
        "fail_rate limit=3",
        "answers input=domain limit=3",
        "select",
        "rewrite stage.source=success_rate input=domain limit=9",
    ],
)
def test_what_decides_an_answer_is_in_the_fingerprint(run, tmp_path, monkeypatch, stage, field):
    name, *settings = stage.split()
    if name == "select":
        run("answers", "input=domain", "limit=3", to="a")
        settings = [f"input={tmp_path / 'a'}", "stage.method=majority"]
    run(name, *settings, to="o")
    run(name, *settings, to="o")
    monkeypatch.setattr(ArithmeticDomain, field, "another")
    with pytest.raises(LedgerError, match=f'{field}: .* there, "another" now'):
        run(name, *settings, to="o")
