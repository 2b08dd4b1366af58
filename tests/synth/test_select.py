"""Selection: what each method chooses, ties, and that every candidate that goes in comes out as a row or a reject."""

import json
from collections import Counter

import pytest

from sq.core.errors import ConfigError, EngineError, LedgerError, RowError
from sq.core.ledger import read_rejects, read_rows
from sq.data.sources import SourceConfig, config_of_stage
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.oracle import OracleEngine
from sq.domains.qa import QADomain
from sq.engine.base import Completion, Result

QUESTION = "Tom has 2 apples. He buys 3 more apples. How many apples does he have now?"


@pytest.fixture
def candidates(tmp_path):
    def write(*responses, question=QUESTION, name="c.jsonl", **more):
        with open(tmp_path / name, "a") as file:
            for response in responses:
                file.write(json.dumps({"question": question, "response": response, **more}) + "\n")
        return tmp_path / name

    return write


def boxed(value):
    return f"So it is \\boxed{{{value}}}."


def test_majority_counts_equal_answers_and_drops_those_without_one(run, tmp_path, candidates):
    file = candidates(boxed(4), boxed(5), boxed("5.0"), "I think 5", "the boxed one", boxed(6), "")
    metrics = run("select", f"input={file}", "stage.method=majority", to="s")
    (row,) = read_rows(tmp_path / "s")
    assert row["response_answer"] in ("5", "5.0") and row["votes"] == 2 and row["rank"] == 0
    assert row["candidates"] == 7 and row["selected_by"] == "majority" and row["query"] == QUESTION
    assert Counter(r["reason"] for r in read_rejects(tmp_path / "s")) == {"no_answer": 3, "not_chosen": 3}
    assert metrics["rows"] + metrics["rejects"] == 7
    kept = [json.loads(r["row"]) for r in read_rejects(tmp_path / "s") if r["reason"] == "not_chosen"]
    assert sorted(r["rank"] for r in kept) == [1, 2, 3] and all(r["votes"] for r in kept)


def test_reward_takes_the_best_scored_and_keeps_all_scores(run, tmp_path, candidates):
    file = candidates(boxed(4), boxed(4), boxed(5), boxed(4))
    metrics = run("select", f"input={file}", to="s")
    (row,) = read_rows(tmp_path / "s")
    assert row["response_answer"] == "5" and row["reward"] == 1.0 and row["reward_model"]
    assert row["votes"] is None  # nothing here reads them
    kept = [json.loads(r["row"]) for r in read_rejects(tmp_path / "s")]
    assert all(0 < r["reward"] < 0.7 for r in kept)
    assert [r["reward"] for r in sorted(kept, key=lambda r: r["rank"])] == sorted(r["reward"] for r in kept)[::-1]
    assert metrics["correct/chosen"] == 1.0 and metrics["correct/random"] == 0.25


def test_weighted_vote_sets_many_poor_answers_against_one_good(run, tmp_path, candidates):
    file = candidates(boxed(5), boxed(4), boxed("4.0"), boxed("4"))
    run("select", f"input={file}", "stage.method=weighted", to="s")
    (row,) = read_rows(tmp_path / "s")
    assert row["response_answer"] in ("4", "4.0") and row["votes"] == 3  # e^0.3 to 1 is not enough against three


def test_check_takes_a_right_one_and_without_a_reference_the_majority(run, tmp_path, candidates):
    file = candidates(boxed(4), boxed(4), boxed(5), answer="5")
    candidates(boxed(7), boxed(8), boxed(8), question="What?")
    candidates(boxed(1), question="Which?", answer="2")
    metrics = run("select", f"input={file}", "stage.method=check", to="s")
    assert [r["response_answer"] for r in read_rows(tmp_path / "s")] == ["5", "8"]
    assert metrics["rejects/wrong"] == 3 and metrics["items"] == 3


