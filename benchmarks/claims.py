"""What filters and select say of themselves, beside the arithmetic oracle's word.

    python benchmarks/claims.py [--count 300] [--reward DIR] [--errors 0.05,0.2]

Judge: questions written by the tiny model, judged by an oracle that errs on purpose. `measure=true` spoils questions
and tells with intervals how many of the spoiled ones the judge removes, and how many of the good ones; the truth is the
same on all that it judged.
Best of five: the tiny model's answers to problems of one to three steps; accuracy of the chosen against a random
candidate, by majority, by an erring reward oracle, and by a reward model where one is given (train.py stage=reward).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.intervals import wilson
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain
from sq.synth.config import SynthJob

GROUPS = ("stage", "model", "domain", "engine", "tracking", "filters")


def main() -> None:
    """Run both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="questions, and problems to answer")
    parser.add_argument("--reward", help="directory of a reward model")
    parser.add_argument("--errors", default="0.05,0.2", help="shares of the oracle's replies that are wrong")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    errors = [float(e) for e in asked.errors.split(",")]
    with tempfile.TemporaryDirectory() as made:
        judged(Path(made), asked.count, errors)
        chosen(Path(made), asked.count, errors, asked.reward)


def judged(where: Path, count: int, errors: Sequence[float]) -> None:
    """What the judge removes of planted variants and of good questions, and what the oracle knows of it."""
    run("questions", where / "q", "engine=vllm", "model=tiny", f"stage.count={count}", "stage.max_tokens=150")
    print(f"a judge of {count} questions by tiny: told by planted ones (95% interval), and the truth")
    for error in errors:
        said = run(
            "filter", where / f"f-{error}", f"input={where}/q", "filters=[solvability]", "engine=oracle",
            f"engine.error_rate={error}", f"stage.scores={where}/s", "filters.solvability.measure=true",
        )  # fmt: skip
        for name in ("recall", "wrongly_removed"):
            truth = said[f"oracle/judge_{name}"]
            low, high = said[f"judge/{name}_low"], said[f"judge/{name}_high"]
            print(f"  {error:.0%} of replies wrong, {name:>15}: {said[f'judge/{name}']:6.1%} ({low:.1%} to {high:.1%}) "
                  f"on {said['judge/planted']:.0f} planted, truth {truth:6.1%}")  # fmt: skip


def chosen(where: Path, count: int, errors: Sequence[float], reward: str | None) -> None:
    """Accuracy of best-of-five against a random one of the five."""
    problems = (p for p in ArithmeticDomain().seeds(20 * count, 1, "test") if p["steps"] <= 3)
    lines = [json.dumps({k: p[k] for k in ("question", "answer")}) for p in itertools.islice(problems, count)]
    (where / "p.jsonl").write_text("\n".join(lines) + "\n")
    run("answers", where / "a", f"input={where}/p.jsonl", "engine=vllm", "model=tiny", "stage.max_tokens=200")
    ways = {"majority": ["stage.method=majority"]}
    ways |= {f"reward oracle, {e:.0%} wrong": ["engine=oracle", f"engine.error_rate={e}"] for e in errors}
    if reward:
        model = f"++model={{name: reward, path: {reward}, dtype: FP32}}"
        ways |= {"reward model": ["engine=hf", model], "weighted vote": ["engine=hf", model, "stage.method=weighted"]}
    print(f"best of five by tiny on {count} problems of one to three steps (95% intervals)")
    for number, (name, settings) in enumerate(ways.items()):
        told = run("select", where / f"c{number}", f"input={where}/a", *settings)
        right, every = told["correct/chosen"], told["correct/random"]
        one_right = one_of_five(where / f"c{number}")
        low, high = wilson(round(right * told["rows"]), int(told["rows"]))
        print(f"  {name:<24} {right:6.1%} of the {told['rows']:.0f} chosen right ({low:.1%} to {high:.1%}); random "
              f"{every:.1%}; one of five right {one_right:.1%}")  # fmt: skip


def one_of_five(directory: Path) -> float:
    """The share of all questions with a right candidate: the most that any choice could reach."""
    right = {row["question_id"]: bool(row["correct"]) for row in read_rows(directory)}
    for reject in read_rejects(directory):
        row = json.loads(reject["row"])
        right[row["question_id"]] = right.get(row["question_id"], False) or bool(row["correct"])
    return sum(right.values()) / max(len(right), 1)


def run(stage: str, output: Path, *settings: str) -> dict[str, float]:
    """Run a stage in this process; its figures."""
    given = [f"stage={stage}", "tracking=none", f"output_dir={output}", *settings]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        plain = [s if s.split("=")[0] in GROUPS or s.startswith("+") else f"++{s}" for s in given]
        return build(compose("synthesize", overrides=plain), SynthJob).run()


if __name__ == "__main__":
    main()
