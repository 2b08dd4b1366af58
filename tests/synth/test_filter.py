"""The chain: order, counts that reconcile, verdicts as columns, scores reused; and each filter on small cases."""

import json
import random

import pytest

from sq.core.errors import ConfigError, DirectoryError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain, unsolvable
from sq.domains.oracle import OracleEngine
from sq.engine.base import Completion, Result
from sq.synth.score_store import ScoreStore


@pytest.fixture
def questions(tmp_path):
    def write(texts, name="q.jsonl", **more):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"question": t, **more}, ensure_ascii=False) + "\n" for t in texts))
        return path

    return write


@pytest.fixture
def chain(run, tmp_path):
    def done(filters, file, *more, to="f"):
        metrics = run("filter", f"filters=[{filters}]", f"input={file}", f"stage.scores={tmp_path / 's'}", *more, to=to)
        assert metrics["items"] == metrics["rows"] + metrics["rejects"]
        return metrics

    return done


def seeds(count, seed=0):
    return [row["question"] for row in ArithmeticDomain().seeds(count, seed, "train")]


def test_every_row_comes_out_once_with_its_verdicts_or_its_reason(chain, questions, tmp_path):
    good = seeds(40)
    bad = [unsolvable(q, random.Random(i))[0] for i, q in enumerate(seeds(20, seed=9))]
    texts = [*good, *bad, good[0], "Tom hat 3 Äpfel und kauft 4 weitere. Wie viele Äpfel hat er jetzt?", "Apples."]
    metrics = chain("format,language,duplicates,solvability", questions(texts))
    assert metrics["rows"] == 40 and metrics["rejects/language"] == 1 and metrics["rejects/duplicate"] == 1
    assert metrics["rejects/unsolvable"] + metrics["rejects/format"] == 21
    rows = list(read_rows(tmp_path / "f"))
    assert [r["question"] for r in rows] == good
    assert all(r["solvable"] == "yes" and r["judge_reply"] and r["language"] == "en" and r["well_formed"] for r in rows)
    assert metrics["oracle/solvable"] == 1.0
    (repeat,) = [r for r in read_rejects(tmp_path / "f") if r["reason"] == "duplicate"]
    assert json.loads(repeat["row"])["duplicate_of"] == rows[0]["id"]


def test_the_chain_runs_in_the_order_it_is_given(chain, questions, tmp_path):
    good = seeds(1)[0]
    broken, _ = unsolvable(good, random.Random(1))
    file = questions([broken, broken, good])
    assert chain("solvability,duplicates", file, to="a").get("rejects/duplicate") is None
    assert chain("duplicates,solvability", file, to="b")["rejects/duplicate"] == 1


def test_what_the_judge_said_is_not_asked_again(chain, questions, tmp_path, monkeypatch):
    file = questions(seeds(30) * 2 + seeds(5, seed=3))
    asked = []
    answer = OracleEngine.generate
    monkeypatch.setattr(
        OracleEngine, "generate", lambda self, requests: answer(self, (asked.append(r.key) or r for r in requests))
    )
    first = chain("solvability", file, "engine.error_rate=0.3", to="a")
    assert len(asked) == len(set(asked)) == 35
    again = chain("format,solvability", file, "engine.error_rate=0.3", to="b")
    assert len(asked) == 35 and again["rows"] == first["rows"]
    kept = chain("solvability", file, "engine.error_rate=0.3", "filters.solvability.keep_unparsable=true", to="c")
    assert len(asked) == 35 and kept["rows"] == first["rows"] + first["rejects/unparsable"]
    prompt = "filters.solvability.prompt=code_judge_solvability"
    chain("solvability", file, "engine.error_rate=0.3", prompt, to="d")
    assert len(asked) == 70, "another prompt is another question to the judge"


def test_votes_outweigh_a_judge_that_errs(chain, questions):
    file = questions(seeds(80))
    more = ["engine.error_rate=0.3", "filters.solvability.temperature=0.7"]
    one = chain("solvability", file, *more, to="a")
    nine = chain("solvability", file, *more, "filters.solvability.votes=9", to="b")
    assert one["rows"] < 70 < nine["rows"]


def judge_replies(monkeypatch, *replies):
    """A judge that gives these replies, each with how it ended, to every question."""
    completions = tuple(Completion(text=text, finish_reason=finish) for text, finish in replies)
    results = lambda self, requests: (Result(key=r.key, completions=completions) for r in requests)  # noqa: E731
    monkeypatch.setattr(OracleEngine, "generate", results)


def test_a_prompt_that_asks_for_no_yes_or_no_is_refused(chain, questions):
    with pytest.raises(ConfigError, match="prompt=classify_topic asks for no Yes or No"):
        chain("solvability", questions(seeds(1)), "filters.solvability.prompt=classify_topic")


