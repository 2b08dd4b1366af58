"""Sources: whatever is wrong with an input is a reject with its place, or one clear error; never a crash."""

import base64
import gzip
import json
import os
import random

import pytest
from source_files import GOOD, put, read

from sq.core.errors import RowError
from sq.data import readers, records


def test_a_rejected_line_keeps_its_bytes(tmp_path):
    bad = []
    line = b'{"question": "caf\xe9 \x80"}'
    read(put(tmp_path, GOOD + b"\n" + line + b"\nno json\n"), bad)
    assert bad[0].text == '{"question": "caf\\xe9 \\x80"}\n' and "data.encoding" in bad[0].detail
    assert base64.b64decode(bad[0].row()["bytes"]) == line + b"\n"
    assert bad[1].row() == {"file": "a.jsonl", "line": 3, "text": "no json\n"}, "valid text needs no copy"


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        (b'{"question": "a', "broken_json", "is no JSON"),
        (b"{'question': 'a'}", "broken_json", "is no JSON"),
        (b'{"question": "a"} {"question": "b"}', "broken_json", "Extra data"),
        (b"\x00\x00\x00", "broken_json", "is no JSON"),
        (b"[" * 100_000, "broken_json", "nested too deeply"),
        (b'{"question": "a", "n": ' + b"1" * 5000 + b"}", "broken_json", "is no JSON"),
        (b'["question"]', "not_an_object", "JSON list"),
        (b"null", "not_an_object", "JSON NoneType"),
        (b'{"text": "a"}', "missing_column", "no column 'question'"),
        (b"{}", "missing_column", "It has: none"),
        (b'{"question": null}', "missing_column", "no value in the column 'question'"),
        (b'{"question": 5}', "mistyped_column", "5 (int) is not a string"),
        (b'{"question": ["a", "b"]}', "mistyped_column", "(list) is not a string"),
        (b'{"question": {"a": 1}}', "mistyped_column", "(dict) is not a string"),
        (b'{"question": NaN}', "missing_column", "no value"),
        (b'{"question": ""}', "empty_text", "is empty"),
        (b'{"question": " \\n\\t"}', "empty_text", "is blank"),
        (b'{"question": "a\\u0000b"}', "bad_text", "NUL"),
        (b'{"question": "a\\ud800b"}', "bad_text", "lone surrogate"),
        (b'{"question": "\\frac{1}{2}"}', "bad_text", "LaTeX"),
        (b'{"question": "a\x01b"}', "broken_json", "control character"),
        (b'{"question": "caf\xe9"}', "invalid_utf8", "byte 0xe9"),
        (b'{"question": "\xed\xa0\x80"}', "invalid_utf8", "not UTF-8"),
        (b'{"problem": "a", "prompt": "b"}', "ambiguous_column", "'problem' and 'prompt'"),
    ],
)
def test_a_bad_line_is_rejected_and_the_rest_goes_on(tmp_path, line, reason, words):
    path = put(tmp_path, b"\n".join([GOOD, line, b"", GOOD]))
    rejects = []
    rows = read(path, rejects)
    assert [r["source_row"] for r in rows] == [1, 4] and rows[0]["id"] != rows[1]["id"]
    (bad,) = rejects
    assert (bad.file, bad.line, bad.reason) == ("a.jsonl", 2, reason)
    assert words in bad.detail and str(bad).startswith("a.jsonl, line 2: ")
    assert len(bad.text) < 25_000
    json.dumps(bad.row()).encode()

    with pytest.raises(RowError) as caught:
        read(put(tmp_path, line))
    assert words in str(caught.value) and "a.jsonl" in str(caught.value)


def test_the_error_of_a_useless_file_counts_and_shows_the_first_reasons(tmp_path):
    path = put(tmp_path, "\n".join(["{", "{", '{"question": ""}', "[1]"] * 25))
    with pytest.raises(
        RowError, match=r"no usable row; rejected: 50 broken_json, 25 empty_text, 25 not_an_object"
    ) as e:
        read(path)
    assert str(e.value).count("a.jsonl, line") == 3