KEPT = [
    # settings, the answers kept in their order, why the others are not
    ("majority stage.keep=top_k", ["4", "4"], {"not_chosen": 3, "no_answer": 1}),
    ("majority stage.keep=top_k stage.top_k=9", ["4", "4", "4", "5", "6"], {"no_answer": 1}),
    ("majority stage.keep=all", ["4", "4", "4", "5", "6"], {"no_answer": 1}),
    ("majority stage.keep=agreeing", ["4", "4", "4"], {"not_chosen": 2, "no_answer": 1}),
    ("reward stage.keep=agreeing", ["5"], {"not_chosen": 4, "no_answer": 1}),
    ("reward stage.keep=all stage.min_reward=0.9", ["5"], {"low_reward": 4, "no_answer": 1}),
    ("reward stage.min_reward=1.5", [], {"low_reward": 5, "no_answer": 1}),
    ("reward stage.min_agreement=0.5", ["5"], {"not_chosen": 4, "no_answer": 1}),
    ("reward stage.min_agreement=0.51", [], {"low_agreement": 5, "no_answer": 1}),
    ("weighted stage.keep=agreeing", ["4", "4", "4"], {"not_chosen": 2, "no_answer": 1}),
]


@pytest.mark.parametrize(("settings", "kept", "reasons"), KEPT)
def test_which_candidates_of_a_question_stay(run, tmp_path, candidates, settings, kept, reasons):
    file = candidates(boxed(4), boxed(4), boxed(5), boxed(4), boxed(6), "none")
    metrics = run("select", f"input={file}", *f"stage.method={settings}".split(), to="s")
    rows = list(read_rows(tmp_path / "s"))
    assert sorted(row["response_answer"] for row in rows) == sorted(kept)
    assert Counter(r["reason"] for r in read_rejects(tmp_path / "s")) == reasons
    assert len({row["id"] for row in rows}) == len(rows) and metrics["rows"] + metrics["rejects"] == 6
    assert [row["rank"] for row in rows] == list(range(len(rows))) and all(row["candidates"] == 6 for row in rows)


def test_a_question_whose_best_answer_is_not_the_judges_goes(run, tmp_path, candidates):
    for name, reply in (("a", "\\boxed{5.0}\nAnswer: Yes"), ("b", "\\boxed{4}\nAnswer: Yes"), ("c", None)):
        file = candidates(boxed(5), boxed(5), boxed(4), question=name, judge_reply=reply)
    run("select", f"input={file}", "stage.method=majority", "stage.judge_answers=true", to="s")
    assert [(r["question"], r["response_answer"]) for r in read_rows(tmp_path / "s")] == [("a", "5")]
    doubts = [r["detail"] for r in read_rejects(tmp_path / "s") if r["reason"] == "judge_differs"]
    assert len(doubts) == 6 and all("answer is 4, not" in d or "answer is missing" in d for d in doubts)


def test_every_kept_candidate_tells_its_story(run, tmp_path, candidates):
    from sq.synth.why import why

    run("answers", "input=domain", "limit=2", "stage.n=3", to="a")
    run("select", f"input={tmp_path / 'a'}", "stage.method=majority", "stage.keep=all", to="s")
    rows = list(read_rows(tmp_path / "s"))
    assert len(rows) > 2
    for row in rows:
        assert "select" in (story := why(row["id"], [tmp_path])) and row["question"][:20] in story


def test_rows_left_out_of_a_question_do_not_part_its_candidates(run, tmp_path, candidates, caplog):
    from sq.synth.why import why

    file = candidates(boxed(4), "a longer one, which is left out: " + boxed(5), boxed(4))
    with caplog.at_level("INFO"):
        metrics = run("select", f"input={file}", "stage.method=majority", "where='len(response) < 30'", to="s")
    line = "select: 1 question in -> 1 row, 1 reject (1 not_chosen), 1 row of the input left out by where ->"
    assert line in caplog.text
    assert metrics["rows"] == 1 and metrics["rejects/left_out"] == 1 and metrics["rejects/not_chosen"] == 1
    (left,) = (r for r in read_rejects(tmp_path / "s") if r["reason"] == "left_out")
    assert "not where len(response) < 30" in why(left["id"], [tmp_path])


