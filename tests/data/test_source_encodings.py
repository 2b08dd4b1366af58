"""Text files in another encoding than UTF-8: read where it is named, and what gives a wrong one away."""

import base64
import gzip
import json

import pytest
from source_files import put, read

from sq.core.errors import RowError
from sq.data.sources import SourceConfig

TEXTS = ["Ein Café kostet 5 €. Wie viel kosten zwei?", "What is 2 + 2?"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.jsonl.gz"])
def test_text_in_another_encoding_is_read_where_it_is_named(tmp_path, encoding, name):
    lines = {
        "a.csv": "question\n" + "".join(f'"{text}"\n' for text in TEXTS),
        "a.json": json.dumps([{"question": text} for text in TEXTS], ensure_ascii=False),
    }
    text = lines.get(name, "".join(json.dumps({"question": text}, ensure_ascii=False) + "\n" for text in TEXTS))
    data = text.encode(encoding)
    path = put(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)
    assert [row["question"] for row in read(path, encoding=encoding)] == TEXTS


def test_a_large_file_in_another_encoding_is_read_piece_by_piece(tmp_path):
    path = put(tmp_path, "".join(f'{{"question": "caf\u00e9 {i}"}}\n' for i in range(20_000)).encode("latin-1"))
    rows = read(path, encoding="latin-1")
    assert len(rows) == 20_000 and rows[-1]["question"] == "caf\u00e9 19999" and rows[-1]["source_row"] == 20_000


def test_a_byte_that_the_encoding_lacks_rejects_its_line_alone(tmp_path):
    bad = []
    path = put(tmp_path, b'{"question": "a"}\n{"question": "\x81"}\n{"question": "b"}\n')
    assert [row["question"] for row in read(path, bad, encoding="cp1252")] == ["a", "b"]
    assert [row.reason for row in bad] == ["invalid_utf8"]


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("a.jsonl", b'{"question": "fine"}\n{"question": "caf\xe9 \x81"}\n', b'{"question": "caf\xe9 \x81"}\n'),
        ("a.csv", b"question,n\nfine,1\ncaf\xe9 \x81,2\n", b"caf\xe9 \x81,2\n"),
        ("a.csv", b"question,n\nfine,1\nfine too,caf\xe9 \x81\n", b"fine too,caf\xe9 \x81\n"),
        ("a.csv", b"question,n\nfine,1\ncaf\xe9 \x81\n", b"caf\xe9 \x81\n"),
    ],
)
def test_with_an_encoding_too_a_rejected_line_keeps_its_bytes_and_is_no_advice_to_give_it(
    tmp_path, name, content, kept
):
    bad = []
    assert len(read(put(tmp_path, content, name), bad, encoding="cp1252")) == 1
    assert base64.b64decode(bad[0].row()["bytes"]) == kept
    assert "cp1252 (data.encoding" not in bad[0].detail
    assert bad[0].reason == "field_count" or "is not cp1252" in bad[0].detail
    with pytest.raises(RowError, match=r"header of b\.csv is not cp1252; correct the byte, or give the encoding"):
        read(put(tmp_path, b"question \x81\nfine\n", "b.csv"), encoding="cp1252")


@pytest.mark.parametrize("name", ["latin-99", "base64", "zlib", "rot13", "idna", "punycode"])
def test_an_encoding_that_is_none_of_text_is_refused(name):
    with pytest.raises(ValueError, match=f"encoding='{name}' is none that Python knows for text"):
        SourceConfig(encoding=name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("question\ncafé\n", "column 'question' is not UTF-8"),
        ("Lösung,question\na,b\n", "the header of a.csv is not UTF-8"),
    ],
)
def test_csv_in_another_encoding_says_how_it_is_read(tmp_path, text, problem):
    path = put(tmp_path, text.encode("latin-1"), "a.csv")
    with pytest.raises(RowError, match=rf"{problem}; .*give encoding=cp1252 \(data.encoding") as error:
        read(path)
    str(error.value).encode()  # and shows no byte that cannot be printed
    assert len(read(path, encoding="cp1252")) == 1


@pytest.mark.parametrize(("encoding", "warned"), [("latin-1", True), ("cp1252", False)])
@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_control_characters_of_a_wrong_encoding_are_warned_of_once(tmp_path, caplog, name, encoding, warned):
    text = "question\n" + "Was kosten 5 €?\n" * 3 if name == "a.csv" else '[{"question": "Was kosten 5 €?"}]'
    rows = read(put(tmp_path, text.encode("cp1252"), name), encoding=encoding)
    assert [r["question"] for r in rows] == [f"Was kosten 5 {chr(0x80) if warned else '€'}?"] * len(rows)
    warnings = [r.getMessage() for r in caplog.records if "U+0080" in r.getMessage()]
    assert len(warnings) == warned and all("encoding=cp1252" in w and name in w for w in warnings)
