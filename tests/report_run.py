"""What the report's tests make runs of: stages composed here, questions as a generator leaves them, a recipe entry."""

import random

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import QUESTION, SCORE, row_id
from sq.domains.arithmetic import ArithmeticDomain
from sq.report.artifacts import StageArtifacts

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


def student(directory, right, **tags):
    """An evaluation in which these problems were answered right, by the first grader; by the second none."""
    with Ledger.open(directory / "b" / "scores", schema=SCORE, config={}) as ledger:
        for item in ledger.todo(WorkItem(str(i), i) for i in range(len(right))):
            row = {"id": item.key, "run": "r", "parents": [], "question": "q?", "benchmark": "b", "item": item.key}
            row |= {"sample": 0, "prediction": "", "reference": "1", "verdict": "", "profile": "exact"}
            graded = [{**row, "correct": right[item.payload]}, {**row, "profile": "late", "correct": False}]
            ledger.record(item.key, rows=[dict.fromkeys(SCORE.names) | row for row in graded])
        ledger.finish()
    return StageArtifacts(name=directory.name, kind="evaluate", directory=directory, tags=tags)