@pytest.mark.parametrize("source", ["file", "mix", "shuffle"])
def test_candidates_that_do_not_stand_together_are_of_one_question(run, tmp_path, candidates, source):
    for response in (boxed(4), boxed(5), boxed(4)):
        for question in ("What is 2 + 2?", "Which?"):
            file = candidates(response, question=question)
            apart = candidates(response, question=question, name=f"{response == boxed(5)}.jsonl")
    given = {
        "file": f"input={file}",
        "shuffle": f"source.input={file} source.shuffle=true",
        "mix": f"source.mix={{a:{{input:{tmp_path}/True.jsonl}},b:{{input:{tmp_path}/False.jsonl}}}}",
    }[source]
    assert apart != file
    metrics = run("select", *given.split(" "), "stage.method=majority", to="s")
    rows = list(read_rows(tmp_path / "s"))
    assert sorted(row["question"] for row in rows) == ["What is 2 + 2?", "Which?"] and metrics["items"] == 2
    assert all((row["response_answer"], row["votes"], row["candidates"]) == ("4", 2, 3) for row in rows)


def test_a_bar_for_rewards_that_nobody_gives_is_refused(job):
    with pytest.raises(ConfigError, match="min_reward=0.5 needs rewards, which method=majority does not ask for"):
        job("select", "input=x", "stage.method=majority", "stage.min_reward=0.5")


@pytest.mark.parametrize("method", ["majority", "check"])
def test_questions_compared_together_come_out_as_one_by_one(run, tmp_path, candidates, monkeypatch, method):
    for i in range(7):
        reference = {"answer": str(i % 3)} if i % 2 else {}
        given = [boxed(n % (i + 1)) for n in range(i)] + ["no answer", boxed(f"{i}.0")]
        file = candidates(*given, question=f"Question {i}?", **reference)
    found = []
    for together in (1, 3, 64):
        monkeypatch.setattr("sq.synth.select.TOGETHER", together)
        where = f"{method}-{together}"
        run("select", f"input={file}", f"stage.method={method}", "domain=math", "engine.domain=arithmetic", to=where)
        found.append((list(read_rows(tmp_path / where)), list(read_rejects(tmp_path / where))))
    assert found[0] == found[1] == found[2] and len(found[0][0]) > 3


def test_ties_are_broken_by_the_seed_alone(run, tmp_path, candidates):
    for i in range(40):
        file = candidates(boxed(1), boxed(2), question=f"Question {i}?")
    chosen = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("select", f"input={file}", "stage.method=majority", f"seed={seed}", to=name)
        chosen[name] = [r["response_answer"] for r in read_rows(tmp_path / name)]
    assert chosen["a"] == chosen["b"] != chosen["c"]
    assert 5 < chosen["a"].count("1") < 35


def test_another_seed_is_refused_there(run, candidates):
    file = candidates(boxed(1), boxed(2))
    run("select", f"input={file}", "stage.method=majority", to="s")
    with pytest.raises(LedgerError, match="seed: 0 there, 1 now"):
        run("select", f"input={file}", "stage.method=majority", "seed=1", to="s")


def test_another_domain_is_named_where_it_is_refused(run, candidates):
    file = candidates(boxed(1), boxed(2))
    run("select", f"input={file}", "stage.method=majority", to="s")
    with pytest.raises(LedgerError, match="Checker and extractor are those of domain="):
        run("select", f"input={file}", "stage.method=majority", "domain=math", "engine.domain=arithmetic", to="s")


def test_a_cut_off_answer_is_no_answer_unless_asked_for(run, tmp_path, candidates):
    file = candidates(boxed(5), response_finish_reason="length", response_tokens=9)
    assert run("select", f"input={file}", "stage.method=majority", to="s")["rejects/cut_off"] == 1
    more = ["stage.method=majority", "stage.keep_cut_off=true"]
    assert run("select", f"input={file}", *more, to="t")["rows"] == 1


def test_best_of_five_beats_a_random_one_by_the_oracle(run, tmp_path):
    run("answers", "input=domain", "limit=80", "engine.error_rate=0.5", to="a")
    metrics = run("select", f"input={tmp_path / 'a'}", "engine.error_rate=0.05", to="s")
    assert metrics["correct/chosen"] > metrics["correct/random"] + 0.2
    assert metrics["rows"] + metrics["rejects"] == 400


