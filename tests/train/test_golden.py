"""Losses and gradient norms of the first steps of each stage, as they were: a refactor must give the same.

`golden.json` changes only with what a stage computes, and then with a line in the CHANGELOG; it is made again by
`GOLDEN=write python -m pytest tests/train/test_golden.py`. Rows and weights are fixed (the tiny model is in git). In
fp32 the order of sums differs between processors, by less than the tolerances here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sq.core.metrics import TRAINING, find_metric
from sq.train.config import TrainJob
from sq.train.fit import fit
from sq.train.module import TrainingModule

GOLDEN = Path(__file__).with_name("golden.json")
PACKS, STEPS = 2, 5
WORDS = (
    "model.path=package:tiny", "stage.pack_tokens=256", f"stage.batch_packs={PACKS}", "stage.batch_rows=null",
    f"stage.max_steps={STEPS}", "stage.epochs=20", "stage.warmup_steps=1", "stage.validation=0",
)  # fmt: skip
STAGES = {
    "qft": ("stage.lr=1e-4",),
    "sft": ("stage.lr=1e-4",),
    "qpo": ("stage.lr=3e-6",),
    "difficulty": ("stage.lr=2e-5", "stage.head_lr=1e-3"),
    "reward": ("stage.lr=2e-5", "stage.head_lr=1e-3"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_steps_are_as_they_were(stage: str, job: Callable[..., TrainJob], tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in _rows()))
    made = job(stage, *WORDS, *STAGES[stage], f"data.input={source}")
    found = _measured(made)
    figures = json.loads((Path(made.output_dir) / "train.json").read_text())["figures"]
    assert not [name for name in figures if find_metric(name, TRAINING) is None], "sq/core/metrics.py lacks these"
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(golden | {stage: found}, indent=1) + "\n")
        return
    assert len(found["losses"]) == len(found["norms"]) == STEPS
    assert found["losses"] == pytest.approx(golden[stage]["losses"], rel=1e-6)
    assert found["norms"] == pytest.approx(golden[stage]["norms"], rel=1e-5)


def _measured(made: TrainJob) -> dict[str, list[float]]:
    """The loss of each step and the norm of its gradient."""
    parts, norms = [], []
    step, clip = TrainingModule.training_step, torch.nn.utils.clip_grad_norm_

    def noted_step(self: TrainingModule, batch: Any, index: int) -> Any:
        loss = step(self, batch, index)
        parts.append(float(loss.detach()))
        return loss

    def noted_norm(*args: Any, **kwargs: Any) -> Any:
        norms.append(clip(*args, **kwargs))
        return norms[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TrainingModule, "training_step", noted_step)
        patched.setattr(torch.nn.utils, "clip_grad_norm_", noted_norm)
        fit(made)
    losses = [sum(parts[i : i + PACKS]) / PACKS for i in range(0, len(parts), PACKS)]
    return {"losses": losses, "norms": [float(norm) for norm in norms]}


def _rows() -> list[dict[str, Any]]:
    """Rows that every stage can read, each with its own columns."""
    made = []
    for i in range(24):
        a, b = 3 + 5 * i % 17, 2 + 7 * i % 11
        question = f"Ann has {a} apples and buys {b} more." + " She gives 1 to Tom." * (i % 3) + " How many now?"
        solution = f"She has {a} + {b} = {a + b} apples and gives {i % 3} away. \\boxed{{{a + b - i % 3}}}"
        pair = {"chosen": question, "rejected": f"What is {a} apples?" + " Tom." * (i % 4)}
        graded = {"solver_solutions": [solution, f"\\boxed{{{a}}}", "Who knows?"], "solver_right": [True, False, False]}
        made.append({"question": question, "response": solution, "fail_rate": i % 7 / 6, **pair, **graded})
    return made