def test_a_missing_column_in_all_lines_names_what_is_there_and_the_fix(tmp_path):
    path = put(tmp_path, '{"Questions": "a"}\n{"Questions": "b"}\n')
    with pytest.raises(RowError, match="'question', did you mean 'Questions'.*It has: Questions.*columns={question"):
        read(path)
    path = put(tmp_path, "Questions,b\n1,2\n", "a.csv")
    with pytest.raises(RowError, match="did you mean 'Questions'.*header=false"):
        read(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"question": "q", "anwser": "a"}, "'anwser', which is no column of ours, did you mean 'answer'.*THEIR_NAME"),
        ({"question": "q", "Lösung": "a"}, "'Lösung', which is no column of ours. Ours stands first"),
    ],
)
def test_a_map_to_a_column_that_is_none_of_ours_is_refused(tmp_path, names, words):
    with pytest.raises(RowError, match=words):
        read(put(tmp_path, "q,a\nWhat is 2 + 2?,4\n", "a.csv"), columns=names)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_s_own_domain_and_rewards_are_none_of_ours(tmp_path, name):
    row = {"question": "What is 2 + 2?", "domain": "Mathe", "reward": 0.5, "votes": 3}
    text = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n" if name == "a.csv" else json.dumps(row)
    path = put(tmp_path, text, name)
    (got,) = read(path)
    assert not {"domain", "reward", "votes"} & got.keys()
    extra = json.loads(got["extra"])
    assert (extra["domain"], extra["reward"], extra["votes"]) == ("Mathe", 0.5, 3)
    (got,) = read(path, columns={"reward": "reward"}, where="votes == 3 and domain == 'Mathe'")
    assert got["reward"] == 0.5, "where it is said to be ours it is"
    (got,) = read(put(tmp_path, json.dumps({**row, "domain": "math"}), "b.jsonl"))
    assert got["domain"] == "math"


@pytest.mark.parametrize(
    ("row", "columns", "warned"),
    [
        ({"answer": 13}, {}, True),
        ({"answer": "13"}, {}, True),
        ({"answer": 13}, {"solution": "answer"}, False),
        ({"answer": 13}, {"response": "answer"}, False),
        ({"answer": "10 + 3 = 13\n#### 13"}, {}, False),
        ({"answer": 13, "solution": "10 + 3 = 13"}, {}, False),
    ],
)
def test_final_answers_that_are_taken_for_solutions_are_warned_of(tmp_path, caplog, row, columns, warned):
    lines = "".join(json.dumps({"question": q, **row}) + "\n" for q in "ab")
    rows = read(put(tmp_path, lines), need=("question", "response"), columns=columns)
    assert len(rows) == 2 and {r["response"] for r in rows} <= {"13", "10 + 3 = 13"}
    warnings = [m for m in caplog.messages if "no solution or response" in m]
    assert len(warnings) == warned and all("columns={solution: answer}" in m for m in warnings)


def test_without_a_header_a_bar_is_of_the_text(tmp_path):
    (row,) = read(put(tmp_path, "What is |x|?\n", "a.csv"), header=False, columns={"question": "0"})
    assert row["question"] == "What is |x|?"


def test_a_line_of_100_megabytes_costs_itself_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.write(GOOD + b'\n{"question": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + GOOD + b"\n")
    rejects = []
    assert len(read(path, rejects)) == 2
    assert [(r.line, r.reason) for r in rejects] == [(2, "too_long")] and "104,857,6" in rejects[0].detail
    assert len(rejects[0].text) <= records.KEPT_TEXT + 100


def test_a_long_csv_field_is_read_and_a_longer_one_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE", 400_000)
    text = f"question,n\n{'x' * 300_000},1\n{'y' * 500_000},2\nz,3\n"
    rejects = []
    assert [len(r["question"]) for r in read(put(tmp_path, text, "a.csv"), rejects)] == [300_000, 1]
    assert [(r.line, r.reason) for r in rejects] == [(3, "too_long")]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n\n \n", "has no rows"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"question,answer\n", "has no rows"),
        ("a.csv", b"question,question\na,b\n", "'question' more than once"),
        ("a.csv", b'question,"ans\nx,y\n', "the header of a.csv cannot be read"),
        ("a.json", b"[]", "has no rows"),
        ("a.json", b"{}", "has no rows"),
        ("a.json", b"3", "JSON int"),
        ("a.json", b'{"question": [1, 2], "answer": [1]}', "differ in length"),
        ("a.json", b'{"train": [{"question": "a"}], "test": [{"question": "b"}]}', "several lists .train, test."),
        ("a.json", b'{"question": ', "is no JSON"),
        ("a.json", b'[{"question": ', "broken_file"),
        ("a.jsonl.gz", b"", "is empty"),
        ("a.jsonl.gz", GOOD, "is not gzip"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "has no rows"),
        ("a.jsonl.gz", gzip.compress(GOOD, mtime=0)[:20], "no usable row"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"PAR1" + b"x" * 100, "cut off"),
        ("a.parquet", b"hello", "cannot be read as parquet"),
        ("a.jsonl", b"PAR1....", "parquet file by another name"),
        ("a.jsonl", "{}".encode("utf-16"), "UTF-16"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.txt", GOOD, "'.txt', which tells no format"),
        ("a.parquet.gz", GOOD, "tells no format"),
        ("a", GOOD, "a name without an ending"),
    ],
)
def test_useless_files_end_in_one_clear_error(tmp_path, name, data, words):
    with pytest.raises(RowError, match=words):
        read(put(tmp_path, data, name))


