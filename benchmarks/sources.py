"""Every question source on the arithmetic domain, the exact oracle in the model's place: what it writes, measured.

    python benchmarks/sources.py [COUNT [SOURCE ...]] [--model NAME: a model of conf/model/ behind engine=hf instead]

Each source makes about COUNT questions from as many seeds. `prefix` and `magpie` continue a chat prefix, which no
oracle can: they are written by the tiny model, as it is packaged.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from sq.core.compose import compose
from sq.core.config import build
from sq.core.config_help import groups
from sq.core.ledger import read_manifest
from sq.synth.config import SynthJob
from sq.synth.stage_metrics import read_stage_metrics

ROUNDS = {"evol": 3, "orca": 2, "iqc": 3}
"""Questions that come of an item."""


def run(stage: str, directory: Path, *overrides: str) -> Path:
    """Run a stage; its directory."""
    words = [f"stage={stage}", "tracking=none", f"output_dir={directory}", *overrides]
    build(compose("synthesize", words, "sq.synth"), SynthJob).run()
    return directory


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=300)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--input", default="domain")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.WARNING)
    here = Path(tempfile.mkdtemp())
    asked = [f"model={given.model}", "engine=hf", *given.set] if given.model else ["engine=oracle", *given.set]
    seeds = [f"input={given.input}", f"limit={given.count}"]
    print(
        f"{'source':<14}{'questions':>10}{'rejects':>9}{'requests':>10}{'solvable':>10}{'steps':>7}{'distinct':>10}{'s':>7}"
    )
    for name in given.sources or groups()["source"]:
        words = [*asked, *seeds]
        if name in ("prefix", "magpie"):
            words = words if given.model else ["model=tiny", "engine=hf"]
        elif name == "dart":
            labels = run("fail_rate", here / "labels", "engine=oracle", "engine.error_rate=0.3", *seeds, "stage.n=4")
            words = ["engine=oracle", f"input={labels}"]
        elif name in ("mathscale", "kpmath"):
            words = [*asked, f"input={run('annotate', here / 'concepts', *asked, *seeds)}"]
        started = time.monotonic()
        items = max(1, given.count // ROUNDS.get(name, 1))
        where = run("questions", here / name, f"source={name}", f"stage.count={items}", *words)
        manifest, measured = read_manifest(where), read_stage_metrics(where)
        figures, usage = measured["figures"], measured["usage"]
        shares = [figures.get(key, float("nan")) for key in ("oracle/solvable", "oracle/steps", "distinct_3grams")]
        print(
            f"{name:<14}{manifest.rows:>10}{manifest.rejects:>9}{usage.get('usage/requests', 0):>10.0f}"
            f"{shares[0]:>10.1%}{shares[1]:>7.2f}{shares[2]:>10.1%}{time.monotonic() - started:>7.1f}"
        )
        of = {key.rpartition("/")[2]: value for key, value in figures.items() if key.startswith("oracle/solvable/")}
        print("".join(f"    {k}: {figures[f'operation/{k}']:.0f}, {v:.1%} solvable\n" for k, v in of.items()), end="")


if __name__ == "__main__":
    main()
