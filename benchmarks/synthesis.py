"""What the pipeline itself costs, beside bare calls of an engine: `python benchmarks/synthesis.py [QUESTIONS]`.

The engine is the arithmetic oracle, which takes a tenth of a millisecond a reply, so that the pipeline's own work
(reading, prompts, keys, rows, ledger) shows. Processor seconds of one core, so they hold while other work runs beside.
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
from sq.domains.arithmetic.engine import OracleEngine
from sq.engine.base import Request, Sampling
from sq.synth.config import SynthJob
from sq.synth.stage import seed_of

TINY_MS = 25.0
"""Of one answer of 60 tokens by a 3M-parameter model in vLLM on 2 cores (2,342 tokens a second)."""


def job(stage: str, *overrides: str) -> SynthJob:
    given = [f"stage={stage}", "engine=oracle", "tracking=none", *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("synthesize", overrides=given), SynthJob)


def main(count: int) -> None:
    logging.disable(logging.INFO)
    questions = [row["question"] for row in ArithmeticDomain().seeds(count, 0, "train")]
    with tempfile.TemporaryDirectory() as made:
        where = Path(made)
        (where / "q.jsonl").write_text("".join(f'{{"question": "{q}"}}\n' for q in questions))
        answers = job("answers", f"++input={where}/q.jsonl", f"output_dir={where}/a")
        engine, sampling = OracleEngine(), Sampling(n=5, temperature=0.7, top_p=0.95, max_tokens=2048)
        start = time.process_time()
        keys = (f"{i:032x}" for i in range(count))
        requests = (
            Request(key=k, sampling=sampling, seed=seed_of(k), messages=({"role": "user", "content": q},))
            for k, q in zip(keys, questions, strict=False)
        )
        for _ in engine.generate(requests):
            pass
        bare = time.process_time() - start
        start = time.process_time()
        answers.run()
        whole = time.process_time() - start
        start, wall = time.process_time(), time.monotonic()
        answers.run()
        resume, wall = time.process_time() - start, time.monotonic() - wall
    rows = 5 * count
    own = (whole - bare) / rows
    print(f"answers, {rows:,} candidates: bare engine {bare:.2f} CPU s, stage {whole:.2f} CPU s")
    share = 1e5 * own / TINY_MS
    print(f"the stage's own work: {1e6 * own:.0f} microseconds a candidate = {share:.2f}% of tiny's time for one")
    print(f"the same command again, with nothing to do: {resume:.2f} CPU s, {wall:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
