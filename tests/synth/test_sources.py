"""Question sources: each end to end with the exact oracle in the model's place, and what all of them share."""

import json
import random
from collections import defaultdict

import pytest
from forked_workers import fork_workers
from test_killed import content

from sq.core.compose import compose, loosened
from sq.core.config import build
from sq.core.errors import ConfigError, EngineError, RowError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain, analyse
from sq.domains.arithmetic.backward import analyse as analyse_backward
from sq.domains.arithmetic.question_writers import rephrased
from sq.domains.oracle import OracleEngine
from sq.synth.annotate import concept_list
from sq.synth.config import SynthJob
from sq.synth.sources.concepts import ConceptGraph
from sq.synth.sources.dart import DartSource
from sq.synth.sources.metamath import masked_number
from sq.synth.sources.weakness import Weakness
from sq.synth.why import why

ROUNDS = {"fewshot": 1, "evol": 3, "metamath": 1, "orca": 2, "iqc": 3, "backtranslate": 1, "mathscale": 1, "kpmath": 1}


@pytest.fixture
def seeds(tmp_path):
    path = tmp_path / "seeds.jsonl"
    rows = list(ArithmeticDomain().seeds(10, 5, "train"))
    path.write_text("".join(json.dumps({k: row[k] for k in ("question", "answer", "solution")}) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("source", ROUNDS)
def test_a_source_writes_solvable_questions_with_their_lineage(run, seeds, tmp_path, source):
    given = f"input={seeds}"
    if source in ("mathscale", "kpmath"):
        assert run("annotate", given, to="annotated")["concepts"] > 3
        given = f"input={tmp_path}/annotated"
    metrics = run("questions", f"source={source}", given, "stage.count=6", to="q")
    rows = list(read_rows(tmp_path / "q"))
    assert metrics["items"] == 6 and len(rows) + metrics["rejects"] >= 6 * ROUNDS[source] - 2
    assert metrics["oracle/solvable"] == 1.0 and 0 < metrics["distinct_3grams"] <= 1
    assert {row["question_source"] for row in rows} == {source}
    assert len({row["id"] for row in rows}) == len(rows)
    asked = "annotated" if source in ("mathscale", "kpmath") else None
    origins = {row["id"]: row["question"] for row in read_rows(tmp_path / asked)} if asked else {}
    story = why(rows[-1]["id"], [tmp_path])
    for row in rows:
        assert row["parents"] and row["model"] and row["question"] not in origins.values()
        assert row["round"] == sum(parent in {r["id"] for r in rows} for parent in row["parents"])
        assert not asked or (set(row["parents"]) <= set(origins) and row["concepts"])
    assert f"question_source: {source}" in story and all(parent in story for parent in rows[-1]["parents"])


def test_a_source_of_several_requests_is_the_same_by_two_workers_and_after_a_breakdown(
    run, job, seeds, tmp_path, monkeypatch
):
    given = ("source=orca", f"input={seeds}", "stage.count=12", "engine.error_rate=0.2", "part_size=4")
    run("questions", *given, to="calm")
    assert {r["reason"] for r in read_rejects(tmp_path / "calm")} & {"unparsed", "unchanged"}
    with monkeypatch.context() as patch:
        fork_workers(patch)
        run("questions", *given, "workers=2", to="two")
    assert content(tmp_path / "two") == content(tmp_path / "calm")

    answer, calls = OracleEngine._answer, iter(range(20))

    def break_down(self, request):
        if next(calls, None) is None:
            raise EngineError("the engine broke down")
        return answer(self, request)

    with monkeypatch.context() as patch:
        patch.setattr(OracleEngine, "_answer", break_down)
        with pytest.raises(EngineError, match="broke down"):
            run("questions", *given, to="broken")
    assert run("questions", *given, to="broken")["resumed"] > 0
    assert content(tmp_path / "broken") == content(tmp_path / "calm")


def test_more_items_keep_the_first_and_another_seed_makes_others(run, seeds, tmp_path):
    for to, more in {"a": ["stage.count=5"], "b": ["stage.count=15"], "c": ["stage.count=5", "seed=1"]}.items():
        run("questions", "source=evol", "stage.source.rounds=1", f"input={seeds}", *more, to=to)
    first, longer, other = ([row["id"] for row in read_rows(tmp_path / name)] for name in "abc")
    assert first == longer[:5] and len(set(longer)) == 15 and not set(first) & set(other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source=evo"], r"source=evo is not one of backtranslate, .*did you mean 'evol'"),
        (["source=evol", "engine=oracle", "stage.generators={tiny: 1}"], r"stage\.generators=.* is for source=prefix"),
        (["source=prefix", "engine=oracle"], r"takes whole messages"),
        (["source=evol", "stage.source.rounds=0"], r"stage\.source\.rounds=0 must be at least 1"),
        (["source=evol", "stage.source.round=2"], r"unknown key 'stage\.source\.round'.* did you mean 'rounds'"),
        (["source=orca", "~stage.source.prompts.edit"], r"prompts\.edit is missing: source=orca asks with suggest"),
        (["source=metamath", "stage.source.shares={fobr: 1}"], r"must weigh some of rephrase, self_verification"),
        (["source=mathscale", "engine=oracle", "input=SEEDS"], r"no column 'concepts'"),
        (
            ["source=backtranslate", "engine=oracle", "input=CSV"],
            r"^source=backtranslate takes rows with question, solution: q.csv has no column 'solution'\. It has",
        ),
        (["source=fixed", "engine=oracle", "input=nowhere.csv"], r"^there is no file or directory nowhere.csv"),
        (["source=evol", "engine=oracle", "domain=math"], r"domain=math has no oracle .*as model=NAME engine=vllm"),
        (["source=fixed", "engine=oracle"], r"stage=questions reads rows: give input="),
        (["source=concepts", "engine=oracle", "input=SEEDS"], r"no column 'concepts'"),
        (["stage=answers", "source=evol"], r"source= chooses where stage=questions has its questions from"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_an_error_that_names_the_fix(seeds, tmp_path, overrides, message):
    (tmp_path / "q.csv").write_text("question\nHow many apples?\n")
    given = [o.replace("SEEDS", str(seeds)).replace("CSV", f"{tmp_path}/q.csv") for o in overrides]
    stage = [] if any(o.startswith("stage=") for o in given) else ["stage=questions"]
    with pytest.raises((ConfigError, RowError), match=message):
        job = build(
            compose("synthesize", [*stage, *given, "tracking=none", f"output_dir={tmp_path}/q"], "sq.synth"), SynthJob
        )
        job.stage.spec(job)


def test_source_is_a_group_beside_the_settings_of_the_input():
    words = ["stage=questions", "source=iqc", "source.split=test", "stage.source.rounds=2"]
    node = compose("synthesize", words, "sq.synth")
    assert (node.stage.source.name, node.stage.source.rounds, node.source.split) == ("iqc", 2, "test")
    assert loosened("source={split: test}") != loosened("source=evol") == "source@stage.source=evol"


def test_a_fixed_set_keeps_its_ids_and_dart_says_how_many_answers(run, seeds, tmp_path):
    run("fail_rate", f"input={seeds}", "engine.error_rate=0.4", "stage.n=4", to="labels")
    labels = {row["id"]: row for row in read_rows(tmp_path / "labels")}
    run("questions", "source=fixed", f"input={tmp_path}/labels", "stage.count=7", to="fixed")
    assert [row["id"] for row in read_rows(tmp_path / "fixed")] == list(labels)[:7]
    run("questions", "source=dart", f"input={tmp_path}/labels", "stage.source.most=9", to="dart")
    wanted = {row["id"]: row["answers_wanted"] for row in read_rows(tmp_path / "dart")}
    assert wanted.keys() == labels.keys() and len(set(wanted.values())) > 1
    run("answers", f"input={tmp_path}/dart", "stage.n=2", to="answers")
    answers = [row["question_id"] for row in read_rows(tmp_path / "answers")]
    assert {key: answers.count(key) for key in wanted} == wanted


@pytest.mark.parametrize("stage_directory", [False, True])
def test_count_is_of_the_rows_that_where_leaves_and_others_stay_in_their_places(run, job, tmp_path, stage_directory):
    lines = [{"question": f"How much is {i} + {i}?", "level": "hard" if i > 8 else "easy"} for i in range(20)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:3] + [{"question": ""}] + lines[3:]))
    if stage_directory:
        run("questions", "source=fixed", f"input={path}", to="d")
        path = tmp_path / "d"
    given = ("source=fixed", f"input={path}", "where='level != \"easy\"'", "stage.count=5", "part_size=4")
    metrics = run("questions", *given, to="q")
    assert [row["question"] for row in read_rows(tmp_path / "q")] == [line["question"] for line in lines[9:14]]
    assert metrics["rejects"] == 9 + (not stage_directory) and metrics["items"] == metrics["rejects"] + 5
    for count in (5, 50):
        composed = job("questions", *given, f"stage.count={count}", f"output_dir={tmp_path}/q")
        spec = composed.stage.spec(composed)
        items = [item.key for item in spec.items()]
        assert all([item.key for item in spec.items_after(start)] == items[start:] for start in (0, 4, 12, 16, 20))


@pytest.mark.parametrize(
    ("allocation", "fail_rate", "samples"),
    [("uniform", 0.0, 4), ("uniform", 0.5, 8), ("uniform", 0.9, 20), ("uniform", 1.0, 20),
     ("prop2diff", 0.0, 1), ("prop2diff", 0.5, 4), ("prop2diff", 0.75, 12), ("prop2diff", 1.0, 20)],
)  # fmt: skip
def test_dart_samples_as_many_as_are_expected_to_hold_the_right_ones(allocation, fail_rate, samples):
    assert DartSource(name="dart", allocation=allocation, k=4, most=20).wanted(fail_rate) == samples


def test_metamath_rephrases_no_seed_where_rephrasing_has_no_weight(run, tmp_path):
    texts = [row["question"] for row in ArithmeticDomain().seeds(4, 0, "train")]
    lines = [{"question": text, **({"answer": "3"} if i % 2 else {})} for i, text in enumerate(texts)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shares = "stage.source.shares={rephrase: 0, self_verification: 0}"
    run("questions", "source=metamath", f"input={tmp_path}/q.jsonl", "stage.count=4", shares, to="m")
    assert {row["operation"] for row in read_rows(tmp_path / "m")} == {"fobar"}
    assert [(r["reason"], "no answer" in r["detail"]) for r in read_rejects(tmp_path / "m")] == [("unusable", True)] * 2


def test_metamath_masks_one_whole_number():
    text = "A shop has 1,200 pens at $5.50 and sells 15% in 2 days. How many are left?"
    masks = {masked_number(text, random.Random(i)) for i in range(40)}
    assert {number for _, number in masks} == {"1200", "5.50", "2"}
    assert all(masked.replace("x", "") != text and masked.count("x") == 1 for masked, _ in masks)
    assert masked_number("How many sides has a square?", random.Random(0)) is None
    for text in ("If 2x + 3 = 7, what is 5x + 1?", "Let 3xy = 12.", "Find x_1 + 2.", "What is yx^2 for 3?"):
        assert masked_number(text, random.Random(0)) is None, "it would have two unknowns of one name"
    assert masked_number("A box holds 6 foxes.", random.Random(0)) == ("A box holds x foxes.", "6")


def test_the_oracle_reads_backward_questions():
    forward = "There are 5 teams of 8 kids in the park. How many kids are in the park?"
    asked = "If we know the answer to the above question is {}, what is the value of the unknown variable x?"
    masked = forward.replace("5", "x")
    assert str(analyse_backward(f"{masked} {asked.format(40)}").answer) == "5"
    assert not analyse_backward(f"{masked} {asked.format(41)}").solvable
    assert analyse_backward(forward) == analyse(forward)


def test_the_oracle_rephrases_without_changing_the_answer():
    texts = [row["question"] for row in ArithmeticDomain().seeds(20, 1, "train")]
    others = [rephrased(text, random.Random(0)) for text in texts]
    assert [analyse(a).answer for a in texts] == [analyse(b).answer for b in others]
    assert sum(a != b for a, b in zip(texts, others, strict=True)) >= 15


def test_concepts_are_lines_and_their_graph_counts_what_stands_together():
    assert concept_list("1. Algebra: solving\n- **Algebra: solving**\n\n* Sets: unions\n---") == [
        "Algebra: solving",
        "Sets: unions",
    ]
    graph = ConceptGraph.of(
        [{"concepts": ["Algebra: solving", "sets: Unions"]}, {"concepts": ["algebra: solving"]}, {"concepts": []}]
    )
    assert graph.topics == {"algebra": 2, "sets": 1} and graph.topic_pairs["sets"] == {"algebra": 1}
    assert graph.point_pairs["unions"] == {"solving": 1} and graph.of_topic["algebra"] == [0, 1]


@pytest.fixture
def answered(tmp_path):
    """An evaluation's answers to twelve problems of each of two topics, 25% and 75% of them wrong, as a file."""
    domain, topics = ArithmeticDomain(), defaultdict(list)
    for row in domain.seeds(300, 1, "train"):
        topics[domain.oracle_label(row["question"]).topic].append(row["question"])
    most = sorted(topics, key=lambda name: -len(topics[name]))[:2]
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(
        json.dumps({"question": question, "correct": (n % 4 == 0) == (name == most[1])}) + "\n"
        for name in most for n, question in enumerate(topics[name][:12])
    ))  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("source", "concepts", "message"),
    [("mathscale", ": slope", "a concept with a topic"), ("kpmath", ": slope", "a concept with a topic"),
     ("concepts", "algebra: slope", "every answer of the input is right.*power=0")],
)  # fmt: skip
def test_what_there_is_nothing_to_draw_from_is_said(run, tmp_path, source, concepts, message):
    row = {"question": "What is 1 + 1?", "concepts": [concepts], "correct": True}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=message):
        run("questions", f"source={source}", f"input={tmp_path}/rows.jsonl", "engine=oracle", "stage.count=2", to="q")


