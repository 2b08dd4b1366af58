"""A filter and a model of one's own, as docs/adding.md has them, in a place of their own: no file of sq/ is touched."""

import json
import os
import re
from pathlib import Path

import pytest
from forked_command import run

from sq.core.ledger import read_rejects, read_rows

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def mine(tmp_path):
    """The blocks of the page as the files that it names, the model's path replaced by one that is here."""
    text = (ROOT / "docs" / "adding.md").read_text()
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    (_, model), (_, code), (_, settings) = BLOCK.findall(sections["A model"])[0], *BLOCK.findall(sections["A filter"])
    (_, source), (_, prompts) = BLOCK.findall(sections["A question source"])
    files = {
        "mine/model/my-model.yaml": re.sub(r"path: .*", "path: package:tiny", model),
        "mine/filters/shouting.yaml": settings,
        "shouting.py": code,
        "mine/source/shorter.yaml": prompts,
        "shorter.py": source,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "q.jsonl").write_text(
        "".join(
            json.dumps({"question": text}) + "\n"
            for text in ("HOW MANY APPLES?", "How many pears?", "FIND THE SUM OF x AND y.")
        )
    )
    return tmp_path


def synthesize(directory, *settings):
    words = ["--config-dir", "mine", "input=q.jsonl", *settings, "tracking=none"]
    done = run("synthesize.py", words, directory, os.environ | {"PYTHONPATH": f"{ROOT}:{directory}"})
    return done.returncode, done.stderr


def test_a_filter_is_one_python_file_and_one_yaml(mine):
    chain = ["stage=filter", "engine=oracle", "filters=[format,shouting]", "filters.shouting.share=0.7"]
    code, log = synthesize(mine, *chain, "output_dir=f", "stage.scores=s")
    assert code == 0, log
    assert [(r["reason"], json.loads(r["row"])["question"]) for r in read_rejects(mine / "f")] == [
        ("shouting", "HOW MANY APPLES?"),
        ("shouting", "FIND THE SUM OF x AND y."),
    ]
    assert [row["question"] for row in read_rows(mine / "f")] == ["How many pears?"]
    code, log = synthesize(mine, *chain[:-1], "filters.shouting.shar=0.7", "output_dir=g")
    assert code == 2 and "unknown key 'filters.shouting.shar' (value 0.7), did you mean 'share'?" in log


@pytest.mark.slow
def test_a_question_source_is_one_python_file_and_one_yaml(mine):
    text = "Tom has 5 apples. Tom buys 3 apples. How many apples does Tom have now?"
    (mine / "q.jsonl").write_text(json.dumps({"question": text}) + "\n")
    words = ["stage=questions", "source=shorter", "stage.count=3", "engine=oracle", "output_dir=s"]
    code, log = synthesize(mine, *words)
    assert code == 0, log
    rows = [*read_rows(mine / "s"), *(json.loads(r["row"]) for r in read_rejects(mine / "s"))]
    assert len(rows) == 3 and {row["question_source"] for row in rows} == {"shorter"}


@pytest.mark.slow
def test_a_model_is_one_yaml(mine):
    code, log = synthesize(
        mine, "stage=answers", "model=my-model", "engine=hf", "stage.n=1", "stage.max_tokens=4", "output_dir=a"
    )
    assert code == 0, log
    rows = list(read_rows(mine / "a"))
    assert len(rows) == 3 and {row["response_model"] for row in rows} == {"my-model"}