def test_a_missing_file_names_the_nearest(tmp_path):
    put(tmp_path, GOOD, "questions.jsonl")
    with pytest.raises(RowError, match=r"no file or directory .*quesions.jsonl; did you mean .*/questions.jsonl\?"):
        read(tmp_path / "quesions.jsonl")
    with pytest.raises(RowError, match=f"; {tmp_path} has questions.jsonl"):
        read(tmp_path / "nowhere" / "deeper" / "x.jsonl")
    with pytest.raises(RowError, match=r"no file matches .*\*\.csv"):
        read(tmp_path / "*.csv")


def test_directories_that_cannot_be_read(tmp_path):
    with pytest.raises(RowError, match="holds nothing"):
        read(tmp_path)
    put(tmp_path, b"x", "notes.txt")
    with pytest.raises(RowError, match="holds only notes.txt"):
        read(tmp_path)
    put(tmp_path, GOOD)
    put(tmp_path, b"question\na\n", "b.csv")
    with pytest.raises(RowError, match="more than one format .a.jsonl, b.csv."):
        read(tmp_path)
    (tmp_path / "stage").mkdir()
    put(tmp_path / "stage", b"{", "manifest.json")
    with pytest.raises(Exception, match="manifest.json is damaged"):
        read(tmp_path / "stage")
    (tmp_path / "saved").mkdir()
    put(tmp_path / "saved", b"{}", "dataset_info.json")
    with pytest.raises(RowError, match="cannot be read as a saved dataset"):
        read(tmp_path / "saved")


