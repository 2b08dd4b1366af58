"""Finding a run: by its recipe, without one, moved elsewhere, unfinished; and what is told where there is none."""

import json

import pytest

from sq import cli
from sq.core.errors import ConfigError, RowError
from sq.core.ledger import Ledger, WorkItem
from sq.core.rows import EXAMPLE
from sq.report.artifacts import RunArtifacts, find_run
from sq.report.build import selection
from sq.report.card import UNKNOWN, licence_of
from sq.report.funnel import steps
from sq.report.safety import read_reply
from sq.report.tables import cost


def ledger(directory, stage, count, schema=EXAMPLE, *, inputs=None, finish=True, prefix="", domain=None):
    with Ledger.open(directory, schema=schema, config={"stage.name": stage, "p": prefix}, inputs=inputs) as open_ledger:
        for item in open_ledger.todo(WorkItem(f"{prefix}{i}", i) for i in range(count)):
            row = {name: None for name in schema.names} | {"id": item.key, "run": "r", "parents": [], "question": "q?"}
            row |= {
                "question_id": item.key,
                "response": "a",
                "response_index": 0,
                "query": "q?",
                "selected_by": "check",
                "domain": domain,
            }
            open_ledger.record(item.key, rows=[{k: v for k, v in row.items() if k in schema.names}])
        if finish:
            return open_ledger.finish().digest


def recipe(directory, *stages, **more):
    listed = [{"name": n, "stage": k, "output_dir": str(directory / n), "status": "done", **m} for n, k, m in stages]
    (directory / "recipe.json").write_text(json.dumps({"output_dir": str(directory), "stages": listed, **more}))


def test_a_directory_without_a_recipe_is_searched(tmp_path):
    digest = ledger(tmp_path / "deep/er/s", "select", 2)
    ledger(tmp_path / "t", "answers", 3, inputs={"input": digest}, prefix="t")
    found = find_run(tmp_path)
    assert [(s.name, s.kind) for s in found.stages] == [("t", "answers"), ("deep/er/s", "select")]
    assert [s.name for s in found.inputs_of(found.stages[0])] == ["deep/er/s"]
    assert [(s.entered, s.manifest.rows) for s in steps(found)] == [(3, 3), (2, 2)]


def test_a_recipe_that_was_moved_is_found_where_it_is(tmp_path):
    ledger(tmp_path / "a/s", "select", 2)
    recipe(tmp_path / "a", ("s", "select", {}))
    (tmp_path / "a").rename(tmp_path / "b")
    (stage,) = find_run(tmp_path / "b").stages
    assert stage.directory == tmp_path / "b/s" and stage.manifest.rows == 2


