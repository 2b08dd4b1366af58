"""`sq grade FILE`: the same rows with their grades, in order, whatever is wrong with a line."""

import argparse
import csv
import gzip
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sq.cli import grade as grade_command
from sq.core.errors import ConfigError, RowError
from sq.eval.grade_file import Columns, grade_file
from sq.eval.grader_config import GraderConfig

CONFIG = GraderConfig(workers=2)


def written(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def outputs(tmp_path):
    rows = [
        {"id": "a", "question": "1+1?", "prediction": "The answer is 2.", "reference": "2", "tags": ["x", "y"]},
        {"id": "b", "question": "1+2?", "prediction": "It is \\boxed{4}", "reference": 3, "tags": []},
        {"id": "c", "question": "0.5?", "prediction": ".5", "reference": "0.5", "tags": ["é\u2028"]},
    ]
    return written(tmp_path / "out.jsonl", rows)


def test_rows_come_back_in_order_with_their_grades(outputs):
    summary = grade_file(outputs, config=CONFIG)
    rows = read(summary.output)
    assert summary.output.name == "out.graded.jsonl"
    assert [r["id"] for r in rows] == ["a", "b", "c"]
    assert [r["verdict"] for r in rows] == ["correct", "wrong", "correct"]
    assert [r["extracted"] for r in rows] == ["2", "4", ".5"]
    assert [r["correct"] for r in rows] == [True, False, True]
    assert all(r["reason"] for r in rows)
    assert rows[2]["tags"] == ["é\u2028"]
    assert (summary.rows, summary.errors, summary.score("strict")) == (3, 0, 2 / 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sub.jsonl", "is a directory; name a file"),
        ("no/such/o.jsonl", "there is no directory"),
        ("o.tsv", "the output .* is not .jsonl, .jsonl.gz, .csv or .parquet by its name"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_clear_line(outputs, tmp_path, name, message):
    (tmp_path / "sub.jsonl").mkdir()
    with pytest.raises(RowError, match=message):
        grade_file(outputs, tmp_path / name, config=CONFIG)


def test_a_disk_that_refuses_is_a_clear_line(outputs):
    with pytest.raises(RowError, match="cannot be written: .*; name another --output"):
        grade_file(outputs, "/proc/o.jsonl", config=CONFIG)


def test_a_file_of_which_nothing_can_be_read_is_refused(tmp_path):
    (tmp_path / "g.jsonl").write_text("one\ntwo\n")
    with pytest.raises(RowError, match=r"no row that can be read: g.jsonl, line 1: is no JSON"):
        grade_file(tmp_path / "g.jsonl", config=CONFIG)
    with pytest.raises(RowError, match="is a directory"):
        (tmp_path / "d.jsonl").mkdir()
        grade_file(tmp_path / "d.jsonl", config=CONFIG)


def test_nan_is_a_missing_reference(tmp_path):
    (tmp_path / "n.jsonl").write_text('{"prediction": "NaN", "reference": NaN}\n{"prediction": 1, "reference": 1}\n')
    rows = read(grade_file(tmp_path / "n.jsonl", config=CONFIG).output)
    assert [r["verdict"] for r in rows] == [None, "correct"]
    assert rows[0]["error"] == "reference is missing; a text or a number is needed"


def test_an_empty_reference_counts_in_no_score_and_an_empty_prediction_has_no_answer(tmp_path):
    (tmp_path / "e.csv").write_text("prediction,reference\n5,\n5,  \n,5\n5,5\n")
    summary = grade_file(tmp_path / "e.csv", tmp_path / "e.jsonl", config=CONFIG)
    rows = read(summary.output)
    assert [r["verdict"] for r in rows] == [None, None, "unparsed", "correct"]
    assert rows[0]["error"] == rows[1]["error"] == "reference is empty; a text or a number is needed"
    assert (summary.errors, summary.score("strict")) == (2, 1 / 2)


@pytest.mark.parametrize("column", ["extracted", "correct", "verdict", "reason", "error", "line", "dart_correct"])
def test_a_column_of_the_users_is_not_overwritten(tmp_path, column):
    rows = [{"prediction": "1", "reference": "1"}] * 600 + [{"prediction": "1", "reference": "1", column: "mine"}]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(RowError, match=f"a.jsonl has a column '{column}', which grading writes; rename or drop it"):
        grade_file(path, profiles=["strict", "dart"], config=CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_several_profiles_add_their_columns(outputs, tmp_path):
    summary = grade_file(outputs, tmp_path / "both.jsonl.gz", ["strict", "dart"], config=CONFIG)
    last = read(summary.output)[2]
    assert (last["correct"], last["verdict"]) == (True, "correct")
    assert (last["dart_correct"], last["dart_verdict"]) == (False, "wrong")
    assert summary.statuses["dart"] == {"correct": 1, "wrong": 2}


def test_parquet_in_and_out(outputs, tmp_path):
    table = pa.Table.from_pylist([{"answer": "x=7", "gold": "7"}, {"answer": "8", "gold": "7"}])
    pq.write_table(table, tmp_path / "p.parquet")
    summary = grade_file(
        tmp_path / "p.parquet",
        columns=Columns(prediction="answer", reference="gold"),
        profiles=["strict"],
        config=CONFIG,
    )
    assert summary.output.suffix == ".parquet"
    assert [r["correct"] for r in read(summary.output)] == [True, False]
    from_lines = grade_file(outputs, tmp_path / "lines.parquet", config=CONFIG)
    assert [r["reference"] for r in read(from_lines.output)] == ["2", "3", "0.5"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_begins_late_is_kept(tmp_path, suffix):
    first = [json.dumps({"prediction": "1", "reference": None})] * 2100  # not graded, which takes time
    late = json.dumps({"prediction": "1", "reference": "1", "note": {"a": 7}})
    (tmp_path / "o.jsonl").write_text("\n".join([*first, "{broken", late]))
    output = grade_file(tmp_path / "o.jsonl", tmp_path / f"graded{suffix}", config=CONFIG).output
    if suffix == ".csv":
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = read(output)
    assert str(rows[-2]["line"]) == "2101" and rows[-2]["error"].startswith("o.jsonl, line 2101")
    assert json.loads(rows[-1]["note"]) == {"a": 7}


def test_a_bad_line_becomes_a_row_with_its_error(tmp_path):
    path = tmp_path / "bad.jsonl"
    good = json.dumps({"prediction": "1", "reference": "1"}).encode()
    lines = [good, b"{not json", b"[1, 2]", b'{"prediction": null, "reference": "1"}', b'{"reference": "1"}']
    lines += [b'{"prediction": ["1"], "reference": "1"}', b'{"prediction": "1", "reference": "1", "tolerance": "big"}']
    lines += [b"\xff\xfe", b'{"prediction": "\\ud800", "reference": "1"}', b"", good]
    path.write_bytes(b"\n".join(lines) + b"\n")
    summary = grade_file(path, config=CONFIG)
    rows = read(summary.output)
    assert [r["verdict"] for r in rows] == ["correct", *[None] * 7, "wrong", "correct"]
    assert (summary.rows, summary.errors, summary.score("strict")) == (10, 7, 2 / 3), "of the three that have a grade"
    assert "line 2: is no JSON" in rows[1]["error"]
    assert "line 3: is a JSON list" in rows[2]["error"]
    assert "prediction is missing" in rows[3]["error"] and "prediction is missing" in rows[4]["error"]
    assert "prediction is list" in rows[5]["error"]
    assert "tolerance 'big' is no number" in rows[6]["error"]
    assert not any(r["correct"] for r in rows[1:9])


def test_a_reference_of_several_answers_and_an_allowed_error(tmp_path):
    rows = [
        {"prediction": "2, 1", "reference": ["$1$", "$2$"]},
        {"prediction": "0.102", "reference": "0.1", "tolerance": 0.01},
        {"prediction": "It goes on and on " * 40 + "5", "reference": "5", "finish_reason": "length"},
    ]
    graded = read(grade_file(written(tmp_path / "r.jsonl", rows), config=CONFIG).output)
    assert [r["verdict"] for r in graded] == ["correct", "correct", "unparsed"]
    assert graded[2]["reason"] == "cut off before an answer"


def test_the_errors_that_references_allow_are_read_as_benchmarks_are(tmp_path):
    rows = [
        {"prediction": "0.16, 20.2", "reference": "0.1, 20", "tolerance": "0.1,0.2"},
        {"prediction": "0.25, 20.2", "reference": "0.1, 20", "tolerance": "0.1,0.2"},
        {"prediction": "104", "reference": "100", "relative_tolerance": 0.05},
        {"prediction": "106", "reference": "100", "relative_tolerance": "0.05"},
        {"prediction": "8", "reference": "7", "tolerance": "0.1,0.2"},
        *({"prediction": "8", "reference": "7", "tolerance": value} for value in ("inf", "nan", -1)),
        *({"prediction": "8", "reference": "7", "relative_tolerance": value} for value in ("inf", -0.1)),
        {"prediction": "8", "reference": "7", "tolerance": ""},
    ]
    graded = read(grade_file(written(tmp_path / "r.jsonl", rows), config=CONFIG).output)
    assert [r["verdict"] for r in graded] == ["correct", "wrong", "correct", "wrong", *[None] * 6, "wrong"]
    assert "is of 2 values" in graded[4]["error"] and "'inf' is no number of at least 0" in graded[5]["error"]


def test_nan_in_a_table_is_no_tolerance_of_the_row(tmp_path):
    tolerances = [0.01, math.nan, math.nan]
    columns = {"prediction": ["0.102", "0.1", "0.102"], "reference": ["0.1"] * 3, "tolerance": tolerances}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    graded = read(grade_file(tmp_path / "t.parquet", tmp_path / "t.jsonl", config=CONFIG).output)
    assert [r["verdict"] for r in graded] == ["correct", "correct", "wrong"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "none.jsonl"}, "there is no file"),
        ({"source": "out.txt"}, "there is no file"),
        ({"output": "out.jsonl"}, "is the input"),
        ({"output": "nowhere/x.jsonl"}, "there is no directory"),
        ({"output": "x.txt"}, "is not .jsonl"),
        ({"profiles": ["strikt"]}, "no profile 'strikt', did you mean 'strict'"),
        ({"profiles": []}, "no profile is given"),
        ({"columns": Columns(prediction="predicton")}, "no column 'predicton', did you mean 'prediction'"),
    ],
)
def test_what_cannot_be_graded_has_a_message(outputs, tmp_path, change, message):
    arguments = {"source": "out.jsonl", "output": None, **change}
    for key in ("source", "output"):
        arguments[key] = tmp_path / arguments[key] if arguments[key] else None
    with pytest.raises(RowError, match=message):
        grade_file(config=CONFIG, **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_empty_or_broken_file_has_a_message(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(RowError, match="has no rows"):
        grade_file(tmp_path / "empty.jsonl", config=CONFIG)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RowError, match="broken.parquet cannot be read as parquet"):
        grade_file(tmp_path / "broken.parquet", config=CONFIG)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"prediction": "1", "reference": "1"}\n' * 500)[:-40])
    cut = grade_file(tmp_path / "cut.jsonl.gz", config=CONFIG)
    assert cut.errors == 1 and cut.score("strict") == 1 and "nothing more can be read" in read(cut.output)[-1]["error"]


def test_csv_in_and_out(tmp_path):
    path = tmp_path / "o.csv"
    path.write_bytes(
        b'\xef\xbb\xbfprediction,reference,note\n"1,000",1000,"two\nlines, \xc3\xa9"\n007,8,\n5,5\n,3,x\n'
        b"\xff,1,\n1,1,caf\xe9\n"
    )
    summary = grade_file(path, config=CONFIG)
    with summary.output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["verdict"] for r in rows] == ["correct", "wrong", "", "unparsed", "", ""]
    assert (rows[0]["note"], rows[1]["prediction"]) == ("two\nlines, é", "007"), "text as it stood"
    assert "line 5: has 2 fields where 3 are expected" in rows[2]["error"] and (summary.rows, summary.errors) == (6, 3)
    fix = "; where the whole file is in another encoding, give --encoding=cp1252"
    assert rows[4]["error"] == f"o.csv, line 7: column 'prediction' is not UTF-8{fix}"
    assert rows[5]["error"] == f"o.csv, line 8: column 'note' is not UTF-8{fix}", "a column that passes through, too"
    assert read(grade_file(path, tmp_path / "o.jsonl", config=CONFIG).output)[0]["reference"] == "1000"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.csv", "prediction;reference;Größe\n5;5;€\n"),
        ("a.jsonl", '{"prediction": "5", "reference": "5", "a": "€"}\n'),
    ],
)
def test_a_file_in_another_encoding_is_graded_where_it_is_named(tmp_path, caplog, capsys, name, row):
    path = tmp_path / name
    path.write_bytes(row.encode("cp1252"))
    with pytest.raises(RowError, match="not UTF-8.* give --encoding=cp1252"):
        grade_file(path, config=CONFIG)
    parser = argparse.ArgumentParser()
    grade_command.add(parser.add_subparsers())
    parsed = parser.parse_args(["grade", str(path), "--encoding", "cp1252", "--workers", "1"])
    parsed.run(parsed)
    assert "100.0% of 1 row correct" in capsys.readouterr().out and not caplog.records
    grade_file(path, config=CONFIG, encoding="latin-1")
    assert "with --encoding=cp1252" in caplog.text
    with pytest.raises(ConfigError, match="--encoding='latin-99' is none that Python knows"):
        grade_file(path, config=CONFIG, encoding="latin-99")


def test_profiles_may_be_named_together_on_the_command_line(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"prediction": "3.04", "reference": "0.0304"}\n')
    parser = argparse.ArgumentParser()
    grade_command.add(parser.add_subparsers())
    parsed = parser.parse_args(["grade", str(tmp_path / "a.jsonl"), "--profile", "strict,dart", "--workers", "1"])
    parsed.run(parsed)
    printed = capsys.readouterr().out
    assert "strict: 0.0% of 1 row correct" in printed
    assert "dart: 100.0% of 1 row correct" in printed


def test_a_list_of_answers_is_an_error_that_asks_for_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prediction": ["1", "2"], "reference": "1"}\n')
    summary = grade_file(tmp_path / "a.jsonl", config=GraderConfig(workers=1))
    assert summary.errors == 1
    assert "give each of its 2 answers a row of its own" in summary.output.read_text()