def test_links_and_pipes(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "link.jsonl")
    with pytest.raises(RowError, match="is a link to .*gone, which is not there"):
        read(tmp_path / "link.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(RowError, match="neither a regular file nor a directory"):
        read(tmp_path / "pipe.jsonl")


def test_a_shard_without_a_usable_row_is_an_error_too(tmp_path):
    put(tmp_path, GOOD, "a.jsonl")
    put(tmp_path, b"\n", "b.jsonl")
    assert len(read(tmp_path)) == 1
    put(tmp_path, b"broken", "c.jsonl")
    with pytest.raises(RowError, match="c.jsonl has no usable row"):
        read(tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_a_gzip_that_breaks_off_keeps_the_rows_before(tmp_path, keep):
    noise = random.Random(0)
    lines = [json.dumps({"question": f"{i}? {noise.random()}"}) for i in range(20_000)]
    whole = gzip.compress("\n".join(lines).encode())
    rejects = []
    rows = read(put(tmp_path, whole[: int(len(whole) * keep)], "a.jsonl.gz"), rejects)
    assert [r["question"] for r in rows] == [json.loads(line)["question"] for line in lines[: len(rows)]]
    assert keep * 0.9 < len(rows) / len(lines) < keep * 1.1
    assert [(r.line, r.reason) for r in rejects] == [(len(rows) + 1, "broken_file")]


def test_a_damaged_gzip_is_reported(tmp_path):
    noise = random.Random(0)
    data = bytearray(gzip.compress(b"\n".join(b'{"question": "%d? %f"}' % (i, noise.random()) for i in range(20_000))))
    data[len(data) // 2] ^= 0xFF
    rejects = []
    rows = read(put(tmp_path, bytes(data), "a.jsonl.gz"), rejects)
    assert len(rows) > 5000 and rejects[-1].reason == "broken_file"


def test_csv_rows_with_too_many_or_too_few_fields(tmp_path):
    text = 'question,answer\n"a, b",1\ntoo,many,fields\nfew\n\n"two\nlines",2\n'
    rejects = []
    rows = read(put(tmp_path, text, "a.csv"), rejects)
    assert [(r["question"], r["answer"], r["source_row"]) for r in rows] == [("a, b", "1", 2), ("two\nlines", "2", 6)]
    assert [(r.line, r.reason) for r in rejects] == [(3, "field_count"), (4, "field_count")]
    assert "3 fields where 2 are expected (question, answer)" in rejects[0].detail and "too,many" in rejects[0].text


@pytest.mark.parametrize("broken", ['"never closed,1', '"closed" too early,1'])
def test_a_stray_quote_costs_its_line_alone(tmp_path, broken):
    good = [f'"question, {i}",{i}' for i in range(3000)]
    for lines in ([*good[:10], broken, *good[10:]], [*good, broken]):
        rejects = []
        rows = read(put(tmp_path, "\n".join(["question,answer", *lines]), "a.csv"), rejects)
        assert len(rows) == 3000
        assert [r.reason for r in rejects] == ["broken_csv"] and rejects[0].text.strip() == broken


def test_a_quote_never_closed_among_lines_without_quotes(tmp_path):
    lines = [f"q {i},{i}" for i in range(5000)]
    rejects = []
    text = "\n".join(["question,answer", *lines[:7], '"open,7', *lines[7:]])
    assert len(read(put(tmp_path, text, "a.csv"), rejects)) == 5000
    assert [(r.line, r.reason) for r in rejects] == [(9, "broken_csv")]


def test_bad_text_in_csv_and_tsv(tmp_path):
    data = b"question,n\ncaf\xe9,1\n,2\na\x00b,3\nfine,4\nfine too,caf\xe9\n"
    rejects = []
    assert [r["question"] for r in read(put(tmp_path, data, "a.csv"), rejects)] == ["fine"]
    assert [r.reason for r in rejects] == ["invalid_utf8", "empty_text", "bad_text", "invalid_utf8"]
    assert rejects.pop().detail.startswith("column 'n' is not UTF-8; where the whole file is in another encoding, give")
    tsv = b'question\tanswer\n"Hello," she said.\t1\nsaid "x"\t2\n"a whole\tb"\t3\n'
    assert [r["question"] for r in read(put(tmp_path, tsv, "a.tsv"), rejects)] == [
        '"Hello," she said.',
        'said "x"',
        "a whole\tb",
    ]


def test_a_csv_number_that_is_none(tmp_path):
    rejects = []
    path = put(tmp_path, "question,steps,level\nq?,many,1\nq?,3,2\nq?,,\n", "a.csv")
    rows = read(path, rejects, need=["question", "steps"])
    assert [r["steps"] for r in rows] == [3]
    assert [r.reason for r in rejects] == ["mistyped_column", "missing_column"]
    loose = read(path)
    assert "steps" not in loose[0] and json.loads(loose[0]["extra"]) == {"steps": "many"}


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        (
            "Frage,Lösung\na,b\nc,\n",
            {"question": "Frage", "solution": "Lösung"},
            "column 'Lösung' (columns.solution) is empty",
        ),
        (
            "Frage,Lösung\na,b\n,d\n",
            {"question": "Frage", "solution": "Lösung"},
            "column 'Frage' (columns.question) is empty",
        ),
        ("problem,output\na,b\n ,d\n", {}, "column 'problem' is blank"),
        ("question,solution\na,b\nc,\n", {}, "column 'solution' is empty"),
    ],
)
def test_an_empty_cell_is_named_by_the_file_s_own_column(tmp_path, text, columns, words):
    rejects = []
    path = put(tmp_path, text.encode(), "a.csv")
    assert len(read(path, rejects, need=("question", "response"), columns=columns)) == 1
    assert [r.detail for r in rejects] == [words]
