"""docs/adding.md: a stage and a loss outside `sq/` are a file and a YAML, as written there; each trains two steps."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from forked_command import run

ROOT = Path(__file__).parents[2]
SECTIONS = {"my_sft": "## A training stage", "my_qpo": "## A loss"}


def block(section: str, language: str) -> str:
    """The first block of code of a section of the page."""
    text = (ROOT / "docs" / "adding.md").read_text().partition(f"{section}:")[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.S)
    assert found is not None, f"{section} has no {language}"
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "word"), [("my_sft", "stage.focus=1"), ("my_qpo", "stage.beta=0.5")])
def test_what_the_page_adds_trains(module: str, word: str, tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(block(SECTIONS[module], "python"))
    stage = tmp_path / "my_conf" / "stage" / "mine.yaml"
    stage.parent.mkdir(parents=True)
    example = block(SECTIONS["my_sft"], "yaml").replace("name: focal", "name: mine")
    name = re.search(r"class (\w+Stage)", block(SECTIONS[module], "python"))
    assert name is not None
    stage.write_text(example.replace("my_sft.FocalStage", f"{module}.{name[1]}"))
    rows = [json.loads(line) for line in pairs.open()]
    answered = [row | {"question": row["chosen"], "response": "No one knows."} for row in rows]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in answered))
    given = [
        "--config-dir", "my_conf", "stage=mine", "model=tiny", f"model.path={tiny_model}", f"data.input={pairs}",
        "stage.max_steps=2", "tracking=none", "trainer.accelerator=cpu", "trainer.threads=1", "output_dir=out", word,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = run("train.py", given, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "train.json").read_text())
    assert record["config"]["stage.name"] == "mine" and record["figures"]["train/loss"] > 0
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
