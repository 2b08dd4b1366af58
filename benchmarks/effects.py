"""Does each stage improve what it is to improve? Measured on the arithmetic domain, by its exact oracle.

    python benchmarks/effects.py --work /some/directory [--seeds 0 1 2] [--only qft qpo success reward ...]

Everything is made by train.py, synthesize.py and evaluate.py, with the tiny models that are shipped; what is in the
directory already is not made again. Each claim is told with 95% intervals (shares: Wilson; differences of shares and of
means: normal; over several seeds the samples are pooled, and each seed's own difference is told as well).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sq.core.intervals import wilson  # noqa: E402
from sq.core.ledger import read_rejects, read_rows  # noqa: E402
from sq.domains.arithmetic import ArithmeticDomain, analyse  # noqa: E402

Z = 1.959964
DOMAIN = ArithmeticDomain()
QFT = ("stage.lr=5e-4", "stage.batch_packs=1", "stage.pack_tokens=2048")
QPO = ("stage.lr=3e-5", "stage.batch_rows=20", "stage.warmup_steps=2", "stage.pack_tokens=2048")
SCORER = ("stage.lr=5e-4", "stage.head_lr=5e-3", "stage.batch_rows=32", "stage.epochs=3", "stage.pack_tokens=2048")
REWARD = ("stage.lr=3e-4", "stage.head_lr=3e-3", "stage.batch_rows=32", "stage.epochs=2", "stage.pack_tokens=2048")
SFT = ("stage.lr=1e-3", "stage.batch_packs=2", "stage.pack_tokens=2048", "stage.epochs=2")


def main() -> None:
    """Measure the claims asked for, each over all seeds, and write `effects.json`."""
    options = _options()
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed in options.seeds:
        one = Effects(Path(options.work) / f"seed-{seed}", seed, options)
        for name in options.only:
            told[name].append(CLAIMS[name](one))
    summary = {name: pooled(found) for name, found in told.items()}
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {"claims": summary, "by seed": told, "cpu_seconds": round(cpu.ru_utime + cpu.ru_stime, 1)}
    (Path(options.work) / "effects.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, lines in summary.items():
        print(name)
        for line in lines:
            print(f"  {line}")
    print(f"{result['cpu_seconds']:,} CPU seconds")


class Effects:
    """One seed's stages, each in a directory of its own below `work`."""

    def __init__(self, work: Path, seed: int, options: argparse.Namespace) -> None:
        self.work, self.seed, self.options = work, seed, options

    def run(self, name: str, script: str, *words: str, seed: int | None = None) -> Path:
        """One command; where its results are. A finished one does nothing."""
        output = self.work / name
        own = ["trainer.threads=1", "trainer.precision=auto"] if script == "train" else []
        command = [sys.executable, str(ROOT / f"{script}.py"), *words, *own, "tracking=none", f"output_dir={output}",
                   f"seed={self.seed if seed is None else seed}"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
        print(f"{name}: {(done.stderr.strip().splitlines() or [''])[-1]}", file=sys.stderr, flush=True)
        return output

    def qft(self) -> Path:
        """The solver, tuned on seed questions."""
        return self.run("qft", "train", "stage=qft", "model=tiny", f"data.limit={self.options.rows}", *QFT) / "model"

    def questions(self, name: str, model: Path | None, count: int, *, offset: int = 0) -> Path:
        """`count` samples of a model (none: the solver itself)."""
        path = [f"model.path={model}"] if model else []
        words = ("stage=questions", "model=tiny", *path, f"stage.count={count}", "stage.max_tokens=160")
        return self.run(name, "synthesize", *words, seed=self.seed + offset)

    def qpo(self, source: str) -> Path:
        """The tuned solver after QPO on pairs of `source` (rewrite or success_rate)."""
        qft = self.qft()
        sampled = self.questions("questions-pairs", qft, self.options.pairs, offset=1000)
        words = {
            "rewrite": ("engine=oracle", "engine.error_rate=0.1", f"stage.solvability={self.options.solvability}"),
            "success_rate": ("model=tiny", "stage.k=8", "stage.max_tokens=220"),
        }[source]
        pairs = self.run(
            f"pairs-{source}", "synthesize", "stage=rewrite", f"stage.source={source}", f"input={sampled}", *words
        )
        made = self.run(
            f"qpo-{source}", "train", "stage=qpo", "model=tiny", f"model.path={qft}", f"data.input={pairs}", *QPO
        )
        return made / "model"

    def labels(self) -> Path:
        """Fail rates of the solver, its solutions kept."""
        words = (f"limit={self.options.labels}", f"stage.n={self.options.n}", "stage.max_tokens=220")
        return self.run("labels", "synthesize", "stage=fail_rate", "model=tiny", *words)

    def reward(self) -> Path:
        """A reward model of those solutions."""
        words = ("stage=reward", "model=tiny", f"data.input={self.labels()}", *REWARD)
        return self.run("reward", "train", *words) / "model"

    def student(self, name: str, *data: str) -> list[bool]:
        """Which test problems the base solves after SFT on `data`."""
        model = self.run(f"sft-{name}", "train", "stage=sft", "model=tiny-base", *data, *SFT) / "model"
        return self.solved(f"student-{name}", "model=tiny-base", f"model.path={model}")

    def solved(self, name: str, *model: str) -> list[bool]:
        """Which test problems a model solves, greedily."""
        words = (
            *model,
            "benchmark=[arithmetic]",
            "profiles=[strict]",
            "max_tokens=220",
            f"limit={self.options.problems}",
        )
        scores = self.run(name, "evaluate", *words, seed=0) / "arithmetic" / "scores"
        found = sorted(scores.parent.glob("scores*"))[0]
        return [bool(row["correct"]) for row in read_rows(found, columns=["correct"])]


def claim_qft(one: Effects) -> dict[str, Any]:
    """Share of solvable questions and their steps, before and after QFT."""
    raw = judged(one.questions("questions-raw", None, one.options.questions))
    return {"raw": raw, "+QFT": judged(one.questions("questions-qft", one.qft(), one.options.questions))}


def claim_qpo(one: Effects, source: str = "rewrite") -> dict[str, Any]:
    """The same before and after QPO."""
    before = judged(one.questions("questions-qft", one.qft(), one.options.questions))
    after = judged(one.questions(f"questions-qpo-{source}", one.qpo(source), one.options.questions))
    return {"+QFT": before, f"+QPO ({source})": after}


def claim_success(one: Effects) -> dict[str, Any]:
    """QPO with no rewriting model."""
    return claim_qpo(one, "success_rate")


def claim_difficulty(one: Effects) -> dict[str, Any]:
    """Rank correlation of the scorer with fail rates of held-out problems, and the ceiling that labels of n set."""
    labels = one.labels()
    words = (f"data.input={labels}", *SCORER, "stage.validation=0.2")
    scorer = one.run("difficulty", "train", "stage=difficulty", f"model={one.options.scorer}", *words)
    found = json.loads((scorer / "train.json").read_text())["figures"]
    return {"spearman": found["val/spearman"], "kendall": found["val/kendall"], "ceiling": ceiling(labels)}


def claim_reward(one: Effects) -> dict[str, Any]:
    """Best of five by the reward model against one of the five at random, on test problems."""
    words = ("input=domain", "+source.split=test", f"limit={one.options.problems}", "stage.n=5", "stage.max_tokens=220")
    answers = one.run("answers-test", "synthesize", "stage=answers", "model=tiny", *words)
    words = (f"input={answers}", f"model.path={one.reward()}", "engine=hf", "engine.batch_size=64")
    chosen = one.run("select-test", "synthesize", "stage=select", "model=tiny", *words)
    best = {row["question_id"]: bool(row["correct"]) for row in read_rows(chosen, columns=["question_id", "correct"])}
    every: dict[str, list[bool]] = defaultdict(list)
    for row in read_rows(answers, columns=["question_id", "correct"]):
        every[row["question_id"]].append(bool(row["correct"]))
    figures = json.loads((one.work / "reward" / "train.json").read_text())["figures"]
    return {
        "one at random": [sum(right) / len(right) for right in every.values()],
        "best of 5": [best.get(question, False) for question in every],
        "one right of 5": [any(right) for right in every.values()],
        "val/auroc": figures["val/auroc"],
        "val/pairwise": figures["val/pairwise"],
    }


def claim_sft(one: Effects) -> dict[str, Any]:
    """Share of test problems solved by the base, and by students of more and more rows."""
    found = {"base": one.solved("base", "model=tiny-base")}
    return found | {f"{n:,} rows": one.student(f"{n}", f"data.limit={n}") for n in one.options.sizes}


def claim_ablation(one: Effects) -> dict[str, Any]:
    """Students of equal budgets: so many rows each, from raw questions to filtered and selected ones."""
    count, qft, qpo = one.options.budget, one.qft(), one.qpo("rewrite")
    found = {}
    for name, model in (("raw", None), ("qft", qft), ("qpo", qpo)):
        asked = one.questions(f"budget-{name}", model, 3 * count, offset=2000)
        found[name] = one.student(f"budget-{name}", *_data(_answered(one, name, asked, "majority"), count))
    chain = ("filters=[format,language,duplicates,solvability]", "engine=oracle", "engine.error_rate=0.1")
    kept = one.run("budget-filter", "synthesize", "stage=filter", f"input={one.work / 'budget-qpo'}", *chain)
    found["qpo + filter + reward"] = one.student("budget-best", *_data(_answered(one, "best", kept, "reward"), count))
    return found


def _answered(one: Effects, name: str, questions: Path, method: str) -> Path:
    n = 5 if method == "reward" else 1
    words = ("stage.max_tokens=220", f"stage.n={n}", f"limit={2 * one.options.budget}")
    answers = one.run(f"answers-{name}", "synthesize", "stage=answers", "model=tiny", f"input={questions}", *words)
    model = (f"model.path={one.reward()}", "engine=hf", "engine.batch_size=64") if method == "reward" else ()
    return one.run(f"select-{name}", "synthesize", "stage=select", f"stage.method={method}", f"input={answers}", *model)


def _data(rows: Path, count: int) -> tuple[str, ...]:
    return (f"data.input={rows}", "data.columns={solution: response}", f"data.limit={count}")


CLAIMS: dict[str, Callable[[Effects], dict[str, Any]]] = {
    "qft": claim_qft,
    "qpo": claim_qpo,
    "success": claim_success,
    "difficulty": claim_difficulty,
    "reward": claim_reward,
    "sft": claim_sft,
    "ablation": claim_ablation,
}


def judged(questions: Path) -> list[int]:
    """The steps of each sample by the oracle; 0 for one that cannot be solved, or was no question at all."""
    found = [analyse(row["question"]) for row in read_rows(questions, columns=["question"])]
    return [max(1, j.steps) if j.solvable else 0 for j in found] + [0 for _ in read_rejects(questions)]


def ceiling(labels: Path) -> float:
    """What even a perfect scorer's rank correlation could be: the square root of the labels' reliability.

    The samples of each label are split in two; the correlation of the halves, corrected for their length (Spearman and
    Brown), is how far labels of n agree with other labels of n, and its root how far with the real rate.
    """
    import torch
    from torchmetrics.functional import spearman_corrcoef

    rights = [row["solver_right"] for row in read_rows(labels, columns=["solver_right"])]
    halves = [[sum(r[i::2]) / len(r[i::2]) for r in rights if len(r) > 1] for i in (0, 1)]
    between = float(spearman_corrcoef(torch.tensor(halves[0]), torch.tensor(halves[1])))
    return math.sqrt(2 * between / (1 + between))


def pooled(found: Sequence[dict[str, Any]]) -> list[str]:
    """A claim's lines: every condition over all seeds, then its difference from the one before it."""
    lines, before = [], ""
    for name in found[0]:
        if not isinstance(found[0][name], list):
            values = [one[name] for one in found]
            lines.append(f"{name:24s} {statistics.mean(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})")
            continue
        lines.append(f"{name:24s} {_shown([value for one in found for value in one[name]])}")
        if before:
            lines.append(f"{'':24s} {_difference(found, before, name)}")
        before = name
    return lines


def _shown(values: Sequence[float]) -> str:
    share = sum(map(float, map(bool, values))) if not _fractions(values) else sum(values)
    n = len(values)
    low, high = wilson(round(share), n)
    told = f"{share / n:6.1%} [{low:.1%}, {high:.1%}] of {n:,}"
    steps = [v for v in values if v]
    if any(v > 1 for v in steps):
        told += f", {statistics.mean(steps):.2f} ± {Z * statistics.stdev(steps) / math.sqrt(len(steps)):.2f} steps"
    return told


def _difference(found: Sequence[dict[str, Any]], before: str, after: str) -> str:
    """After less before: the share, with its interval, and by seed; then the steps."""

    def share(values: Iterable[float]) -> list[float]:
        values = list(values)
        return values if _fractions(values) else [float(bool(v)) for v in values]

    own = [statistics.mean(share(one[after])) - statistics.mean(share(one[before])) for one in found]
    a, b = (share(v for one in found for v in one[name]) for name in (after, before))
    told = f"{statistics.mean(a) - statistics.mean(b):+.1%} ± {_half(a, b):.1%} ({', '.join(f'{d:+.1%}' for d in own)})"
    a, b = ([v for one in found for v in one[name] if v] for name in (after, before))
    if any(v > 1 for v in a):
        told += f", {statistics.mean(a) - statistics.mean(b):+.2f} ± {_half(a, b):.2f} steps"
    return told


def _half(a: Sequence[float], b: Sequence[float]) -> float:
    return Z * math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))


def _fractions(values: Iterable[float]) -> bool:
    return any(0 < value < 1 for value in values)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="directory for models and rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each claim is measured with each of them")
    parser.add_argument("--only", nargs="+", choices=sorted(CLAIMS), default=list(CLAIMS), help="which claims")
    parser.add_argument("--rows", type=int, default=1500, help="seed questions of QFT")
    parser.add_argument("--questions", type=int, default=3000, help="questions judged per condition")
    parser.add_argument("--pairs", type=int, default=6000, help="questions to make pairs of")
    parser.add_argument("--solvability", type=float, default=0.8, help="share of pairs made solvable, not harder")
    parser.add_argument("--labels", type=int, default=1000, help="problems with fail rates")
    parser.add_argument("--n", type=int, default=8, help="solutions a fail rate is of")
    parser.add_argument("--scorer", default="tiny", help="the model that scores difficulty: tiny or tiny-base")
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000, 4000], help="rows of the students")
    parser.add_argument("--budget", type=int, default=500, help="rows of each student of the ablation")
    parser.add_argument("--problems", type=int, default=500, help="test problems")
    return parser.parse_args()


if __name__ == "__main__":
    main()