@pytest.mark.parametrize(
    ("replies", "solvable"),
    [
        ([("Answer: Yes", "stop"), ("Answer: No", "stop")], "unparsable"),
        ([("Answer: Yes", "stop"), ("Hm.", "stop")], "yes"),
        ([("Answer: Yes", "length"), ("Answer: No", "stop")], "no"),
        ([("Answer: Yes", "length"), ("Answer: Yes", "length")], "unparsable"),
    ],
)
def test_a_tie_is_no_verdict_and_a_reply_that_was_cut_off_has_no_vote(
    chain, questions, tmp_path, monkeypatch, replies, solvable
):
    judge_replies(monkeypatch, *replies)
    chain("solvability", questions(seeds(1)), "filters.solvability.votes=2", "filters.solvability.temperature=0.7")
    rows = [*read_rows(tmp_path / "f"), *(json.loads(r["row"]) for r in read_rejects(tmp_path / "f"))]
    assert [row["solvable"] for row in rows] == [solvable]
    assert len(list(read_rows(tmp_path / "f"))) == (solvable == "yes")


def test_another_seed_asks_the_judge_again(chain, questions, tmp_path):
    file, more = questions(seeds(40)), ["engine.error_rate=0.5", "filters.solvability.temperature=0.7"]
    kept = {}
    for seed, to in ((1, "a"), (1, "b"), (2, "c")):
        chain("solvability", file, *more, f"seed={seed}", to=to)
        kept[to] = [row["question"] for row in read_rows(tmp_path / to)]
    assert kept["a"] == kept["b"] != kept["c"]


def test_a_text_whose_language_is_not_plain_stays(chain, questions):
    """As shipped: English words that might be Latin with a confidence of 0.71, Romanian with 0.6."""
    texts = ["Determine mode, median, range, mean, variance.", "Triangle area perimeter median altitude?"]
    assert chain("language", questions(texts))["rows"] == 2


def test_the_judges_error_is_measured_on_planted_variants(chain, questions):
    file = questions(seeds(120))
    metrics = chain(
        "solvability",
        file,
        "engine.error_rate=0.2",
        "filters.solvability.measure=true",
        "filters.solvability.planted=100",
    )
    assert metrics["judge/planted"] == 100 and metrics["rows"] + metrics["rejects"] == 120
    assert metrics["judge/recall_low"] < 0.8 < metrics["judge/recall_high"]
    assert metrics["judge/wrongly_removed_low"] < 0.2 < metrics["judge/wrongly_removed_high"]
    assert not any("precision" in key for key in metrics if key.startswith("judge/")), "planted: no mix that a run has"


def test_the_oracle_tells_the_judges_error_on_what_it_judged(chain, questions):
    file = questions([*seeds(60), *(unsolvable(q, random.Random(i))[0] for i, q in enumerate(seeds(60, seed=9)))])
    exact = chain("solvability", file, to="a")
    assert exact["oracle/judge_precision"] == exact["oracle/judge_recall"] == 1.0
    erring = chain("solvability", file, "engine.error_rate=0.3", to="b")
    assert 0.5 < erring["oracle/judge_precision"] < 0.9 and 0.5 < erring["oracle/judge_recall"] < 0.95
    assert erring["oracle/judge_kept_solvable"] == pytest.approx(erring["oracle/solvable"]), "it alone has filtered"
    assert exact["oracle/judge_kept_solvable"] == 1.0 > erring["oracle/judge_kept_solvable"]


def test_a_question_that_the_judge_cannot_be_asked_is_rejected(chain, questions, monkeypatch):
    answer = OracleEngine._answer

    def failing(self, request):
        if "Kangaroo" in request.messages[0]["content"]:
            return Result(key=request.key, error="too long", refused=True)
        return answer(self, request)

    monkeypatch.setattr(OracleEngine, "_answer", failing)
    metrics = chain("solvability", questions([*seeds(3), "Where is the Kangaroo now?"]))
    assert metrics["rows"] == 3 and metrics["rejects/refused"] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("How many apples does Tom have now?", None),
        ("Find $x$ if $x + 1 = 2$.", None),
        ("Tom has 3 apples and 5 pears.", "asks nothing"),
        ("Löse die Gleichung 2x + 3 = 11.", "English (filters.format.needs_question=false"),
        ("What?", "5 characters"),
        ("What is 2 + 2? The answer is 4.", "holds a solution"),
        ("What is 2 + 2?\nSolution: 4", "holds a solution"),
        ("What is 2 + 2? \\boxed{4}", "holds a solution"),
        ("A solution of salt: how much salt is in 3 litres of a 10% solution?", None),
    ],
)
def test_format(text, problem):
    from sq.synth.filters.format import FormatFilter

    defect = FormatFilter().problem(text)
    assert defect is None if problem is None else problem in defect


def test_overlap_removes_offenders_and_ignores_boilerplate(chain, questions, tmp_path):
    shared = "A train leaves the station at noon and travels north at sixty miles an hour for three hours straight."
    common = "Express your answer as a common fraction in lowest terms and give no units at all please."
    bench = questions(
        [f"{shared} How far is it?", *[f"Item number {i} of many. {common}" for i in range(6)]], "b.jsonl"
    )
    mine = questions([f"Listen. {shared} When does it stop?", f"What is half of a third? {common}", "What is 2 + 2?"])
    metrics = chain("overlap", mine, f"filters.overlap.benchmarks={{bench: {bench}}}")
    assert metrics["rejects/overlap"] == 1 and metrics["rows"] == 2
    assert metrics["overlap/bench/clean"] == pytest.approx(6 / 7)
    (reject,) = read_rejects(tmp_path / "f")
    row = json.loads(reject["row"])
    assert row["overlap_benchmark"] == "bench" and 0 < row["overlap"] < 1 and "train leaves" in row["overlap_ngram"]


