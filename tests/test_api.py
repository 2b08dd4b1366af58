"""`import sq`: its surface is pinned, importing it is light, each function takes and gives rows as people have them."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy
import pandas
import pytest

import sq
from sq import api
from sq.core.errors import ConfigError
from sq.core.ledger import read_manifest

ROOT = Path(__file__).parent.parent
APPLES = [
    {"question": f"Tom has {i} apples. He buys 3 more apples. How many apples does he have now?", "answer": str(i + 3)}
    for i in range(2, 6)
]
SURFACE = {
    "Model": "name path engine overrides",
    "Pipeline": "name overrides tiny",
    "answers": "rows model n domain settings",
    "evaluate": "model benchmark output_dir tracking overrides settings",
    "filter": "rows model filters domain settings",
    "grade": "prediction reference profile question tolerance relative_tolerance",
    "load_model": "name path engine overrides",
    "questions": "model count source rows domain settings",
    "rejects": "directory",
    "select": "rows model domain settings",
    "train": "stage rows model output_dir domain seed tracking overrides settings",
}
"""What other people's programs rely on: add to it, and change none of it without a line in the CHANGELOG."""


@pytest.fixture
def oracle():
    return sq.load_model("tiny", engine="oracle", overrides=["engine.error_rate=0"])


def test_the_surface_is_as_it_was_and_documented():
    assert sq.__all__ == list(SURFACE) and set(SURFACE) <= set(dir(sq))
    for name, parameters in SURFACE.items():
        function = getattr(api, name)
        assert list(inspect.signature(function).parameters) == parameters.split(), name
        assert function.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sq.nothing


def test_rejects_are_counted_once_and_what_is_printed_is_there(caplog):
    caplog.set_level("INFO", "sq")
    assert sq.filter([*APPLES, {"question": ""}], filters=["format"]).num_rows == len(APPLES)
    assert sum("4 rows used, 1 rejected" in record.getMessage() for record in caplog.records) == 1
    (line,) = (r.getMessage() for r in caplog.records if "next: " in r.getMessage())
    assert read_manifest(line.rpartition("input=")[2]).rows == len(APPLES)


@pytest.mark.parametrize(
    ("given", "kept", "output_dir"), [([*APPLES, {"question": "Hello"}], 4, True), ([{"question": "Hello"}], 0, False)]
)
def test_rows_that_are_lost_are_said_where_a_program_shows_warnings_alone(caplog, tmp_path, given, kept, output_dir):
    caplog.set_level("WARNING", "sq")
    where = {"output_dir": tmp_path / "out"} if output_dir else {}
    assert sq.filter(given, filters=["format"], **where).num_rows == kept
    (line,) = (r.getMessage() for r in caplog.records if "sq.rejects(" in r.getMessage())
    start, directory, end = line.split("'")
    (reject,) = sq.rejects(directory)
    assert start == f"filter: {kept} rows kept, 1 rejected (1 {reject['reason']}). sq.rejects("
    assert end == (") has them" if output_dir else ") has them until this Python ends; output_dir= keeps them")


