"""`sq why`: the whole story of a question from its making to the example it became, and mistakes that are told."""

import json
import subprocess
import sys

import pytest

from sq.core.errors import SqError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.synth.why import why


@pytest.fixture
def chain(run, tmp_path):
    texts = [row["question"] for row in ArithmeticDomain().seeds(6, 0, "train")]
    file = tmp_path / "q.jsonl"
    file.write_text(
        "".join(json.dumps({"question": t}) + "\n" for t in [*texts, texts[0], "Tom has some apples. How?"])
    )
    run("filter", f"input={file}", f"stage.scores={tmp_path / 's'}", to="out/f")
    run("answers", f"input={tmp_path}/out/f", "engine.error_rate=0.4", to="out/a")
    run("select", f"input={tmp_path}/out/a", to="out/s")
    return tmp_path / "out"


def test_a_question_is_followed_to_its_candidates_and_the_chosen_one(chain):
    question = next(read_rows(chain / "f"))
    story = why(question["id"], [chain])
    assert question["question"] in story and "judge_reply: Let me try to solve it" in story
    assert story.count("answers (") == 5 and story.count("select (") == 5
    assert "rejected, not_chosen: rank 1" in story and "reward: 1.0" in story
    assert story.endswith("It ended kept by filter; 5 rows were made from it.")


def test_a_candidate_tells_of_its_question_and_why_it_was_not_chosen(chain):
    reject = next(r for r in read_rejects(chain / "s") if r["reason"] == "not_chosen")
    story = why(reject["id"][:12], [chain])
    lines = [line for line in story.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["filter", "answers", "select", "It"]
    assert "It ended rejected by select (not_chosen)" in story


def test_a_rejected_question_says_what_it_repeats(chain):
    repeat = next(r for r in read_rejects(chain / "f") if r["reason"] == "duplicate")
    first = json.loads(repeat["row"])["duplicate_of"]
    assert f"duplicate_of: {first}" in why(repeat["id"], [chain])


def test_slips_are_told(chain, tmp_path):
    with pytest.raises(SqError, match="no row or reject has it"):
        why("ffffffffffff", [chain])
    with pytest.raises(SqError, match="too short"):
        why("ff", [chain])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SqError, match="no stage's output is below"):
        why("ffffffff", [tmp_path / "empty"])


def test_the_command(chain):
    row = next(read_rows(chain / "f"))["id"]
    code = "import sys; from sq.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "why", row, "--in", str(chain)], capture_output=True, text=True)
    assert done.returncode == 0 and "It ended kept by filter" in done.stdout and done.stdout.endswith("False\n")


def test_a_line_of_an_input_has_the_story_of_its_row(chain, tmp_path):
    row = next(row for row in read_rows(chain / "f") if row["source_row"] == 3)
    for place in ("q.jsonl:3", f"{tmp_path}/q.jsonl:3"):
        assert why(place, [chain]) == why(row["id"], [chain])


def test_files_of_one_name_are_told_apart(run, tmp_path):
    ids = {}
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        texts = [row["question"] for row in ArithmeticDomain().seeds(2, seed, "train")]
        lines = [*(json.dumps({"question": text}) for text in texts), f"no json of {name}"]
        (tmp_path / name / "q.jsonl").write_text("\n".join(lines) + "\n")
        run("filter", f"input={tmp_path}/{name}/q.jsonl", "filters=[format]", to=f"out/{name}")
        ids[name] = next(row["id"] for row in read_rows(tmp_path / "out" / name) if row["source_row"] == 2)
    out = [tmp_path / "out"]
    for name, row in ids.items():
        assert why(f"{tmp_path}/{name}/q.jsonl:2", out) == why(row, out)
        assert f"text: no json of {name}" in why(f"{tmp_path}/{name}/q.jsonl:3", out)
    with pytest.raises(SqError, match="2 rows are from it"):
        why("q.jsonl:2", out)
    with pytest.raises(SqError, match="c/q.jsonl is no file here; by its name alone: sq why q.jsonl:2"):
        why(f"{tmp_path}/c/q.jsonl:2", out)
    (tmp_path / "a/q.jsonl").write_text('{"question": "Another?"}\n{"question": "One more?"}\n')
    with pytest.raises(SqError, match="what was read as q.jsonl has other content"):
        why(f"{tmp_path}/a/q.jsonl:2", out)


def test_a_line_that_never_was_a_row_says_why(run, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "Tom has 2 apples. How many apples does he have?"}\nno json\n')
    run("filter", f"input={file}", "filters=[format]", to="f")
    story = why("bad.jsonl:2", [tmp_path])
    assert "this row rejected, broken_json: bad.jsonl, line 2: is no JSON" in story and "text: no json" in story


LINES = {
    "this row kept": (2, 3, 4),
    "this row rejected, empty_text": (5,),
    "rejected, left_out": (8, 9),
    "this row rejected, field_count: q.csv, line 10": (10, 11),
    "no row or reject has it": (1, 6, 7, 12, 99),
}