def words(stem, count):
    return " ".join(f"{stem}{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(count))


def test_thirteen_words_in_common_are_an_overlap_and_twelve_are_not(chain, questions, tmp_path):
    """As shipped: the length of the paper's n-grams (v2, Table 6)."""
    item = words("item", 40)
    mine = [
        f"{words('x', 5)} {' '.join(item.split()[7:20])} {words('y', 5)}",
        f"{words('z', 5)} {' '.join(item.split()[20:32])} {words('w', 5)}",
    ]
    bench = questions([item], "b.jsonl")
    chain("overlap", questions(mine), f"filters.overlap.benchmarks={{bench: {bench}}}")
    (row,), (reject,) = read_rows(tmp_path / "f"), read_rejects(tmp_path / "f")
    assert row["question"] == mine[1] and json.loads(reject["row"])["question"] == mine[0]


def test_a_similarity_of_081_is_a_duplicate_and_of_079_is_none(chain, questions, tmp_path):
    """As shipped. Of words that are all different one is another: three shingles of 28 on either side, or of 26."""

    def pair(stem, count):
        text = words(stem, count)
        return text, text.replace(text.split()[count // 2], "another")

    near = [pair(f"n{i}x", 30) for i in "abcdefghijklmnop"]
    far = [pair(f"f{i}x", 28) for i in "abcdefghijklmnop"]
    chain("duplicates", questions([text for each in near + far for text in each]))
    rejects = [json.loads(reject["row"]) for reject in read_rejects(tmp_path / "f")]
    assert {row["duplicate_similarity"] for row in rejects} == {25 / 31}  # 0.806; 23 / 29 is 0.793
    assert len(rejects) >= 14  # LSH brings a pair together with a chance of 0.99


def test_overlap_without_benchmarks_is_told(chain, questions):
    with pytest.raises(ConfigError, match="needs benchmarks"):
        chain("overlap", questions(["What is 2 + 2?"]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["filters=[]"], "needs filters"),
        (["filters=[difficulty]"], "needs a scorer"),
        (
            ["filters=[difficulty]", "filters.difficulty.model={name: s, path: ./gone}"],
            r"^filters\.difficulty\.model\.path='\./gone' is no directory",
        ),
        (
            ["filters=[difficulty]", "filters.difficulty.model={name: s, path: 'package:tiny'}"],
            r"^filters\.difficulty\.model\.path='package:tiny' is no difficulty regressor",
        ),
        (["filters=[solvability]", "filters.solvability.votes=3"], "all the same; raise temperature"),
    ],
)
def test_slips(run, questions, more, message):
    with pytest.raises(ConfigError, match=message):
        run("filter", f"input={questions(['What is 2 + 2?'])}", *more, to="x")


def test_a_torn_or_damaged_line_of_the_store_is_scored_again(tmp_path):
    with ScoreStore(tmp_path / "s") as scores:
        for i in range(3):
            scores.put(f"k{i}", {"text": "é" * i})
    path = tmp_path / "s" / "scores.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"text":""', b'"text":"x"') + b"00000000 k3 {")
    with ScoreStore(tmp_path / "s") as scores:
        assert "k0" not in scores and "k3" not in scores and len(scores) == 2
        assert scores.get("k2") == {"text": "éé"}
        scores.put("k4", 1)
        assert scores.get("k4") == 1
    with ScoreStore(tmp_path / "s") as scores:
        assert len(scores) == 3 and scores.get("k4") == 1


def test_lines_of_two_inputs_of_one_name_are_two_items(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"question": f"What is {i} plus {len(name)}?", "lang": name}) for i in range(3)]
        (tmp_path / name / "q.jsonl").write_text("\n".join([*rows, f"no json of {name}"]))
        run("filter", f"input={tmp_path}/{name}/q.jsonl", "filters=[format]", to=f"{name}/filter")
    first = "where='question != \"What is 0 plus 1?\"'"
    for inner, bad in (("filter", 0), ("q.jsonl", 2)):
        mix = "{" + ",".join(f"{name}: {{input: {tmp_path}/{name}/{inner}}}" for name in ("a", "b")) + "}"
        metrics = run("answers", f"source.mix={mix}", first, "stage.n=1", to=f"answers-{inner}")
        assert metrics["items"] == 6 + bad and metrics["rejects/left_out"] == 2
    directory = run("filter", f"input={tmp_path}/*/q.jsonl", "filters=[format]", to="both")
    assert directory["rejects/broken_json"] == 2


def test_a_store_that_cannot_be_made_names_the_setting_that_places_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        DirectoryError, match=r"file/s: cannot make it: Not a directory.* choose another stage\.scores\."
    ):
        ScoreStore(tmp_path / "file" / "s")
