"""A built dataset is what loads: no cache of `datasets` gives the rows of another build of the same name or place."""

import json
import os
import shutil
from pathlib import Path

from sq.core.ledger import Ledger, WorkItem, read_rows
from sq.core.rows import EXAMPLE, fit_row, row_id
from sq.data.sources import SourceConfig, read_source
from sq.report.build import build


def select(directory: Path, count: int, word: str) -> Path:
    """A finished stage=select of so many rows."""
    with Ledger.open(directory, schema=EXAMPLE, config={"stage.name": "select", "word": word}) as ledger:
        for item in ledger.todo(WorkItem(row_id("example", word=word, index=i), i) for i in range(count)):
            question = f"{word} {item.payload}?"
            row = {"id": item.key, "run": "r", "parents": ["p"], "question": question, "question_id": item.key,
                   "query": question, "response": "7", "response_index": 0, "selected_by": "first"}  # fmt: skip
            ledger.record(item.key, rows=[fit_row(row, EXAMPLE)])
        ledger.finish()
    return directory


def loaded(directory: Path, cache: Path) -> list[str]:
    """The questions as TRL's scripts load them: the path and nothing else, then its split."""
    from datasets import load_dataset

    return load_dataset(str(directory), name=None, cache_dir=str(cache))["train"]["question"][:]


def test_two_builds_of_one_name_and_a_rebuild_in_place(tmp_path):
    """The second build of either kind is loaded with a cache that the first one filled; file times tell nothing."""
    places = [("a", 30), ("b", 4), ("a", 7)]
    for number, (place, count) in enumerate(places):
        word, target = f"build {number}:", tmp_path / place / "dataset"
        shutil.rmtree(target, ignore_errors=True)
        built = build(select(tmp_path / f"select-{number}", count, word), target)
        for file in built.rglob("*"):
            os.utime(file, (10**9, 10**9))
        for cache in ("of its own", "used", "used"):
            where = tmp_path / (f"cache-{number}" if cache == "of its own" else "cache")
            assert loaded(built, where) == [f"{word} {i}?" for i in range(count)], f"{place}, cache {cache}"


def test_what_was_built_is_read_as_an_input(tmp_path):
    built = build(select(tmp_path / "select", 5, "q"), tmp_path / "dataset")
    rows = list(read_source(SourceConfig(input=str(built)), ("question", "response")))
    selected = list(read_rows(tmp_path / "select"))
    assert [(r["id"], r["question"], r["response"]) for r in rows] == [
        (r["id"], r["question"], r["response"]) for r in selected
    ]


def test_a_selection_made_by_hand_beside_a_recipe_is_built(tmp_path):
    stages = [{"name": "other", "stage": "select", "output_dir": str(select(tmp_path / "other", 3, "o"))}]
    (tmp_path / "recipe.json").write_text(json.dumps({"stages": stages}))
    built = build(select(tmp_path / "mine", 2, "m"), tmp_path / "dataset")
    assert json.loads((built / "build.json").read_text())["rows"] == 2
