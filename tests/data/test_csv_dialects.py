"""CSV as spreadsheets and others write it: what tells its fields apart is seen from its first lines."""

import json

import pytest
from source_files import put, read


@pytest.mark.parametrize(
    "text",
    [
        '"Frage, kurz";Antwort\nWhat is 2 + 2?;4\n',
        'sep=;\r\n"Frage, kurz";Antwort\r\nWhat is 2 + 2?;4\r\n',
        "Frage, kurz|Antwort\nWhat is 2 + 2?|4\n".replace("Frage, kurz", '"Frage, kurz"'),
        'SEP=;\r\n"Frage, kurz";Antwort\r\nWhat is 2 + 2?;4\r\n',
        '"Frage, kurz";Antwort\rWhat is 2 + 2?;4\r',
        '"Frage, kurz";Antwort\rWhat is 2 + 2?;4\n',
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path, text):
    path = put(tmp_path, text, "a.csv")
    (row,) = read(path, columns={"question": "Frage, kurz", "answer": "Antwort"})
    assert (row["question"], row["answer"]) == ("What is 2 + 2?", "4")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("first", "name"), [("", "a.csv"), ("\ufeff", "a.csv"), ("  ", "a.csv"), ("", "a.tsv")])
def test_empty_lines_before_a_header_are_no_header(tmp_path, ending, first, name):
    delimiter = "\t" if name.endswith("tsv") else ";"
    text = f"{first}\n\nquestion;answer\nWhat is 2 + 2?;4\n".replace("\n", ending).replace(";", delimiter)
    (row,) = read(put(tmp_path, text.encode(), name))
    assert (row["question"], row["answer"]) == ("What is 2 + 2?", "4")


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("P(A|B) question\nWhat is x?\n", "P(A|B) question", "What is x?"),
        ("|x| values\nWhat is |x|?\n", "|x| values", "What is |x|?"),
        ('Länge (5");Breite (7")\nWhat is 1?;2\n', 'Länge (5")', "What is 1?"),
        ('a|b\n"x|y"|z\n', "a", "x|y"),
        ('"Frage\nlang";"b, c"\nWhat is 2?;3\n', "Frage\nlang", "What is 2?"),
    ],
)
def test_a_bar_or_an_inch_mark_in_a_name_tells_no_fields_apart(tmp_path, text, column, value):
    (row,) = read(put(tmp_path, text.encode(), "a.csv"), columns={"question": column})
    assert row["question"] == value


@pytest.mark.parametrize("displaced", ["reward", "id"])
def test_a_column_whose_name_is_given_to_another_is_kept_in_extra(tmp_path, displaced):
    path = put(tmp_path, f"question,score,{displaced}\nWhat is 2?,0.5,0.9\n", "a.csv")
    (row,) = read(path, columns={displaced: "score"})
    assert str(row["source_id" if displaced == "id" else displaced]) == "0.5"
    assert json.loads(row["extra"]) == {displaced: "0.9"}


def test_a_column_moved_to_extra_displaces_nothing_there(tmp_path):
    text = '{"question": "Q?", "score": "much", "reward": 0.9, "extra": "{\\"reward\\": 1}"}\n'
    (row,) = read(put(tmp_path, text, "a.jsonl"), columns={"reward": "score"})
    assert json.loads(row["extra"]) == {"reward": 1, "reward_2": 0.9, "reward_3": "much"}
