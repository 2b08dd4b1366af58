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
from sq.core.errors import SqError
from sq.core.ledger import read_manifest, read_rows
from sq.report.artifacts import draw
from sq.report.embedding import embed
from sq.synth.config import SynthJob
from sq.synth.diversity import distinct_ngrams, vendi_score
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
    parser.add_argument("--max-tokens", type=int, help="of every reply")
    parser.add_argument("--embed", default="package:tiny-base", help="the model of the Vendi score")
    parser.add_argument("--show", action="store_true", help="print the questions")
    given = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.WARNING)
    here = Path(tempfile.mkdtemp())
    columns = ("questions", "rejects", "requests", "solvable", "steps", "s")
    print(f"{'source':<14}" + "".join(f"{name:>10}" for name in columns))
    texts: dict[str, list[str]] = {}
    for name in given.sources or groups()["source"]:
        started = time.monotonic()
        try:
            where = questions_of(name, given, here)
        except SqError as error:
            print(f"{name:<14}no questions: {error}")
            continue
        print_figures(name, where, time.monotonic() - started)
        texts[name] = [row["question"] for row in draw(read_rows(where, ["id", "question"]), given.count)]
        if given.show:
            print("".join(f"    | {text[:400]!r}\n" for text in texts[name]), end="")
    print_diversity({name: own for name, own in texts.items() if own}, given.embed)


def questions_of(name: str, given: argparse.Namespace, here: Path) -> Path:
    """The directory of one source's questions."""
    asked = [f"model={given.model}", "engine=hf", *given.set] if given.model else ["engine=oracle", *given.set]
    seeds = [f"input={given.input}", f"limit={given.count}"]
    bound = [f"stage.max_tokens={given.max_tokens}"] if given.max_tokens else []
    words = [*asked, *seeds]
    if name in ("prefix", "magpie"):
        words = asked if given.model else ["model=tiny", "engine=hf"]
    elif name == "dart":
        solver = asked if given.model else ["engine=oracle", "engine.error_rate=0.3"]
        words = [*asked, f"input={run('fail_rate', here / 'labels', *solver, *seeds, 'stage.n=4', *bound)}"]
    elif name == "concepts":
        solver = asked if given.model else ["engine=oracle", "engine.error_rate=0.3"]
        labels = run("fail_rate", here / "failed", *solver, *seeds, "stage.n=4", *bound)
        words = [*asked, f"input={run('annotate', here / 'failed-concepts', *asked, f'input={labels}', *bound)}"]
    elif name in ("mathscale", "kpmath"):
        words = [*asked, f"input={run('annotate', here / f'concepts-{name}', *asked, *seeds, *bound)}"]
    items = max(1, given.count // ROUNDS.get(name, 1))
    return run("questions", here / name, f"source={name}", f"stage.count={items}", *words, *bound)


def print_figures(name: str, where: Path, seconds: float) -> None:
    """The line of a source, and one for each of its operations."""
    manifest, measured = read_manifest(where), read_stage_metrics(where)
    figures, usage = measured["figures"], measured["usage"]
    solvable, steps = (figures.get(key, float("nan")) for key in ("oracle/solvable", "oracle/steps"))
    print(
        f"{name:<14}{manifest.rows:>10}{manifest.rejects:>10}{usage.get('usage/requests', 0):>10.0f}"
        f"{solvable:>10.1%}{steps:>10.2f}{seconds:>10.1f}  {dict(manifest.reasons) or ''}"
    )
    of = {key.rpartition("/")[2]: value for key, value in figures.items() if key.startswith("oracle/solvable/")}
    print("".join(f"    {k}: {figures[f'operation/{k}']:.0f}, {v:.1%} solvable\n" for k, v in of.items()), end="")


def print_diversity(texts: dict[str, list[str]], model: str) -> None:
    """Distinct n-grams and the Vendi score of as many questions of each source."""
    count = min(map(len, texts.values()), default=0)
    if not count:
        return
    vectors = embed(model, [text for own in texts.values() for text in own[:count]])
    print(f"\n{count} questions of each" + "".join(f"{f'distinct-{n}':>12}" for n in (1, 2, 3, 4)) + f"{'Vendi':>10}")
    for i, (name, own) in enumerate(texts.items()):
        shares = [distinct_ngrams(own[:count], n) for n in (1, 2, 3, 4)]
        score = vendi_score(vectors[i * count : (i + 1) * count])
        print(f"{name:<22}" + "".join(f"{share:>12.1%}" for share in shares) + f"{score:>10.1f}")


if __name__ == "__main__":
    main()
