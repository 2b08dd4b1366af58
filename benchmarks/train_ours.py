"""Our side of `benchmarks/train.py`: `train.py`'s own code, with a clock at every optimiser step."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from typing import Any

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.train import loop
from sq.train.config import TrainJob
from sq.train.watch import Watch

MARKS: list[float] = []
LOSSES: list[float] = []
ROWS: list[int] = [0]


class Clock(Watch):
    """Notes the CPU time when training begins and after each step."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        MARKS.append(time.process_time())

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        ROWS[-1] += len(batch.pack.rows)
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def _report(self, trainer: Any, module: Any, step: int) -> None:
        super()._report(trainer, module, step)
        LOSSES.append(self.final["train/loss"])
        MARKS.append(time.process_time())
        ROWS.append(0)


def main(s: dict[str, Any]) -> None:
    """Train for so many steps and print the rate."""
    loop.Watch = Clock  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as output:
        words = [
            f"stage={s['task']}", "model=smollm2-135m", f"model.path={s['model']}", f"data.input={s['rows']}",
            "tracking=none",
            f"output_dir={output}/out", f"++trainer.precision={s['precision']}", f"++trainer.threads={s['threads']}",
            "++stage.batch_packs=null", f"++stage.batch_rows={s['batch']}", f"++stage.max_steps={s['steps']}",
            "++stage.lr=1e-6",
            "++stage.pack_tokens=4096", "++stage.validation=0", "++trainer.log_every=1", "++trainer.accelerator=cpu",
            "++stage.epochs=2",
        ]  # fmt: skip
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            job = build(compose("train", overrides=words), TrainJob)
        job.run()
    # QPO counts everything from the first reference on; QFT's first step is left out on both sides.
    begin = 0 if s["task"] == "qpo" else 1
    rate = sum(ROWS[begin:]) / (MARKS[-1] - MARKS[begin])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"rate": rate, "peak_mb": peak, "loss": LOSSES[-1]}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
