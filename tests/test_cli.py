"""The `sq` command as a person meets it: grade and compare, their output, and mistakes that end in one message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sq import cli

ROOT = Path(__file__).parent.parent


@pytest.fixture
def outputs(tmp_path):
    rows = [
        {"id": 1, "prediction": "so \\boxed{42}", "reference": "42"},
        {"id": 2, "prediction": "the answer is 7", "reference": "8"},
        {"id": 3, "prediction": None, "reference": "8"},
    ]
    path = tmp_path / "outputs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + "nonsense\n")
    return path


def code_of(*arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return stopped.value.code


def test_grade_keeps_rows_and_order_and_tells_the_score(outputs, capsys):
    cli.main(["grade", str(outputs), "--profile", "strict", "--profile", "dart", "--workers", "1"])
    graded = [json.loads(line) for line in outputs.with_name("outputs.graded.jsonl").read_text().splitlines()]
    assert [r.get("id") for r in graded] == [1, 2, 3, None]
    assert [r["correct"] for r in graded] == [True, False, False, False]
    assert [r["dart_verdict"] for r in graded] == ["correct", "wrong", None, None]
    assert "error" in graded[2] and "line 4: is no JSON" in graded[3]["error"]
    shown = capsys.readouterr().out
    assert "strict: 50.0% of 2 rows correct (1 correct, 1 wrong)" in shown and "dart: 50.0%" in shown
    assert "not counted, as they could not be graded: 2 rows of 4" in shown
    assert f"graded rows: {outputs.with_name('outputs.graded.jsonl')}" in shown


def test_grade_takes_other_column_names_and_writes_where_it_is_told(tmp_path):
    path, out = tmp_path / "x.jsonl", tmp_path / "y.parquet"
    path.write_text(json.dumps({"said": "\\boxed{1/2}", "gold": "0.5"}) + "\n")
    cli.main(
        ["grade", str(path), "--output", str(out), "--prediction", "said", "--reference", "gold", "--workers", "1"]
    )
    assert pq.read_table(out).to_pylist()[0]["correct"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade", "{dir}/no.jsonl"], "there is no file"),
        (["determinism", "model=tinyy"], "model=tinyy is not one of"),
        (["grade", "{file}", "--profile", "strickt"], "there is no profile 'strickt', did you mean 'strict'"),
        (["grade", "{file}", "--prediction", "predictoin"], "has no column 'predictoin', did you mean 'prediction'"),
        (["grade", "{file}", "--workers", "0"], "--workers 0 must be at least 1"),
        (["grade", "{file}", "--output", "{file}"], "is the input; name another file"),
        (["compare", "{dir}/a", "{dir}/b"], "there is no directory"),
        (["compare", "{dir}", "{dir}"], "is no evaluation's output: it has no BENCHMARK/scores"),
    ],
)
def test_a_slip_ends_in_one_message(outputs, tmp_path, arguments, message, capsys):
    start = "import sys; sys.argv = ['sq', '--help']\nfrom sq import cli"
    code = f"{start}\ntry: cli.main()\nexcept SystemExit: pass\n{LIGHT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert all(name in done.stdout for name in ("grade", "compare", "model")), done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "nothing heavy is imported for --help"


LIGHT = "print([m for m in ('torch', 'numpy', 'pyarrow', 'transformers', 'mlflow', 'sympy') if m in sys.modules])"


@pytest.mark.parametrize("command", [["-m", "sq.cli", "grade", "GIVEN"], ["train.py", "--help"]])
def test_a_reader_that_goes_away_ends_a_command_without_a_word(command, outputs):
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(outputs) if word == "GIVEN" else word for word in command]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