def test_importing_it_is_light():
    code = "import sys, sq; sq.grade, sq.train, sq.Pipeline; print([m for m in HEAVY if m in sys.modules])"
    heavy = "HEAVY = ('torch', 'vllm', 'transformers', 'mlflow', 'lightning', 'datasets', 'pyarrow')\n"
    done = subprocess.run([sys.executable, "-c", heavy + code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_package_that_is_a_function_too_stays_one_whatever_is_imported_first():
    code = "import sq.train.config, sq; assert sq.train.config.TrainJob; sq.train('sfd', [{'q': 'q'}], output_dir='x')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ConfigError: stage=sfd is not one of" in done.stderr, done.stderr


def test_lists_of_dicts_go_in_and_data_sets_come_out(oracle):
    answered = sq.answers(APPLES, oracle, n=2)
    assert isinstance(answered, datasets.Dataset) and len(answered) == 8 and set(answered["correct"]) == {True}
    kept = sq.filter(APPLES + APPLES[:1], filters=["format", "duplicates"])
    assert len(kept) == 4 and kept[0]["question"] == APPLES[0]["question"]
    chosen = sq.select(sq.answers(kept, oracle, n=3))
    assert set(chosen["selected_by"]) == {"majority"} and len(chosen) == 4
    assert set(chosen["question_id"]) == set(kept["id"]), "rows keep their ids from stage to stage"


def test_questions_are_written_from_rows_by_a_source(oracle):
    written = sq.questions(oracle, count=4, source="evol", rows=APPLES)
    assert set(written["question_source"]) == {"evol"} and len(written) >= 4
    with pytest.raises(ConfigError, match="source=evo is not one of .*did you mean 'evol'"):
        sq.questions(oracle, count=4, source="evo")


def test_what_is_empty_has_its_columns(tmp_path):
    kept = sq.filter([{"question": "x"}], filters=["format"], output_dir=tmp_path / "none")
    assert kept["question"] == [] and sq.rejects(tmp_path / "none").num_rows == 1
    sq.filter(APPLES, filters=["format"], output_dir=tmp_path / "all")
    assert sq.rejects(tmp_path / "all")["reason"] == []


def test_numbers_of_numpy_are_numbers():
    kept = sq.filter([{**APPLES[0], "mine": numpy.float32(0.5), "list": numpy.arange(2)}],
                     filters=["format"])  # fmt: skip
    assert json.loads(kept["extra"][0]) == {"mine": 0.5, "list": [0, 1]}


def test_a_training_reads_rows_as_it_is_told(tmp_path):
    rows = [{"q": row["question"], "a": row["answer"], "take": n < 3} for n, row in enumerate(APPLES)]
    names = {"question": "q", "response": "a"}
    sq.train("sft", rows, "tiny-base", output_dir=tmp_path / "m", domain="math", columns=names, where="take == True",
             limit=2, max_steps=1, validation=0.0)  # fmt: skip
    config = json.loads((tmp_path / "m" / "train.json").read_text())["config"]
    assert {config["data.limit"], config["data.where"]} == {"2", "take == True"}


def test_a_blank_answer_of_a_dict_is_no_reference(oracle):
    answered = sq.answers([{**row, "answer": " "} for row in APPLES], oracle, n=2)
    assert len(answered) == 8 and not {"answer", "correct"} & set(answered.column_names)


def test_a_stage_takes_the_domain_of_its_rows(tmp_path, caplog):
    filtered = sq.filter(APPLES, filters=["format"], domain="math", output_dir=tmp_path / "f")
    assert set(filtered["domain"]) == {"math"}
    half = {**filtered[0], "run": "source:x", "question_id": "q"}
    answered = [{**half, "id": str(i), "response": rf"\boxed{{{x}}}"} for i, x in enumerate(("3", "0.5", "1/2"))]
    assert sq.select(answered)[0]["votes"] == 2, "two spellings are one answer in mathematics"
    sq.filter(tmp_path / "f", filters=["format"])
    assert not caplog.records
    sq.filter(tmp_path / "f", filters=["format"], domain="arithmetic")
    (warning,) = caplog.messages
    assert "rows are of domain=math, and the stage has domain=arithmetic" in warning and "Give domain=math" in warning


def test_rows_stay_where_they_are_asked_to_and_the_same_call_continues(oracle, tmp_path):
    place = tmp_path / "answers"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*APPLES, {"question": " "}]))
    first = sq.answers(tmp_path / "rows.jsonl", oracle, n=1, output_dir=place)
    digest = read_manifest(place).digest
    assert sq.answers(str(tmp_path / "rows.jsonl"), oracle, n=1, output_dir=place)["id"] == first["id"]
    assert read_manifest(place).digest == digest and sq.rejects(place)["reason"] == ["empty_text"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sq.load_model("tinny"), "model=tinny is not one of .*did you mean 'tiny'"),
        (lambda: sq.load_model("tiny", engine="vlm"), "engine=vlm is not one of"),
        (lambda: sq.answers(APPLES, "tiny", m=3), "unknown key 'stage.m'"),
        (lambda: sq.answers([], "tiny"), "no rows are given"),
        (lambda: sq.answers(["What is 2 + 2?"], "tiny"), r"row 1 is 'What is 2 \+ 2\?'; a row is a dict of columns"),
        (lambda: sq.answers(APPLES[0], "tiny"), "rows is one dict; give a list"),
        (
            lambda: sq.answers(datasets.DatasetDict({"train": datasets.Dataset.from_list(APPLES)}), "tiny"),
            r"rows is a data set of several splits \(train\); give one: rows\['train'\]",
        ),
        (lambda: sq.answers(pandas.DataFrame(APPLES), "tiny"), r'a pandas DataFrame; .*rows.to_dict\("records"\)'),
        (lambda: sq.load_model("tiny", path="/nope/x"), "model.path='/nope/x' is no directory"),
        (lambda: sq.Pipeline("demo").rows("nope"), "stage 'nope' is none of demo: qft, "),
        (lambda: sq.grade("7", ["7"]), r"reference is \['7'\]; give a text, as prediction is one, or two lists"),
        (lambda: sq.grade((x for x in "12"), ["1"]), "2 predictions and 1 as reference"),
        (lambda: sq.grade(["1", "2"], ["1"]), "2 predictions and 1 as reference: give two lists of the same length"),
        (lambda: sq.grade("5", "5", profile="dat"), "profile='dat' is not one of strict, dart, .*did you mean 'dart'"),
        (lambda: sq.grade(["1"], ["1"], question=["q"]), r"question is \['q'\]; give a text, which all of them answer"),
        (lambda: sq.grade(["1"], "1"), "1 predictions and one text as reference"),
        (
            lambda: sq.answers(APPLES, "tiny", overrides=["columns={question: a (b)}"]),
            r"a \(b\) looks like a function. Quote a text with brackets",
        ),
        (lambda: sq.filter(APPLES, None), "model is None; give a name of conf/model/"),
        (lambda: sq.filter(APPLES, filters=None), "filters is None; give a list of names"),
        (lambda: sq.filter(APPLES, filters="format"), "filters is 'format'; give a list of names"),
        (lambda: sq.filter(APPLES, filters=[]), "stage=filter needs filters"),
        (lambda: sq.filter(5), "rows is 5; give a list of dicts"),
        (lambda: sq.answers(APPLES, "tiny", overrides="seed=1"), r"overrides is 'seed=1'; give a list: \['seed=1'\]"),
        (lambda: sq.select(None), "stage=select reads rows: give input="),
        (lambda: sq.questions(5, count=1), "model is 5; give a name"),
        (lambda: sq.load_model(None), "name is None; give a name of conf/model/"),
        (lambda: sq.load_model("tiny", engine=None), "engine is None; give the name of one"),
        (lambda: sq.train("qft", None, output_dir="x"), "rows is None; give rows or where they are"),
        (lambda: sq.train("qft", APPLES, output_dir=None), "output_dir is None; give a directory"),
        (lambda: sq.train("qft", APPLES, None, output_dir="x"), "model is None"),
        (lambda: sq.evaluate(None), "model is None"),
        (lambda: sq.evaluate("tiny", None), "benchmark is None; give a name of conf/benchmark/"),
        (lambda: sq.grade(None, "1"), "prediction is None; give a text, or a list of texts"),
        (lambda: sq.grade(["1", None], ["1", "2"]), "a text of prediction or reference is None; give a text"),
        (
            lambda: sq.grade("1", "1", relative_tolerance="1%"),
            "relative_tolerance is '1%'; give a number of at least 0",
        ),
        (lambda: sq.rejects(None), "directory is None"),
        (lambda: sq.Pipeline(None), "name is None; give the name of a recipe"),
        (lambda: sq.Pipeline("dmo"), "recipe=dmo is not one of .*did you mean 'demo"),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_answers_are_graded_one_by_one_and_in_lists():
    assert sq.grade(r"so \boxed{\frac12}", "0.5").correct
    assert (
        sq.grade("5", 5).correct
        and sq.grade("5", numpy.int64(5)).correct
        and sq.grade("0.5", numpy.float32(0.5)).correct
    )
    assert [g.correct for g in sq.grade(["5", "6"], numpy.array([5, 7]))] == [True, False]
    columns = datasets.Dataset.from_dict({"response": ["1", "2"], "answer": ["1", "3"]})
    assert [g.correct for g in sq.grade(columns["response"], columns["answer"])] == [True, False]
    assert [g.correct for g in sq.grade((x for x in "12"), (x for x in "13"))] == [True, False]
    assert not sq.grade("3.14", "3.1416").correct and sq.grade("3.14", "3.1416", relative_tolerance=0.01).correct
    assert [g.correct for g in sq.grade(["3.14", "3.1"], ["3.1416", "3.1416"], tolerance=0.01)] == [True, False]
    asked = {"profile": "dart", "question": "Find all values, separated by commas."}
    assert not sq.grade([r"\boxed{2,1}"], ["1,2"], profile="dart")[0].correct
    assert sq.grade([r"\boxed{2,1}"], ["1,2"], **asked)[0].correct
    assert [g.correct for g in sq.grade([r"\boxed{1}", r"\boxed{2}"], ["1", "3"])] == [True, False]


