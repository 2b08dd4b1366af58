"""A small run made by the real stages, the arithmetic oracle in the models' place: questions, filter, answers, select,
an evaluation, and the recipe.json that `sq run` would write around them.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest
from report_run import composed, stage, write_questions

from sq.eval.config import EvalJob
from sq.synth.config import SynthJob

os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The run's directory, made once; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("made") / "mini"
    root.mkdir()
    write_questions(root / "questions-raw", 40, 0, 0.7)
    write_questions(root / "questions-qft", 40, 1, 0.2)

    def synth(kind, to, *overrides):
        composed("synthesize", SynthJob, [f"stage={kind}", f"output_dir={root / to}", *overrides]).run()

    synth("filter", "filter", f"input={root / 'questions-qft'}", f"stage.scores={root / 'scores'}",
          "filters=[duplicates,solvability]", "engine.error_rate=0.1")  # fmt: skip
    synth("answers", "answers", f"input={root / 'filter'}", "stage.n=3", "engine.error_rate=0.3")
    synth("select", "select", f"input={root / 'answers'}", "stage.method=majority")
    for name, rate in (("evaluate-raw", 0.5), ("evaluate-qft", 0.1)):
        composed("evaluate", EvalJob, ["benchmark=[arithmetic]", "limit=40", f"engine.error_rate={rate}",
                                       f"output_dir={root / name}"]).run()  # fmt: skip
    stages = [
        stage("questions-raw", "questions", root / "questions-raw", variant="raw"),
        stage("questions-qft", "questions", root / "questions-qft", variant="+QFT"),
        stage("filter", "filter", root / "filter", variant="+filter+reward"),
        stage("answers", "answers", root / "answers"),
        stage("select", "select", root / "select"),
        stage("evaluate-raw", "evaluate", root / "evaluate-raw", script="evaluate", variant="raw"),
        stage("evaluate-qft", "evaluate", root / "evaluate-qft", script="evaluate", variant="+QFT",
              tags={"figure": "data_size", "x": "100"}),
    ]  # fmt: skip
    recipe = {"recipe": "mini", "title": "A <small> run", "seed": 0, "domain": "arithmetic", "output_dir": str(root),
              "command": "sq run recipe=mini", "status": "done", "seconds": 14.0, "stages": stages}  # fmt: skip
    (root / "recipe.json").write_text(json.dumps(recipe))
    return root


@pytest.fixture
def run_copy(made, tmp_path):
    """A copy of the run that a test may change; recipe.json still names the old place, as after a move."""
    return shutil.copytree(made, tmp_path / "moved")
