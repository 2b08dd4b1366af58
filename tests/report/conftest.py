"""A small run made by the real stages, the arithmetic oracle in the models' place: questions, filter, answers, select,
an evaluation, and the recipe.json that `sq run` would write around them.
"""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import QUESTION, row_id
from sq.domains.arithmetic import ArithmeticDomain
from sq.eval.config import EvalJob
from sq.synth.config import SynthJob

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

HOSTILE = '</script><img src=x onerror=alert(1)> & "Tom" has 2 apples. How many apples does he have?'
FORMULA = r"What is $\frac{1}{2} + x^2$ if $x = 3$ and Tom pays $5 and $6? How many is that?"


def composed(name, kind, overrides):
    groups = ("stage", "model", "domain", "engine", "tracking", "filters", "benchmark")
    given = [o if o.split("=")[0] in groups else f"++{o}" for o in overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose(name, overrides=["tracking=none", "engine=oracle", *given]), kind)


def write_questions(directory, count, seed, spoiled):
    """A stage=questions as a generator would leave it: problems, a share of them unsolvable, doubles, odd texts."""
    draw = random.Random(seed)
    texts = [row["question"] for row in ArithmeticDomain().seeds(count, 100 + seed)]
    texts = [t if draw.random() > spoiled else t.replace("?", ".") for t in texts]
    texts += [texts[0], HOSTILE, FORMULA]
    config = {"stage.name": "questions", "count": len(texts) + 1, "seed": seed}
    with Ledger.open(directory, schema=QUESTION, config=config) as ledger:
        for item in ledger.todo(
            WorkItem(row_id("question", seed=seed, index=i), t) for i, t in enumerate([*texts, None])
        ):
            row = {"id": item.key, "run": "r", "parents": [], "seed": seed, "generator": "tiny", "domain": "arithmetic"}
            row |= {"model": "abc", "index": 0, "question": item.payload, "question_tokens": 20}
            if item.payload is None:
                ledger.record(item.key, rejects=[Reject(row=row, reason="cut-off", detail="after 512 tokens")])
            else:
                ledger.record(item.key, rows=[row])
        ledger.finish()


def stage(name, kind, where, *, script="synthesize", **more):
    return {"name": name, "script": script, "stage": kind, "variant": None, "reads": [], "overrides": [f"stage={kind}"],
            "output_dir": str(where), "status": "done", "seconds": 2.0, "cpu_seconds": 1.5, "log": "", "last": "",
            "run_id": "", **more}  # fmt: skip


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
