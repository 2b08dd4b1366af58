"""A selection as preference pairs and as verifiable questions."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from sq.core.errors import RowError
from sq.core.ledger import read_rejects, read_rows
from sq.report.build import _no_row, build
from sq.report.dataset_formats import DatasetFormat, _pair, _questions, formatted

PREFERENCE, RLVR = DatasetFormat.PREFERENCE, DatasetFormat.RLVR


def load(where, tmp_path):
    from datasets import load_dataset

    return list(load_dataset(str(where), split="train", cache_dir=str(tmp_path / "cache")))


def candidates(made):
    """All candidates of each question, the chosen one first."""
    found = {row["question_id"]: [row] for row in read_rows(made / "select")}
    for reject in read_rejects(made / "select"):
        row = json.loads(reject["row"])
        if row["question_id"] in found and row["response_answer"] is not None:
            found[row["question_id"]].append(row)
    return found


@pytest.mark.slow
def test_pairs_are_of_one_question_and_the_better_one_has_more_votes(made, tmp_path):
    rows = load(build(made, tmp_path / "d", form=PREFERENCE), tmp_path)
    every = {group[0]["id"]: group for group in candidates(made).values()}
    told_apart = {i: g for i, g in every.items() if any(row["votes"] < g[0]["votes"] for row in g)}
    assert {row["id"] for row in rows} == told_apart.keys() and rows
    for row in rows:
        texts = [each["response"] for each in every[row["id"]]]
        assert row["chosen"] == [{"role": "assistant", "content": texts[0]}]
        assert row["rejected"][0]["content"] in texts[1:] and row["rejected"] != row["chosen"]
        assert row["score_chosen"] > row["score_rejected"] and row["preferred_by"] == "votes"
        assert row["score_rejected"] == min(each["votes"] for each in every[row["id"]])
        assert row["prompt"] == [{"role": "user", "content": every[row["id"]][0]["query"]}]


@pytest.mark.slow
def test_verifiable_answers_are_those_that_most_say(made, tmp_path):
    where = build(made, tmp_path / "d", form=RLVR)
    rows, every = load(where, tmp_path), candidates(made)
    assert [row["id"] for row in rows] == [group[0]["id"] for group in every.values()]
    for index, (row, group) in enumerate(zip(rows, every.values(), strict=True)):
        votes = Counter(each["response_answer"] for each in group)
        assert votes[row["answer"]] == max(votes.values()) and not row["verified"]
        assert row["agreement"] == row["pass_rate"] == votes[row["answer"]] / 3 and row["candidates"] == 3
        assert row["reward_model"] == {"style": "rule", "ground_truth": row["answer"]}
        assert row["extra_info"] == {"split": "train", "index": index} and row["data_source"] == "sq/arithmetic"
    assert len({row["agreement"] for row in rows}) > 1, "some questions are disputed here"
    text = (where / "README.md").read_text()
    assert "GRPOTrainer" in text and "| `pass_rate` | double |" in text


def row(name, **values):
    return {"id": name, "response": name, "reason": "not_chosen", "response_model": "m", **values}


@pytest.mark.parametrize(
    ("chosen", "others", "rejected", "by"),
    [
        (row("a", reward=2.0), [row("b", reward=1.0), row("c", reward=-3.0)], "c", "reward"),
        (row("a", reward=2.0), [row("b", reward=2.0)], None, ""),
        (row("a", reward=1.0, correct=True), [row("b", reward=2.0, correct=False), row("c", reward=0.0, correct=True)],
         "b", "correct"),
        (row("a", votes=3, correct=True), [row("b", votes=1, correct=False, reason="wrong"),
                                           row("c", votes=2, correct=False)], "b", "correct"),
        (row("a", reward=2.0, correct=True), [row("b", reward=1.0, correct=True)], "b", "reward"),
        (row("a", reward=2.0), [row("b", reward=-9.0, reason="cut_off"), row("c", reward=1.0)], "c", "reward"),
        (row("a", votes=2), [row("b", votes=2), row("c", votes=1)], "c", "votes"),
        (row("a"), [row("b")], None, ""),
        (row("a", votes=2), [row("b", votes=1, reason="kept")], "b", "votes"),
        (row("a", votes=2, correct=False), [row("c", votes=2, correct=False), row("b", votes=1, correct=False)],
         "b", "votes"),
    ],
)  # fmt: skip
def test_which_candidate_is_the_worse_one(chosen, others, rejected, by):
    pair = _pair(chosen, others)
    if rejected is None:
        assert pair is None
    else:
        assert (pair["rejected"][0]["content"], pair["preferred_by"]) == (rejected, by)


@pytest.mark.parametrize("score", ["votes", "reward"])
def test_a_right_candidate_is_never_the_worse_one(score):
    """Also where the selection took a wrong one: then a right one is preferred to it."""
    wrong, right = row("wrong", correct=False, **{score: 2}), row("right", correct=True, **{score: 1})
    for chosen, other in ((wrong, right), (right, wrong)):
        pair = _pair(chosen, [other])
        texts = pair["chosen"][0]["content"], pair["rejected"][0]["content"], pair["preferred_by"]
        assert texts == ("right", "wrong", "correct")


def test_a_question_with_several_kept_candidates_is_one_row_each():
    def kept(question, count, *names):
        return [row(n, question_id=question, candidates=count, votes=9 - i) for i, n in enumerate(names)]

    class Stage:
        def rows(self):
            return iter([*kept("A", 2, "a0", "a1"), *kept("B", 4, "b0", "b1"), *kept("D", 2, "d0")])

        def rejects(self):
            every = (("B", "b2"), ("B", "b3"), ("C", "c0"), ("D", "d1"))
            return ((row(name, question_id=question), "not_chosen", "") for question, name in every)

    found = {best["id"]: [other["id"] for other in others] for best, others in _questions(Stage())}
    assert found == {"a0": ["a1"], "b0": ["b1", "b2", "b3"], "d0": ["d1"]}


def test_questions_that_give_no_pair_are_counted_by_reason():
    class Stage:
        def rows(self):
            kept = [
                row("a", question_id="A", candidates=2, votes=1),
                row("b", question_id="B", candidates=1, votes=1),
                row("c", question_id="C", candidates=3, votes=2),
                row("d", question_id="D", candidates=2, votes=1),
            ]
            return iter([{**each, "query": "?"} for each in kept])  # fmt: skip

        def rejects(self):
            rejected = [("A", "a1", 1, "not_chosen"), ("C", "c1", 2, "not_chosen"), ("C", "c2", 1, "not_chosen"),
                        ("D", "d1", 0, "cut_off")]  # fmt: skip
            return ((row(name, question_id=q, votes=votes), reason, "") for q, name, votes, reason in rejected)

    left_out = Counter()
    assert [each["rejected"][0]["content"] for each in formatted([Stage()], PREFERENCE, None, left_out)] == ["c2"]
    assert left_out == {"candidates with equal scores": 1, "one candidate alone": 2}


@pytest.mark.slow
def test_a_selection_among_single_candidates_gives_no_pair(made, tmp_path):
    from report_run import composed

    from sq.synth.config import SynthJob

    for kind, to, more in (("answers", "a", f"input={made / 'filter'}"), ("select", "s", f"input={tmp_path / 'a'}")):
        own = ["stage.n=1"] if kind == "answers" else ["stage.method=majority"]
        composed("synthesize", SynthJob, [f"stage={kind}", f"output_dir={tmp_path / to}", more, *own]).run()
    with pytest.raises(RowError, match="--format preference: no question has two .* stage.n of 2"):
        build(tmp_path / "s", tmp_path / "d", form=PREFERENCE)
    assert not (tmp_path / "d").exists()
    assert all(row["pass_rate"] == 1.0 for row in load(build(tmp_path / "s", tmp_path / "r", form=RLVR), tmp_path))


@pytest.mark.parametrize(
    ("form", "left_out", "way"),
    [
        (PREFERENCE, {"candidates with equal scores": 2, "one candidate alone": 1}, "higher stage.temperature"),
        (PREFERENCE, {"one candidate alone": 1}, "stage.n of 2 or more"),
        (RLVR, {"no candidate with an answer": 1}, "no question has a candidate with an answer"),
    ],
)
def test_why_no_question_gives_a_row(form, left_out, way):
    artifacts = SimpleNamespace(finals=[SimpleNamespace(directory="outputs/select")])
    assert way in _no_row(artifacts, form, Counter(left_out))
