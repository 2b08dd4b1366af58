"""Preference pairs: directions by seed, what is no rewrite, the judge's second look, and pairs without an optimiser."""

import json
import random
from collections import Counter

import pytest

from sq.core.errors import ConfigError
from sq.core.ledger import read_rejects, read_rows
from sq.core.rows import PAIR, check_row
from sq.domains.arithmetic import ArithmeticDomain, poor, problem
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Result
from sq.synth.question_value import closeness


@pytest.fixture
def raw(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "raw.jsonl"
    texts = [poor(rng) if i % 2 else problem(rng).question for i in range(120)]
    path.write_text("".join(json.dumps({"question": t}) + "\n" for t in texts))
    return path


def test_pairs_are_what_qpo_reads_and_counts_reconcile(run, raw, tmp_path):
    metrics = run("rewrite", f"input={raw}", "engine.error_rate=0.2", to="r")
    rows = list(read_rows(tmp_path / "r"))
    assert metrics["rows"] + metrics["rejects"] == metrics["items"] == 120
    assert all(not check_row(r, PAIR) and r["chosen"].strip() and r["chosen"] != r["rejected"] for r in rows)
    assert {r["direction"] for r in rows} == {"solvability", "difficulty"}
    assert all(r["parents"][0] == r["question_id"] and r["pair_source"] == "rewrite" for r in rows)
    assert {"unchanged", "unparsed"} <= {r["reason"] for r in read_rejects(tmp_path / "r")}
    assert metrics["oracle/chosen_solvable"] > metrics["oracle/rejected_solvable"] + 0.2


def test_directions_are_drawn_by_seed_with_the_share_of_the_config(run, raw, tmp_path):
    drawn = {}
    for name, *more in (("a",), ("b",), ("c", "seed=1"), ("d", "stage.solvability=1.0")):
        run("rewrite", f"input={raw}", *more, to=name)
        drawn[name] = {r["question_id"]: r["direction"] for r in read_rows(tmp_path / name)}
    assert drawn["a"] == drawn["b"]
    both = drawn["a"].keys() & drawn["c"].keys()
    assert 0.25 < sum(drawn["a"][k] != drawn["c"][k] for k in both) / len(both) < 0.75
    assert set(drawn["d"].values()) == {"solvability"}


def test_a_second_look_keeps_only_what_is_judged_solvable(run, raw, tmp_path):
    metrics = run("rewrite", f"input={raw}", "engine.error_rate=0.3", "stage.judge_prompt=judge_solvability", to="r")
    assert {r["chosen_solvable"] for r in read_rows(tmp_path / "r")} == {"yes"}
    assert metrics["rejects/unsolvable"] and metrics["rejects/unparsable"]
    kept = [json.loads(r["row"]) for r in read_rejects(tmp_path / "r") if r["reason"] == "unsolvable"]
    assert all(r["judge_reply"] and r["chosen"] for r in kept)


def test_the_second_look_may_be_a_judge_of_its_own(run, raw, tmp_path):
    own = ["+engine@stage.judge_engine=oracle", "stage.judge_engine.error_rate=0.5"]
    look = [f"input={raw}", "engine.error_rate=0.1", "stage.judge_prompt=judge_solvability"]
    same, other = run("rewrite", *look, to="same"), run("rewrite", *look, *own, to="other")
    assert other["rows"] < 0.8 * same["rows"] and other["rows"] + other["rejects"] == same["rows"] + same["rejects"]
    models = {r["judge_model"] for r in read_rows(tmp_path / "other")}
    assert len(models) == 1 and models.pop().endswith("-0.5")
    assert other["usage/requests"] > 120
    with pytest.raises(ConfigError, match="are for stage.judge_prompt=judge_solvability"):
        run("rewrite", f"input={raw}", *own, to="none")


def test_a_judge_of_its_own_is_asked_by_its_own_name(job):
    look = ["engine=openai", "engine.served=first", "stage.judge_prompt=judge_solvability", "input=raw"]
    look.append("stage.judge_model={name: judge, path: second}")
    given = ["+engine@stage.judge_engine=openai", "stage.judge_engine.served=third"]
    for more, name in (([], "second"), (given, "third")):
        asked = job("rewrite", *look, *more, "output_dir=none")
        assert asked.stage.judge(asked, None).identity == f"endpoint:{name}"


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        ("FINAL QUESTION: What is 3 + 4 + 5?", "stop", None),
        ("FINAL QUESTION: what is 3 + 4", "stop", "unchanged"),
        ("FINAL QUESTION:", "stop", "unparsed"),
        ("I would rather not.", "stop", "unparsed"),
        ("", "stop", "unparsed"),
        ("FINAL QUESTION: What is 3 + 4 + 5?", "length", "cut_off"),
        ("FINAL QUESTION: " + "What is 3 + 4 and then? " * 20, "stop", "over_long"),
    ],
)
def test_what_is_no_rewrite_is_rejected_with_the_reason(run, tmp_path, monkeypatch, reply, finish, reason):
    completion = Completion(text=reply, finish_reason=finish, tokens=9)
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: Result(key=r.key, completions=(completion,)))
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "What is 3 + 4?"}\n')
    run("rewrite", f"input={file}", "stage.solvability=1.0", to="r")
    assert [r["reason"] for r in read_rejects(tmp_path / "r")] == ([reason] if reason else [])