def test_questions_on_concepts_are_drawn_by_what_was_answered_wrong(run, job, answered, tmp_path):
    run("annotate", f"input={answered}", to="annotated")
    problems = {row["id"]: row for row in read_rows(tmp_path / "annotated")}
    weakness = Weakness.of(problems.values())
    strong, weak = sorted(weakness.topics, key=lambda name: weakness.share(weakness.topics[name]))
    assert weakness.weak == [weak] and weakness.topics[weak].total == weakness.topics[strong].total == 12
    assert weakness.share(weakness.topics[weak]) == pytest.approx((9 + 0.5) / 13)
    given = ("source=concepts", f"input={tmp_path}/annotated", "stage.count=8")
    for power, share in ((0, 0.5), (1, 0.73), (3, 0.95)):
        source = job("questions", *given, f"stage.source.power={power}", "output_dir=none").stage.source
        turns = source.turns(list(problems.values()))
        drawn = [turns.at(n, random.Random(f"{power}:{n}")) for n in range(500)]
        assert abs(sum(turn.concepts[0] == weak for turn in drawn) / 500 - share) < 0.07
    metrics = run("questions", *given, to="q")
    rows = list(read_rows(tmp_path / "q"))
    assert metrics["oracle/solvable"] == 1.0 and {row["operation"] for row in rows} == {"practise"}
    for row in rows:
        parent = problems[row["parents"][0]]
        assert parent["correct"] is False, "a problem that was failed, where the topic has one"
        assert row["topic"] == row["concepts"][0] == parent["concepts"][0].split(":")[0]
    assert not {row["question"] for row in rows} & {row["question"] for row in problems.values()}
    story = why(rows[0]["id"], [tmp_path])
    assert "question_source: concepts" in story and rows[0]["parents"][0] in story and "correct: False" in story


def test_weakness_reads_fail_rates_and_the_rows_own_topics():
    rows = [
        {"topic": "Algebra", "concepts": ["equations: one unknown"], "fail_rate": 0.5},
        {"topic": "Algebra", "concepts": ["equations: two unknowns"], "fail_rate": 1.0},
        {"topic": "Geometry", "concepts": None, "fail_rate": 0.0},
        {"topic": "Geometry", "concepts": []},
    ]
    weakness = Weakness.of(rows)
    assert (weakness.every.wrong, weakness.every.total) == (1.5, 3) and weakness.weak == ["Algebra"]
    assert set(weakness.concepts["Algebra"]) == {"equations: one unknown", "equations: two unknowns"}
    one, two = (weakness.concepts["Algebra"][c] for c in sorted(weakness.concepts["Algebra"]))
    assert weakness.weight(two, 1.0) > weakness.weight(one, 1.0) and weakness.weight(two, 0.0) == 1.0
    with pytest.raises(ConfigError, match=r"annotate an evaluation's scores .*or labels of stage=fail_rate"):
        Weakness.of([{"topic": "Algebra", "concepts": []}])