def test_every_line_of_a_record_has_its_story(run, tmp_path):
    text = (
        'question,k\n"How many are\n\ntwo and two?",4\n,5\n\n\n"How many caf\u00e9s\nare one and one?",6\na,b,"c\nd"\n'
    )
    (tmp_path / "q.csv").write_bytes(text.encode("latin-1"))
    given = (f"input={tmp_path}/q.csv", "source.encoding=latin-1", "where='k < 6'", "filters=[format]")
    run("filter", *given, "tracking.enabled=true", f"tracking.uri=sqlite:///{tmp_path}/m.db", to="f")
    for story, lines in LINES.items():
        for line in lines:
            try:
                told = why(f"{tmp_path}/q.csv:{line}", [tmp_path / "f"])
            except SqError as error:
                told = str(error)
            assert story in told, line
    with pytest.raises(SqError, match=r"found by the file's path, as \./q\.csv:3"):
        why("q.csv:3", [tmp_path / "f"])


@pytest.mark.parametrize("stages", [["questions"], ["answers"], ["questions", "answers"]])
def test_what_was_made_from_a_line_has_its_story_and_leads_back_to_it(run, tmp_path, stages):
    texts = [row["question"] for row in ArithmeticDomain().seeds(3, 0, "train")]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    given, out = f"{tmp_path}/seeds.jsonl", tmp_path / "out"
    for stage in stages:
        more = ["source=evol", "stage.source.rounds=2", "stage.count=3"] if stage == "questions" else ["stage.n=2"]
        run(stage, *more, f"input={given}", to=f"out/{stage}")
        given = f"{tmp_path}/out/{stage}"
    story = why(f"{tmp_path}/seeds.jsonl:2", [out])
    assert story.endswith(f"in no stage here; {2 if len(stages) == 1 else 6} rows were made from it.")
    row = next(row for row in read_rows(out / stages[-1]) if row["id"] in story)
    assert why(row["parents"][-1], [out]) == why("seeds.jsonl:2", [out]) == story
    if "questions" in stages:
        assert f"made from: seeds.jsonl:2 ({row['parents'][-1]})" in why(row["id"], [out])


def test_a_directory_says_its_rejects_by_reason_with_an_example(chain):
    told = why(str(chain), [])
    assert "filter (" in told and "8 items in, 6 rows, 2 rejects" in told
    assert "  1 duplicate, such as " in told and "question: Tom has some apples. How?" in told
    assert "select (" in told and " not_chosen, such as " in told


def test_what_is_not_there_says_where_it_was_sought(chain):
    with pytest.raises(SqError, match=rf"nothing.jsonl:9: no row or reject has it\. Looked at: {chain}/f, {chain}/a"):
        why("nothing.jsonl:9", [chain])


def test_the_rows_that_a_training_could_not_use_have_their_story(chain, tmp_path):
    question = next(read_rows(chain / "f"))
    bad = {"file": "latin.csv", "line": 4, "text": "Caf\\xe9 \x1b[31mprice?"}
    rejects = [
        {"id": "latin.csv:4", "reason": "invalid_utf8", "detail": "column 'question' is not UTF-8", "row": bad},
        {"id": question["id"], "reason": "too-long", "detail": "99 tokens, limit 40", "row": question},
    ]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "rejects.jsonl").write_text("".join(json.dumps(reject) + "\n" for reject in rejects))
    (tmp_path / "t" / "train.json").write_text('{"config": {"stage.name": "sft"}}')
    listed = why(str(tmp_path / "t"), [])
    assert "1 invalid_utf8, such as latin.csv:4: column 'question'" in listed
    assert "sft (" in listed and "1 too-long, such as " + question["id"] in listed and "\x1b" not in listed
    line = why("latin.csv:4", [tmp_path / "t"])
    assert "this row rejected, invalid_utf8: column" in line and "\ufffd[31mprice?" in line
    story = why(question["id"], [chain / "f", tmp_path / "t"])
    assert "It ended rejected by sft (too-long)" in story and story.startswith("filter (")


@pytest.mark.parametrize("filters", ["format", "duplicates"])
def test_a_row_that_where_left_out_is_rejected_by_the_stage_it_was_left_out_of(run, tmp_path, filters):
    (tmp_path / "q.jsonl").write_text(
        '{"question": "What is 1 plus 1?", "k": 1}\n{"question": "What is 2 plus 2?", "k": 2}\n'
    )
    run("filter", f"input={tmp_path}/q.jsonl", "filters=[format]", to="out/first")
    run("filter", f"input={tmp_path}/out/first", "where='k > 1'", f"filters=[{filters}]", to="out/second")
    out, kept = next(read_rows(tmp_path / "out/first"))["id"], next(read_rows(tmp_path / "out/second"))["id"]
    assert why(out, [tmp_path / "out"]).endswith("It ended rejected by filter (left_out); 0 rows were made from it.")
    assert why(kept, [tmp_path / "out"]).endswith("It ended kept by filter; 0 rows were made from it.")


def test_a_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SqError, match=r"there is no directory .*/nowhere; give one"):
        why(str(tmp_path / "nowhere"), [tmp_path])