def test_the_dataset_is_all_selections_of_the_last_condition_and_one_seed(tmp_path):
    names = ["x", "a-s0", "b-s0", "a-s1", "side"]
    for name in names:
        ledger(tmp_path / name, "select", 1, prefix=name)
    tags = {
        "x": ("raw", {}),
        "a-s0": ("best", {"seed": "0"}),
        "b-s0": ("best", {"seed": "0"}),
        "a-s1": ("best", {"seed": "1"}),
        "side": (None, {}),  # a study beside the conditions
    }
    recipe(tmp_path, *((n, "select", {"variant": v, "tags": t}) for n, (v, t) in tags.items()))
    assert [s.name for s in find_run(tmp_path).finals] == ["a-s0", "b-s0"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, RowError, "holds no stage's output"),
        ("{", ConfigError, "it lists no stages"),
        ("[]", ConfigError, "it lists"),
    ],
)
def test_what_is_no_run_is_said(tmp_path, content, error, message):
    if content:
        (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(error, match=message):
        find_run(tmp_path)


def test_the_command_line_says_it_in_one_message(tmp_path, capsys):
    for command in (["report", str(tmp_path / "no")], ["build", str(tmp_path / "no")]):
        with pytest.raises(SystemExit):
            cli.main(command)
        assert "there is no directory" in capsys.readouterr().err
    (tmp_path / "mine.csv").write_text("question,response\n1+1?,2\n")
    with pytest.raises(SystemExit):
        cli.main(["build", str(tmp_path / "mine.csv")])
    assert "is a file; give a directory" in capsys.readouterr().err


def test_cost_shows_the_bill_beside_its_forecast_and_survives_odd_files(tmp_path):
    row = {"name": "answers", "rows": 1000, "tokens_in": 5, "tokens_out": 2_000_000, "gpu_hours": 1.5, "price": 2.25,
           "forecast": {"gpu_hours": 1.0, "price": 1.5}}  # fmt: skip
    bill = {"hardware": {"name": "cpu<2>"}, "stages": [row], "total": {"gpu_hours": 1.5, "price": 2.25, "kept_rows": 50,
            "per_kept_row": 0.045}, "forecast": {"total": {"gpu_hours": 1.0, "price": 1.5}}}  # fmt: skip
    (tmp_path / "bill.json").write_text(json.dumps(bill))
    body = cost(RunArtifacts(directory=tmp_path, recipe={}, stages=[])).body
    assert all(text in body for text in ("2,000,000", "1.5 h", "2.25", "forecast time", "50 rows were kept: 0.045 USD"))
    assert "cpu&lt;2&gt;" in body
    assert "not known" not in body and "No price" not in body
    free = {**bill, "stages": [{**row, "price": 0, "forecast": None}], "total": {"gpu_hours": 1.5, "price": 0.0}}
    (tmp_path / "bill.json").write_text(json.dumps(free))
    body = cost(RunArtifacts(directory=tmp_path, recipe={}, stages=[])).body
    assert '<td class="n">not known</td>' in body and "No price is known" in body
    for odd in ("", "[1]", '{"stages": 3}', '{"stages": [3, {"rows": "x"}], "total": null}'):
        (tmp_path / "bill.json").write_text(odd)
        cost(RunArtifacts(directory=tmp_path, recipe={}, stages=[]))


def test_a_selection_that_lost_candidates_does_not_add_up(tmp_path):
    digest = ledger(tmp_path / "answers", "answers", 3)
    ledger(tmp_path / "select", "select", 2, inputs={"input": digest}, prefix="s")
    answers, select = steps(find_run(tmp_path))
    assert (select.entered, select.manifest.rows, select.manifest.rejects) == (3, 2, 0)
    assert answers.reconciles and not select.reconciles


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("\n\nsafe", ("safe", [])),
        ("unsafe\nS1,S10", ("unsafe", ["S1", "S10"])),
        ("Unsafe S2", ("unsafe", ["S2"])),
        ("It is safe.", ("unreadable", [])),
        ("safely", ("unreadable", [])),
        ("", ("unreadable", [])),
    ],
)
def test_a_safety_reply_is_read_from_its_start_alone(reply, verdict):
    assert (read_reply(reply)[0], list(read_reply(reply)[1])) == verdict


def test_licences_of_known_models_and_of_no_other():
    assert licence_of("qwen2-math-7b-instruct") == "Apache-2.0" == licence_of("x", "Qwen/Qwen2.5-Math-7B")
    assert "DeepSeek" in licence_of("deepseek-math-7b-rl") and licence_of("my-own") == UNKNOWN


@pytest.mark.parametrize(("place", "title"), [("mine/select-x", "mine"), ("outputs/select-x", "select-x")])
def test_a_selection_without_a_recipe_is_named_after_its_directory(tmp_path, place, title):
    ledger(tmp_path / place, "select", 2)
    assert selection(tmp_path / place).title == title


@pytest.mark.parametrize("own", ["math", "code", "programs", None])
@pytest.mark.parametrize("listed", [True, False])
def test_what_stands_beside_a_selection_does_not_decide_its_domain(tmp_path, own, listed):
    digest = ledger(tmp_path / "zz", "answers", 2, domain=own)
    ledger(tmp_path / "mine", "select", 2, inputs={"input": digest})
    ledger(tmp_path / "aa", "answers", 2, prefix="other", domain="arithmetic")
    if not listed:
        recipe(tmp_path, ("zz", "answers", {}), ("aa", "answers", {}), domain="arithmetic")
    artifacts = selection(tmp_path / "mine")
    assert (artifacts.domain and artifacts.domain.name) == own


def test_a_build_says_its_rows(tmp_path, capsys):
    ledger(tmp_path / "mine/select-x", "select", 2)
    cli.main(["build", str(tmp_path / "mine/select-x")])
    shown = capsys.readouterr().out
    assert shown.startswith(f"dataset: 2 rows -> {tmp_path / 'mine/select-x-dataset'} | load_dataset(")
    assert "# mine: questions and solutions" in (tmp_path / "mine/select-x-dataset/README.md").read_text()