def test_pairs_from_success_rates_need_no_optimiser(run, raw, tmp_path):
    metrics = run("rewrite", f"input={raw}", "stage.source=success_rate", "engine.error_rate=0.1", to="r")
    rows = list(read_rows(tmp_path / "r"))
    used = Counter(q for r in rows for q in r["parents"])
    assert rows and max(used.values()) == 1
    assert 2 * metrics["rows"] + metrics["rejects"] == 120
    assert all(r["chosen_score"] - r["rejected_score"] >= 0.25 for r in rows if r["direction"] == "solvability")
    assert all(r["rejected_score"] >= 0.75 for r in rows if r["direction"] == "difficulty")
    oracle = ArithmeticDomain()
    better = [oracle.oracle_label(r["chosen"]).solvable >= oracle.oracle_label(r["rejected"]).solvable for r in rows]
    assert sum(better) / len(better) > 0.95


OWN = (
    "stage.source=solver",
    "stage.judge_prompt=judge_solvability",
    "stage.window=30",
    "stage.k=4",
    "engine.error_rate=0.1",
)


@pytest.mark.parametrize("judge", [[], ["+engine@stage.judge_engine=oracle"]])
def test_pairs_by_a_solver_choose_what_is_solvable_and_as_hard_as_wanted(run, raw, tmp_path, judge):
    metrics = run("rewrite", f"input={raw}", *OWN, "stage.wanted=0.25", *judge, to="r")
    rows, rejects = list(read_rows(tmp_path / "r")), list(read_rejects(tmp_path / "r"))
    used = Counter(q for r in rows for q in r["parents"])
    assert rows and max(used.values()) == 1 and 2 * len(rows) + len(rejects) == 120
    assert {r["pair_source"] for r in rows} == {"solver"} and {r["chosen_solvable"] for r in rows} == {"yes"}
    assert all(r["chosen_score"] - r["rejected_score"] >= 0.25 and r["judge_reply"] for r in rows)
    assert metrics["oracle/chosen_solvable"] > 0.9 > 0.5 > metrics["oracle/rejected_solvable"]
    assert {r["reason"] for r in rejects} <= {"no_partner", "unparsable"}


def test_a_label_of_the_row_stands_for_the_judge_and_the_unsolvable_are_not_solved(run, tmp_path, monkeypatch):
    good = problem(random.Random(1)).question
    texts = {"no": f"Some say this. {good}", "yes": good}
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps({"question": q, "solvable": word}) + "\n" for word, q in texts.items()))
    asked, answer = [], OracleEngine._answer
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: asked.append(r) or answer(self, r))
    run("rewrite", f"input={file}", *OWN, "stage.wanted=0.0", "engine.error_rate=0", to="r")
    (pair,) = read_rows(tmp_path / "r")
    assert (pair["chosen"], pair["rejected"], pair["direction"]) == (texts["yes"], texts["no"], "solvability")
    assert (pair["chosen_score"], pair["rejected_score"]) == (1.0, 0.0)
    assert [r.messages[-1]["content"] for r in asked] == [texts["yes"]]


def test_without_a_judge_agreement_stands_for_solvable(run, raw, tmp_path):
    run(
        "rewrite",
        f"input={raw}",
        "stage.source=solver",
        "stage.wanted=0.5",
        "stage.k=4",
        "engine.error_rate=0.3",
        to="r",
    )
    rows = list(read_rows(tmp_path / "r"))
    assert rows and all(
        r["chosen_score"] in (0.25 * 0.5, 0.5, 0.75 * 0.5) for r in rows
    )  # agreement × closeness to 0.5


@pytest.mark.parametrize(
    ("fail_rate", "wanted", "close"),
    [(0.5, 0.5, 1.0), (0.0, 0.5, 0.0), (1.0, 0.5, 0.0), (1.0, 0.2, 0.0), (0.0, 0.2, 0.75)],
)
def test_closeness_to_the_wanted_difficulty(fail_rate, wanted, close):
    assert closeness(fail_rate, wanted) == pytest.approx(close)
