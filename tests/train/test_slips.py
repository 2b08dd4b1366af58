"""What a mistake leaves behind: a message with the rows and the fix, and nothing that blocks the corrected command."""

import json

import pytest

from sq.core.errors import ConfigError, SqError
from sq.train.fit import fit

QUICK = ("stage.max_steps=1", "stage.validation=0")


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_that_are_all_refused_are_shown_and_leave_nothing(job, tmp_path):
    source = write_rows(tmp_path / "rates.jsonl", [{"question": "What is 2 + 3?", "fail_rate": 7}] * 5)
    with pytest.raises(
        SqError, match=r"no row is left.*5 rate\. The first:\n  \w+: fail_rate=7\.0 is not between"
    ) as told:
        fit(job("difficulty", f"data.input={source}"))
    assert told.value.exit_code == 2 and len(str(told.value).splitlines()) == 4
    assert not (tmp_path / "out").exists()


def test_a_missing_column_is_mended_in_the_words_of_train(job, tmp_path):
    source = write_rows(tmp_path / "other.jsonl", [{"text": "What is 2 + 3?"}])
    with pytest.raises(SqError, match=r"say so: data\.columns=\{question: THEIR_NAME\}"):
        fit(job("qft", f"data.input={source}"))
    assert not (tmp_path / "out").exists()


def test_what_came_to_nothing_does_not_block_the_corrected_command(job, tmp_path):
    """Only right solutions: found when the run is on record already."""
    rows = [
        {"question": f"What is {i} + 3?", "response": f"\\boxed{{{i + 3}}}", "answer": str(i + 3)} for i in range(9)
    ]
    right, mixed = write_rows(tmp_path / "right.jsonl", rows), tmp_path / "mixed.jsonl"
    write_rows(mixed, [row | {"correct": bool(i % 2)} for i, row in enumerate(rows)])
    with pytest.raises(SqError, match="only right solutions"):
        fit(job("reward", f"data.input={right}", *QUICK))
    assert (tmp_path / "out" / "train.json").exists()
    fit(job("reward", f"data.input={mixed}", *QUICK))
    assert "figures" in json.loads((tmp_path / "out" / "train.json").read_text())


def test_a_directory_of_something_else_is_left_alone(job, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"out holds manifest\.json, which no training put there; choose a new output"
    ):
        fit(job("qft", "data.limit=5", *QUICK))
    (tmp_path / "a-file").write_text("")
    with pytest.raises(SqError, match="A file stands where a directory is needed: choose another output_dir") as told:
        fit(job("qft", "data.limit=5", f"output_dir={tmp_path / 'a-file'}", *QUICK))
    assert told.value.exit_code == 2
