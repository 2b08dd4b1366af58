"""The job of evaluate.py: its settings, and what is done with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sq.engine.engine_log import LOG, log_to
from sq.eval.settings import EvalSettings


@dataclass(frozen=True, kw_only=True)
class EvalJob(EvalSettings):
    """Answers every benchmark's problems with a model and reports the share that is right."""

    def run(self) -> dict[str, dict[str, float]]:
        """Answer, grade, report; the metrics by benchmark."""
        with log_to(Path(self.output_dir) / LOG):
            self.engine.prepare()
            from sq.eval.run import evaluate

            return evaluate(self)