def test_a_model_that_cannot_score_says_so(run, candidates, monkeypatch):
    def refuse(self, requests):
        raise EngineError("model tiny is served to generate; it cannot score")
        yield

    monkeypatch.setattr(OracleEngine, "score", refuse)
    with pytest.raises(EngineError, match="cannot score"):
        run("select", f"input={candidates(boxed(5))}", to="s")


@pytest.mark.parametrize("engine", ["vllm", "hf", "openai"])
def test_a_model_that_gives_no_rewards_is_told_before_an_engine_starts(run, tmp_path, candidates, engine):
    file = candidates(boxed(1), boxed(2))
    with pytest.raises(ConfigError, match="stage.method=reward needs a reward model, and model=tiny is none"):
        run("select", f"input={file}", f"engine={engine}", "model=tiny", to="s")


REPLIES = (
    boxed(5),
    "The answer is 5.",
    "I think 5",
    "<think>Is it \\boxed{4}?</think>It is \\boxed{6}.",
    "<think>It is \\boxed{4}.</think>Hm.",
    "<think>It is \\boxed{4}.",
    "[[It is \\boxed{4}.]]So 5 it is.",
)


def test_a_reference_is_no_response(job, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 plus 1?", "answer": "2"}\n')
    chosen = job("select", f"input={tmp_path / 'q.jsonl'}", "stage.method=majority")
    with pytest.raises(RowError, match=r"has no column 'response'.* It has: question, answer"):
        chosen.stage.spec(chosen)


@pytest.mark.parametrize("domain", [ArithmeticDomain, QADomain])
@pytest.mark.parametrize(("marks", "read_again"), [("[]", 0), ("['[[',']]']", 2)])
def test_kept_answers_are_those_to_extract(run, tmp_path, candidates, monkeypatch, domain, marks, read_again):
    completions = tuple(Completion(text=text, finish_reason="stop", tokens=9) for text in REPLIES)
    monkeypatch.setattr(OracleEngine, "_answer", lambda self, r: Result(key=r.key, completions=completions))
    settings = [f"domain={'math' if domain is QADomain else 'arithmetic'}", "engine.domain=arithmetic"]
    reasoning = f"model.chat.reasoning={marks}"
    run("answers", *settings, reasoning, f"stage.n={len(REPLIES)}", f"input={candidates('', '')}", "limit=1", to="a")
    calls, extract = [], domain.final_answer
    monkeypatch.setattr(
        domain, "final_answer", lambda self, text, **own: calls.append(text) or extract(self, text, **own)
    )

    def select(source, to):
        calls.clear()
        run("select", *settings, f"input={source}", to=to)
        rejects = [{**r, "row": json.loads(r["row"])} for r in read_rejects(tmp_path / to)]
        return len(calls), [*read_rows(tmp_path / to), *rejects]

    few, kept = select(tmp_path / "a", "kept")
    monkeypatch.setattr(domain, "extractor", "another")
    every, extracted = select(tmp_path / "a", "extracted")
    assert (few, every) == (read_again, len(REPLIES) - 1)
    assert [without_run(row) for row in kept] == [without_run(row) for row in extracted]


def without_run(row):
    return {k: without_run(v) if isinstance(v, dict) else v for k, v in row.items() if k != "run"}


def test_answers_of_a_file_are_extracted(run, tmp_path, candidates):
    file = candidates(boxed(4), boxed(5), response_answer="7")
    run("select", f"input={file}", to="s")
    assert [row["response_answer"] for row in read_rows(tmp_path / "s")] == ["5"]


@pytest.mark.parametrize("columns", [None, {"response": "question"}])
def test_what_made_the_rows_is_known_only_where_they_are_read_as_they_are(run, tmp_path, columns):
    run("answers", "input=domain", "limit=1", to="a")
    made = config_of_stage(SourceConfig(input=str(tmp_path / "a"), columns=columns))
    assert made.get("extractor") == (None if columns else ArithmeticDomain().extractor)
