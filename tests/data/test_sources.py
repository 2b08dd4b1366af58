"""Sources: every format people keep rows in comes out as the same rows, with lineage."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sq.core.config import build
from sq.core.errors import ConfigError, RowError
from sq.core.rows import CANDIDATE, PAIR, QUESTION, check_row, fit_row
from sq.data.order import in_validation
from sq.data.sources import SourceConfig, digest, read_source

ROWS = [
    {"question": 'He said "2 + 2,\nnow"; and?', "answer": "4", "level": "1", "points": "π"},
    {"question": "Wie viele Äpfel?", "answer": "5,5", "level": "2", "points": "x\ty"},
    {"question": "{{1}} \\frac{1}{2}?", "answer": "-1", "level": "3", "points": "z"},
]


def read(path, need=QUESTION, rejects=None, **settings):
    return list(read_source(SourceConfig(input=str(path), **settings), need, rejects))


def write_csv(path, rows=ROWS, delimiter=",", **how):
    with open(path, "w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter, **how)
        writer.writeheader()
        writer.writerows(rows)


def write(directory, name):
    """ROWS in the format that `name` tells."""
    path = directory / name
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)
    table = {k: [r[k] for r in ROWS] for k in ROWS[0]}
    if name.endswith(".jsonl") or name.endswith(".ndjson"):
        path.write_text(lines)
    elif name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    elif name.endswith((".csv", ".CSV")):
        write_csv(path, encoding="utf-8-sig" if "bom" in name else "utf-8", delimiter=";" if "semi" in name else ",")
    elif name.endswith(".tsv"):
        write_csv(path, delimiter="\t")
    elif name.endswith(".csv.gz"):
        write_csv(directory / "plain.csv")
        path.write_bytes(gzip.compress((directory / "plain.csv").read_bytes()))
    else:
        shapes = {
            "list.json": json.dumps(ROWS),
            "pretty.json": json.dumps(ROWS, indent=2),
            "bom.json": "\ufeff" + json.dumps(ROWS, ensure_ascii=False),
            "data.json": json.dumps({"version": 1, "data": ROWS}, indent=1),
            "columns.json": json.dumps(table),
            "pandas.json": json.dumps({k: dict(enumerate(v)) for k, v in table.items()}),
            "lines.json": lines,
            "blank.json": "\n \n" + lines,
        }
        path.write_text(shapes[name])
    return path


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.parquet", "a.csv", "A.CSV", "bom.csv", "semi.csv", "a.csv.gz", "a.tsv"]
    + ["list.json", "pretty.json", "bom.json", "data.json", "columns.json", "pandas.json", "lines.json", "blank.json"],
)
def test_every_format_gives_the_same_rows(tmp_path, name):
    rejects = []
    rows = read(write(tmp_path, name), ["question", "answer"], rejects)
    assert rejects == []
    assert [{k: r[k] for k in ROWS[0]} for r in rows] == ROWS
    assert [r["id"] for r in rows] == [r["id"] for r in read(write(tmp_path, "a.jsonl"))]
    for row in rows:
        assert row["source"] == name
        assert row["parents"] == [] and row["model"] is None and row["run"].startswith("source:")
        assert check_row(fit_row(row, QUESTION), QUESTION) == []
        assert json.loads(fit_row(row, QUESTION)["extra"]) == {"points": row["points"]}


@pytest.mark.parametrize("shape", ["dataset", "dictionary"])
def test_a_saved_dataset(tmp_path, shape):
    import datasets

    saved = datasets.Dataset.from_list(ROWS)
    if shape == "dictionary":
        other = datasets.Dataset.from_list([{**ROWS[0], "question": "a test question"}])
        saved = datasets.DatasetDict({"train": saved, "test": other})
    saved.save_to_disk(str(tmp_path / "set"))
    assert [r["question"] for r in read(tmp_path / "set")] == [r["question"] for r in ROWS]
    if shape == "dictionary":
        assert [r["question"] for r in read(tmp_path / "set", split="test")] == ["a test question"]
        with pytest.raises(RowError, match="no split 'dev'; choose one of train, test"):
            read(tmp_path / "set", split="dev")


def test_a_stage_directory_keeps_ids_and_lineage(tmp_path):
    from sq.core.ledger import Ledger, WorkItem

    made = [
        {"id": f"{i:032x}", "run": "r1", "model": "m", "seed": 3, "parents": ["p"], "question": f"q {i}?", "index": i}
        for i in range(5)
    ]
    with Ledger.open(tmp_path / "stage", schema=QUESTION, config={"a": 1}, inputs={}, part_size=2) as ledger:
        for item in ledger.todo(WorkItem(r["id"], r) for r in made):
            ledger.record(item.key, rows=[fit_row(item.payload, QUESTION)])
        ledger.finish()
    assert read(tmp_path / "stage") == [fit_row(r, QUESTION) for r in made]
    assert len(digest(SourceConfig(input=str(tmp_path / "stage")))) == 32

    exported = tmp_path / "exported.jsonl"  # the same rows as a file keep their ids too
    exported.write_text("".join(json.dumps(r) + "\n" for r in [*made, made[0]]))
    rejects = []
    assert [r["id"] for r in read(exported, rejects=rejects)] == [r["id"] for r in made]
    assert [r.reason for r in rejects] == ["duplicate_id"]


def test_a_directory_of_files_is_one_source(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, "b.jsonl")
    write(tmp_path / "sub", "a.jsonl.gz")
    (tmp_path / "README.md").write_text("notes")
    rows = read(tmp_path)
    assert len(rows) == 6 and len({r["id"] for r in rows}) == 6
    assert len(read(tmp_path / "*.jsonl")) == 3


def test_of_a_directory_with_several_splits_train_is_read(tmp_path):
    write(tmp_path, "train.jsonl")
    (tmp_path / "test-00000-of-00001.jsonl").write_text('{"question": "a test question"}\n')
    assert len(read(tmp_path)) == len(read(tmp_path, split="train")) == 3
    assert [r["question"] for r in read(tmp_path, split="test")] == ["a test question"]
    with pytest.raises(RowError, match="no split 'dev'; it has test, train"):
        read(tmp_path, split="dev")
    (tmp_path / "notes.jsonl").write_text('{"question": "of no split"}\n')
    with pytest.raises(
        RowError, match=r"2 splits \(test, train\) and files of none \(notes.jsonl\); .*source.split in"
    ):
        read(tmp_path)
    for name in ("train.jsonl", "notes.jsonl"):
        (tmp_path / name).unlink()
    (tmp_path / "dev.jsonl").write_text('{"question": "a dev question"}\n')
    with pytest.raises(RowError, match=r"2 splits \(dev, test\); say which to read: split=dev .*as '.*/\*.jsonl'"):
        read(tmp_path)
    assert len(read(tmp_path / "*.jsonl")) == 2


def test_a_directory_laid_out_as_the_hub_does_is_read_as_load_dataset_reads_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "dataset_infos.json").write_text("{}")
    for name in ("train_sft-00000-of-00002.parquet", "train_sft-00001-of-00002-a1.parquet"):
        write(tmp_path / "data", name)
    assert len(read(tmp_path)) == 6, "the one split there is, and no file beside it"
    write(tmp_path, "data/train_gen-00000-of-00001.parquet")
    with pytest.raises(RowError, match=r"2 splits \(train_gen, train_sft\); say which"):
        read(tmp_path)
    assert len(read(tmp_path, split="train_gen")) == 3


def test_foreign_types_of_parquet_become_plain(tmp_path):
    import datetime
    import decimal

    foreign = {
        "question": [b"bytes that are text?", b"b?"],
        "when": [datetime.datetime(2024, 1, 2), None],
        "price": [decimal.Decimal("1.50"), None],
        "image": [b"\xff\xd8", None],
        "answer": [3.5, 4.0],
        "score": pa.array([{"a": [1]}, None]),
    }
    pq.write_table(pa.table(foreign), tmp_path / "x.parquet")
    rows = read(tmp_path / "x.parquet", ["question", "answer"])
    assert rows[0]["question"] == "bytes that are text?" and rows[0]["answer"] == "3.5"
    assert (rows[0]["when"], rows[0]["price"], rows[0]["image"]) == ("2024-01-02T00:00:00", "1.50", "/9g=")
    assert check_row(fit_row(rows[0], QUESTION), QUESTION) == []


@pytest.mark.parametrize("theirs", ["problem", "query", "prompt", "instruction"])
def test_other_names_for_a_question(tmp_path, theirs):
    (tmp_path / "a.jsonl").write_text(json.dumps({theirs: "2+2?", "id": 17, "seed": "x", "reward": "high"}) + "\n")
    (row,) = read(tmp_path / "a.jsonl")
    assert row["question"] == "2+2?" and row["source_id"] == "17" and row["seed"] is None
    assert json.loads(row["extra"]) == {"seed": "x", "reward": "high"}
    assert check_row(fit_row(row, QUESTION), QUESTION) == []


def test_the_column_map_wins(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "no", "problem": "no", "body": "yes?", "extra": "mine"}) + "\n")
    (row,) = read(path, columns={"question": "body"})
    assert row["question"] == "yes?" and "body" not in row
    assert json.loads(fit_row(row, QUESTION)["extra"])["problem"] == "no"
    with pytest.raises(RowError, match="has no column 'bodi'.*columns.question.*did you mean 'body'"):
        read(path, columns={"question": "bodi"})


def test_two_names_for_a_question_are_ambiguous(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"problem": "a", "prompt": "b"}) + "\n")
    with pytest.raises(RowError, match="has 'problem' and 'prompt'.*columns={question: problem}"):
        read(path)
    assert read(path, columns={"question": "prompt"})[0]["question"] == "b"


def test_what_training_reads_comes_from_any_shape(tmp_path):
    """An Example, a seed with its solution and a GSM8K row all give a query and a response."""
    shapes = [
        {"question": "q?", "answer": "work\n#### 7"},
        {"problem": "q?", "solution": "work"},
        {"query": "q?", "response": "work"},
        {"instruction": "q?", "output": "work"},
    ]
    for shape in shapes:
        (tmp_path / "a.jsonl").write_text(json.dumps(shape) + "\n")
        (row,) = read(tmp_path / "a.jsonl", ["query", "response"])
        assert (row["query"], row["response"]) == ("q?", "work"), shape


def test_needs_of_other_schemas(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"chosen": "a", "rejected": "b", "direction": "difficulty"}) + "\n")
    assert read(tmp_path / "p.jsonl", PAIR)[0]["chosen"] == "a"
    (tmp_path / "c.csv").write_text("question,question_id,response,response_index,reward\nq?,7,yes,2,0.5\n")
    (row,) = read(tmp_path / "c.csv", CANDIDATE, columns={"reward": "reward"})
    assert row["response_index"] == 2 and row["reward"] == 0.5
    typed = list(read_source(SourceConfig(input=str(tmp_path / "c.csv")), {"response_index": pa.int64()}))
    assert typed[0]["response_index"] == 2


@pytest.mark.parametrize(
    ("answer", "solution", "final"),
    [
        ("He has 2.\n#### 2", "He has 2.", "2"),
        ("a\n#### 1,000\n", "a", "1,000"),
        ("a #### b\n####-3", "a #### b", "-3"),
        ("#### 4", None, "4"),
        ("72", None, "72"),
        ("not #### a mark", None, "not #### a mark"),
    ],
)
def test_gsm8k_answers_are_taken_apart(tmp_path, answer, solution, final):
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q?", "answer": answer}) + "\n")
    (row,) = read(tmp_path / "a.jsonl")
    assert (row.get("solution"), row["answer"]) == (solution, final)
    (raw,) = read(tmp_path / "a.jsonl", form="plain")
    assert raw["answer"] == answer


@pytest.mark.parametrize(
    ("solution", "final"),
    [
        (r"so $\boxed{1}$, or rather $\boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\boxed{}", None),
        (r"\boxed{1", None),
        (r"$\boxed 3$", "3"),
        ("no box", None),
    ],
)
def test_math_answers_are_taken_from_the_last_box(tmp_path, solution, final):
    (tmp_path / "a.jsonl").write_text(json.dumps({"problem": "q?", "solution": solution}) + "\n")
    (row,) = read(tmp_path / "a.jsonl")
    assert row.get("answer") == final and row["solution"] == solution


def test_ids_come_from_content_and_not_from_place(tmp_path):
    lines = [json.dumps({"question": f"{i % 7}?"}) for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n\n".join(["broken", *reversed(lines)]) + "\n")
    one, other = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    assert {r["id"] for r in one} == {r["id"] for r in other} and len({r["id"] for r in one}) == 20
    assert {r["id"]: r["question"] for r in one} == {r["id"]: r["question"] for r in other}
    assert [r["source_row"] for r in other] == list(range(3, 43, 2))


def test_limit_reads_no_further(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"question": f"{i}?"}) + "\n" for i in range(10)) + "broken\n")
    rejects = []
    assert [r["question"] for r in read(path, rejects=rejects, limit=3)] == ["0?", "1?", "2?"]
    assert rejects == []
    for wrong in (0, -1, "many"):
        with pytest.raises(ConfigError, match="limit"):
            build({"input": str(path), "limit": wrong}, SourceConfig)


def test_rejects_may_be_a_function(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "q?"}\nbroken\n')
    seen = []
    list(read_source(SourceConfig(input=str(tmp_path / "a.jsonl")), QUESTION, lambda bad: seen.append(bad.reason)))
    assert seen == ["broken_json"]


def test_any_text_may_be_allowed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps({"pred": "", "ref": "\x0crac"}) + "\n" + json.dumps({"pred": "\ud800", "ref": "1"}) + "\n"
    )
    rejects = []
    config = SourceConfig(input=str(path))
    (row,) = read_source(config, ["prediction", "reference"], rejects, any_text=["prediction", "reference"])
    assert (row["prediction"], row["reference"]) == ("", "\x0crac")
    assert [r.reason for r in rejects] == ["bad_text"]


def test_digest_is_of_the_content(tmp_path):
    one, other = write(tmp_path, "a.jsonl"), tmp_path / "b.jsonl"
    other.write_bytes(one.read_bytes())
    assert digest(SourceConfig(input=str(one))) == digest(SourceConfig(input=str(other), limit=2))
    other.write_bytes(one.read_bytes() + b"\n")
    assert digest(SourceConfig(input=str(one))) != digest(SourceConfig(input=str(other)))


def test_held_out_rows_stay_so_when_rows_are_added():
    rows = [{"id": str(i), "question": f"{i}?"} for i in range(4000)]
    held = {r["id"] for r in rows if in_validation(r, share=0.1, seed=1)}
    assert 300 < len(held) < 500
    assert held == {r["id"] for r in reversed(rows) if in_validation(r, share=0.1, seed=1)}
    assert held != {r["id"] for r in rows if in_validation(r, share=0.1, seed=2)}
    assert held < {r["id"] for r in rows if in_validation(r, share=0.2, seed=1)}
    assert not any(in_validation(r, share=0.0) for r in rows)
    copies = [{"id": i, "question": q} for i, q in (("a", "2 + 2?"), ("b", " 2 +\n2?"))]
    assert all(len({in_validation(c, share=0.5, seed=s) for c in copies}) == 1 for s in range(50))


@pytest.mark.parametrize("blank", ["", " \t", "\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_blank_answer_or_solution_is_none(tmp_path, name, blank):
    rows = [{"question": "1?", "answer": blank, "solution": blank}, {"question": "2?", "answer": "2", "solution": "s"}]
    rows.append({"question": "3?", "answer": blank, "solution": r"\boxed{3}"})
    if name == "a.csv":
        write_csv(tmp_path / name, rows)
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    have = [(row["answer"], row["solution"]) for row in read(tmp_path / name)]
    assert have == [(None, None), ("2", "s"), ("3", r"\boxed{3}")]
