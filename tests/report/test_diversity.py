"""The section on diversity: which sets it compares, of how many questions, and what it says where a measure lacks."""

import re

from report_run import write_questions

from sq.core.ledger import Ledger, WorkItem
from sq.core.rows import QUESTION
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.diversity import diversity


def run_of(directory, recipe, *stages):
    made = [StageArtifacts(name=name, kind=kind, directory=directory / name, tags=tags) for name, kind, tags in stages]
    return RunArtifacts(directory=directory, recipe={"domain": recipe}, stages=made)


def rows_of(section):
    rows = re.findall(r"<tr>(.*?)</tr>", str(section.body), re.DOTALL)
    cells = [
        [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]
    return {row[0]: row[1:] for row in cells if row}


def write_topics(directory, topics):
    with Ledger.open(directory, schema=QUESTION, config={"stage.name": "annotate"}) as ledger:
        for item in ledger.todo(WorkItem(f"{directory.name}{i}", topic) for i, topic in enumerate(topics)):
            row = dict.fromkeys(QUESTION.names) | {"id": item.key, "run": "r", "parents": [], "seed": 0, "model": "m"}
            row |= {"question": f"What of {item.payload} is it?", "topic": item.payload, "generator": "g", "index": 0}
            ledger.record(item.key, rows=[row])
        ledger.finish()


def test_one_generator_stands_beside_a_mix_and_what_cannot_be_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sq.report.content.SEEDS", 50)
    write_questions(tmp_path / "one", 20, 0, 0.0)
    write_questions(tmp_path / "mix", 30, 1, 0.5)
    stages = [(name, "questions", {"figure": "generators", "series": name}) for name in ("one", "mix")]
    section = diversity(run_of(tmp_path, "arithmetic", *stages), model=str(tmp_path / "no-model"))
    rows = rows_of(section)
    assert {"seeds", "one", "mix"} <= rows.keys() and "23 questions of each set" in section.summary
    assert len(rows["one"]) == 5 and rows["one"] != rows["mix"], "four kinds of n-grams and new topics, no Vendi score"
    assert "No Vendi score: " in section.body and "is no directory" in section.body


def test_new_topics_are_those_of_annotated_questions_that_no_annotated_seed_has(tmp_path):
    write_topics(tmp_path / "annotate-seeds", ["Algebra", "Algebra", "Geometry"])
    write_topics(tmp_path / "questions", ["Algebra", "Optics", "Sets", "Optics"])
    stages = [("annotate-seeds", "annotate", {}), ("questions", "questions", {})]
    rows = rows_of(diversity(run_of(tmp_path, "math", *stages), model=str(tmp_path / "no-model")))
    assert rows["questions"][-1] == "66.7%"
