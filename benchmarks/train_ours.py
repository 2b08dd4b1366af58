"""Our side of `benchmarks/train.py`: `train.py`'s own code, with a clock at every optimiser step."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.train import trainer
from sq.train.config import TrainJob
from sq.train.progress import TrainingProgress

MARKS: list[float] = []
LOSSES: list[float] = []
ROWS: list[int] = [0]
BEGIN: list[float] = []


class Clock(TrainingProgress):
    """Notes the CPU time before the reference pass, when training begins and after each step."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        BEGIN.append(time.process_time())

    def on_train_start(self, trainer: Any, module: Any) -> None:
        super().on_train_start(trainer, module)
        MARKS.append(time.process_time())

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        ROWS[-1] += len(batch.pack.rows)
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def _report(self, trainer: Any, module: Any, step: int) -> None:
        super()._report(trainer, module, step)
        LOSSES.append(self.final["train/loss"])
        MARKS.append(time.process_time())
        ROWS.append(0)


# Tokens in a pack: as many as keep the peak below 0.85 of TRL's. More are faster and take more memory.
PACK_TOKENS = {"qft": 640, "sft": 864, "qpo": 1184}


def job_of(s: dict[str, Any], output: str) -> TrainJob:
    """The job as `train.py` would make it."""
    words = [
        f"stage={s['task']}", "model=smollm2-135m", f"model.path={s['model']}", f"data.input={s['rows']}",
        "tracking=none", f"output_dir={output}/out", f"++trainer.precision={s['precision']}",
        f"++trainer.threads={s['threads']}", "++trainer.log_every=1", "++trainer.accelerator=cpu",
        "++stage.batch_packs=null", f"++stage.batch_rows={s['batch']}", f"++stage.max_steps={s['steps']}",
        "++stage.epochs=2", "++stage.lr=1e-6", "++stage.schedule=constant", "++stage.validation=0",
        f"++stage.pack_tokens={s['pack_tokens'] or PACK_TOKENS[s['task']]}",
    ]  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        job = build(compose("train", overrides=words))
    assert isinstance(job, TrainJob)
    return job


def main(s: dict[str, Any]) -> None:
    """Train for so many steps and print the rate."""
    trainer.TrainingProgress = Clock  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as output:
        job_of(s, output).run()
    # As on TRL's side: the reference pass by its share of the rows, and the median step, the first not counted.
    steps = zip(MARKS[1:], MARKS[2:], ROWS[1:], strict=False)
    step = statistics.median((after - before) / rows for before, after, rows in steps)
    reference = (MARKS[0] - BEGIN[0]) / s["count"] if s["task"] == "qpo" else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"rate": 1 / (step + reference), "peak_mb": peak, "loss": LOSSES[0]}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
