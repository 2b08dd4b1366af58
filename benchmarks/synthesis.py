"""What the pipeline itself costs over the bare calls of an engine: `python benchmarks/synthesis.py [QUESTIONS] [vllm]`.

Reading, prompts, keys, rows, ledger, figures. With the arithmetic oracle, which takes a tenth of a millisecond a reply,
the pipeline's own work shows in full; with vLLM and the tiny model its share of a real stage. Processor seconds, so
that they hold while other work runs beside: what passes inside the engine, its start and its end is the bare calls'.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine import meter
from sq.synth.config import SynthJob
from sq.synth.stage_metrics import read_stage_metrics


def job(stage: str, engine: str, *overrides: str) -> SynthJob:
    """A stage as the command line would compose it."""
    given = [f"stage={stage}", f"engine={engine}", "tracking=none", *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("synthesize", overrides=given), SynthJob)


def main(count: int, engine: str) -> None:
    """Answer questions, and say what of that was the pipeline."""
    logging.disable(logging.INFO)
    meter.time.monotonic = time.process_time  # type: ignore[assignment]  # usage in processor seconds
    closing = [0.0]
    close = meter.MeteredEngine.close

    def timed(self: meter.MeteredEngine) -> None:
        begun = time.process_time()
        close(self)
        closing[0] += time.process_time() - begun

    meter.MeteredEngine.close = timed  # type: ignore[method-assign]
    questions = [row["question"] for row in ArithmeticDomain().seeds(count, 0, "train")]
    with tempfile.TemporaryDirectory() as made:
        where = Path(made)
        (where / "q.jsonl").write_text("".join(f'{{"question": "{q}"}}\n' for q in questions))
        answers = job("answers", engine, f"++input={where}/q.jsonl", f"output_dir={where}/a", "stage.max_tokens=150")
        answers.engine.prepare()
        answers.stage.spec(answers)  # imports
        begun = time.process_time()
        answers.run()
        whole = time.process_time() - begun
        usage = read_stage_metrics(where / "a")["usage"]
        begun, wall = time.process_time(), time.perf_counter()
        answers.run()
        resume, wall = time.process_time() - begun, time.perf_counter() - wall
    bare = usage["usage/engine_seconds"] + usage["usage/start_seconds"] + closing[0]
    own = whole - bare
    print(f"answers, {5 * count:,} candidates, {engine}: bare calls {bare:.2f} CPU s, stage {whole:.2f} CPU s")
    each = 1e6 * own / (5 * count)
    print(f"the pipeline's own work: {each:.0f} microseconds a candidate, {own / bare:.1%} over bare calls")
    print(f"the same command again, with nothing to do: {resume:.2f} CPU s, {wall:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, sys.argv[2] if len(sys.argv) > 2 else "oracle")