@pytest.mark.slow
def test_training_gives_a_model_that_generates(random_tiny, tmp_path):
    base = sq.load_model("tiny-base", path=random_tiny, engine="hf")
    trained = sq.train(
        "sft", [{"query": row["question"], "response": row["answer"]} for row in APPLES], base,
        output_dir=tmp_path / "sft", max_steps=1, batch_packs=1, pack_tokens=256, validation=0,
        overrides=["trainer.threads=1"],
    )  # fmt: skip
    assert trained.path == str(tmp_path / "sft" / "model") and trained.engine == "hf"
    metrics = sq.evaluate(trained, limit=2, max_tokens=8)
    assert metrics["arithmetic"]["problems"] == 2


def test_a_pipeline_plans_and_says_how_far_it_is(tmp_path):
    pipeline = sq.Pipeline("demo", [f"output_dir={tmp_path}"])
    assert "total" in pipeline.plan().lower()
    assert [stage.name for stage in pipeline.recipe.stages][0] == "qft"


@pytest.mark.slow
def test_the_tour_runs_from_its_first_cell_to_its_last(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "notebook.py"), str(ROOT / "docs" / "tour.ipynb")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "1000"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "student" / "model").is_dir()


def test_rejects_of_a_training_are_read_too(tmp_path):
    rejects = [{"id": "q:1", "reason": "broken_json", "detail": "no JSON", "row": "not json"},
               {"id": "q:2", "reason": "too_long", "detail": "9 tokens", "row": {"question": "a?", "tag": 5}},
               {"id": "q:3", "reason": "too_long", "detail": "", "row": {"question": "b?", "tag": "five"}}]  # fmt: skip
    (tmp_path / "rejects.jsonl").write_text("".join(json.dumps(reject) + "\n" for reject in rejects))
    found = sq.rejects(tmp_path)
    assert found["reason"] == ["broken_json", "too_long", "too_long"]
    rows = [{"text": "not json"}, {"question": "a?", "tag": 5}, {"question": "b?", "tag": "five"}]
    assert list(map(json.loads, found["row"])) == rows
