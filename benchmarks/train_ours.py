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


class Clock(Watch):
    """Notes the CPU time when training begins and after each step."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        MARKS.append(time.process_time())

    def _report(self, trainer: Any, module: Any, step: int) -> None:
        super()._report(trainer, module, step)
        LOSSES.append(self.final["train/loss"])
        MARKS.append(time.process_time())


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
    begin, steps = (0, len(MARKS) - 1) if s["task"] == "qpo" else (1, len(MARKS) - 2)
    rate = steps * s["batch"] / (MARKS[-1] - MARKS[begin])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"rate": rate, "peak_mb": peak, "loss": LOSSES[-1]}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
