"""The grader beside math-verify, in one run: agreement, planted faults, hostile answers, speed.

    python benchmarks/grading.py [--data ../shared/data] [--outputs FILE ...] [--pairs FILE ...]

Prints a table for each part. `--pairs` are further jsonl files of `pred`, `ref`, `expected`; `--outputs` are jsonl
files of real model outputs (`prediction`, `reference`, `correct` where it is known). What is absent is skipped, and
said. math-verify is called as its README shows, but with bare answers wrapped in `$...$`, which serves it best. Times
are processor seconds of one core, so they hold while other work runs beside.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sq.eval.extract import extract_reference
from sq.eval.grade import Pair, Profile, grade_answer
from sq.eval.grade_status import GradeStatus
from sq.eval.grader import Grader, GraderConfig

GradePair = Callable[[Pair], bool]
TESTS = Path(__file__).resolve().parents[1] / "tests"
OWN = TESTS / "eval" / "pairs.tsv"
VERDICTS = OWN.with_name("dart_verdicts.tsv")
HOSTILE = [
    "9^{9^{9^9}}", "100000000!", r"\binom{10^{18}}{10^{17}}", r"\sum_{k=1}^{10^{12}} k", "x" * 10**6, "{" * 10**6,
    r"\boxed{" * 10**5, r"\frac{" * 10**5, "1," * 10**5, "\ud800\udfff", "5\x00",
    "__import__('os').getcwd()", "$(true)",
    r"\boxed{" + "(" * 2900 + ")" * 2900 + "}", r"\int_0^1 x^{x^{x^{x}}} dx", r"\lim_{n\to\infty}(1+\frac{1}{n})^{n}",
]  # fmt: skip


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[])
    parser.add_argument("--outputs", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=300, help="worked solutions of each kind to time the graders on")
    parser.add_argument("--sample", type=int, default=60, help="references of a benchmark that faults are planted in")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.disable(logging.CRITICAL)
    graders: dict[str, GradePair] = {
        "strict": lambda p: grade_answer(p).correct,
        "dart": lambda p: grade_answer(p, Profile.DART).correct,
        "math-verify": math_verify_grader(),
    }
    bare = {**graders, "dart": lambda p: grade_answer(in_a_box(p), Profile.DART).correct}
    agreement(bare, {**public_pairs([options.data / "grading_cases.jsonl", *options.pairs]), "own table": own_pairs()})
    parity()
    speed(graders, real_outputs(options.data, options.outputs, options.count))
    hostile()
    synthetic_negatives(graders, benchmark_references(options.data), options.sample)


def in_a_box(pair: Pair) -> Pair:
    """A bare answer as the dart profile expects one: it looks for a box or a phrase before anything else."""
    bare = len(pair.prediction) < 100 and "boxed" not in pair.prediction and "nswer" not in pair.prediction
    return replace(pair, prediction=f"\\boxed{{{pair.prediction}}}") if bare else pair


def math_verify_grader() -> GradePair:
    """math-verify with a limit of five seconds, as its users set it."""
    from math_verify import parse, verify

    def wrapped(text: str) -> str:
        return text if any(sign in text for sign in ("$", "\\boxed", "\\(", "\\[")) else f"${text}$"

    def decide(pair: Pair) -> bool:
        try:
            return bool(verify(parse(wrapped(pair.reference)), parse(wrapped(pair.prediction))))
        except Exception:  # a peer's failure is a wrong verdict, not the end of the comparison
            return False

    return decide


def public_pairs(paths: Iterable[Path]) -> dict[str, list[tuple[Pair, bool]]]:
    """Pairs from files, with the verdict a mathematician gives; once with those marked as doubtful, once without."""
    found = {}
    for path in paths:
        if not path.is_file():
            print(f"skipped: no file {path.name}")
            continue
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        sure = [r for r in rows if not r.get("suspect")]
        for name, kept in ((path.stem, rows), (f"{path.stem} without doubtful labels", sure)):
            if kept is rows or len(kept) < len(rows):
                found[name] = [
                    (Pair(prediction=r["pred"], reference=r["ref"], tolerance=r.get("precision")), bool(r["expected"]))
                    for r in kept
                ]
    return found


def own_pairs() -> list[tuple[Pair, bool]]:
    """The table of our own tests."""
    rows = [line.split("\t") for line in OWN.read_text(encoding="utf-8").split("\n")[1:] if line]
    return [(Pair(prediction=r[2], reference=r[3]), r[1] == "correct") for r in rows if r[1] != "unverifiable"]


def parity() -> None:
    """How often the dart profile says what DART-Math itself said of the same outputs."""
    rows = [line.split("\t") for line in VERDICTS.read_text(encoding="utf-8").split("\n")[1:] if line]
    given = [
        grade_answer(Pair(prediction=r[1], reference=r[2]), Profile.DART).correct == (r[0] == "correct") for r in rows
    ]
    print(
        f"\nprofile dart agrees with DART-Math's own verdicts on {sum(given) / len(given):.1%} of {len(given)} outputs"
    )


def benchmark_references(data: Path) -> dict[str, list[str]]:
    """The references of the four benchmarks that are here."""
    sources: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
        "GSM8K": ("gsm8k_test.jsonl", lambda r: extract_reference(r["answer"])),
        "MATH": ("math_test.jsonl", lambda r: extract_reference(r["solution"])),
        "College Math": ("college_math_test.jsonl", lambda r: str(r["answer"])),
        "OlympiadBench": ("olympiadbench_OE_TO_maths_en_COMP.jsonl", lambda r: ", ".join(r["final_answer"])),
    }
    found = {}
    for name, (file, of) in sources.items():
        if (data / file).is_file():
            found[name] = [of(json.loads(x)) for x in (data / file).read_text(encoding="utf-8").split("\n") if x]
        else:
            print(f"skipped: no file {file}")
    return found


def agreement(graders: dict[str, GradePair], groups: dict[str, list[tuple[Pair, bool]]]) -> None:
    """How often each grader gives the expected verdict."""
    for group, pairs in groups.items():
        print(f"\n{group}: {len(pairs)} pairs")
        print(f"{'grader':<14}{'agrees':>9}{'false accepts':>15}{'false rejects':>15}{'s per 1,000':>13}")
        for name, decide in graders.items():
            start = time.process_time()
            given = [(decide(pair), expected) for pair, expected in pairs]
            spent = (time.process_time() - start) / len(pairs) * 1000
            right = sum(g == e for g, e in given) / len(pairs)
            accepts, rejects = sum(g and not e for g, e in given), sum(e and not g for g, e in given)
            print(f"{name:<14}{right:>9.1%}{accepts:>15}{rejects:>15}{spent:>13.1f}")


def synthetic_negatives(graders: dict[str, GradePair], references: dict[str, list[str]], sample: int) -> None:
    """True answers refused, and true answers with a fault planted in them accepted."""
    sys.path.insert(0, str(TESTS))
    from synthetic_negatives import digit_changed, flipped, swapped

    if not references:
        return
    print(f"\nfaults planted in up to {sample} references a benchmark (accepted / planted; every one for strict)")
    heads = f"{'true refused':>14}{'digit changed':>16}{'tuple swapped':>15}{'bracket flipped':>17}"
    print(f"{'benchmark':<15}{'grader':<13}{heads}")
    for benchmark, answers in references.items():
        for name, decide in graders.items():
            rng = random.Random(1)
            some = answers if name == "strict" else random.Random(2).sample(answers, min(sample, len(answers)))
            boxed = [Pair(prediction=f"So it is $\\boxed{{{a}}}$.", reference=a) for a in some]
            cells = [f"{sum(not decide(p) for p in boxed)} / {len(boxed)}"]
            for plant in (lambda a, r=rng: digit_changed(a, r), swapped, flipped):
                faulty = [Pair(prediction=f"\\boxed{{{c}}}", reference=a) for a in some if (c := plant(a)) is not None]
                cells.append(f"{sum(map(decide, faulty))} / {len(faulty)}")
            print(f"{benchmark:<15}{name:<13}{cells[0]:>14}{cells[1]:>16}{cells[2]:>15}{cells[3]:>17}")


def real_outputs(data: Path, files: list[Path], count: int) -> dict[str, list[tuple[Pair, bool | None]]]:
    """Outputs to time the graders on: those given, and the worked solutions of GSM8K and MATH as models end them."""
    found: dict[str, list[tuple[Pair, bool | None]]] = {}
    for path in files:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        found[path.stem] = [
            (Pair(prediction=r["prediction"], reference=str(r["reference"])), r.get("correct")) for r in rows
        ]
    if (data / "gsm8k_train.jsonl").is_file():
        rows = [
            json.loads(x) for x in (data / "gsm8k_train.jsonl").read_text(encoding="utf-8").split("\n")[:count] if x
        ]
        pairs = [Pair(prediction=r["answer"], reference=r["answer"].rpartition("#### ")[2]) for r in rows]
        found["GSM8K solutions, ####"] = [(p, True) for p in pairs]
    if (data / "math_train.jsonl").is_file():
        rows = [json.loads(x) for x in (data / "math_train.jsonl").read_text(encoding="utf-8").split("\n")[:count] if x]
        solved = [(r["solution"], extract_reference(r["solution"])) for r in rows]
        found["MATH solutions, boxed"] = [(Pair(prediction=s, reference=a), True) for s, a in solved]
        shifted = [a for _, a in solved[1:]] + [solved[0][1]]
        wrong: list[tuple[Pair, bool | None]]
        wrong = [(Pair(prediction=s, reference=b), a == b) for (s, a), b in zip(solved, shifted, strict=True)]
        found["MATH solutions, another's answer"] = wrong
    return found


def speed(graders: dict[str, GradePair], groups: dict[str, list[tuple[Pair, bool | None]]]) -> None:
    """Processor seconds for a thousand outputs, and agreement where the truth is known."""
    for group, pairs in groups.items():
        print(f"\n{group}: {len(pairs)} outputs\n{'grader':<14}{'s per 1,000':>13}{'agrees':>9}")
        for name, decide in graders.items():
            start = time.process_time()
            given = [(decide(pair), truth) for pair, truth in pairs]
            spent = (time.process_time() - start) / len(pairs) * 1000
            known = [(g, t) for g, t in given if t is not None]
            agrees = f"{sum(g == t for g, t in known) / len(known):.1%}" if known else "-"
            print(f"{name:<14}{spent:>13.2f}{agrees:>9}")


def hostile() -> None:
    """The longest that a hostile answer takes: ours in its worker, math-verify under its own limit."""
    pairs = [Pair(prediction=h, reference=r) for h in HOSTILE for r in ("5", "x^{2}+1")]
    worst, timeouts = 0.0, 0
    with Grader(GraderConfig(workers=1)) as grader:
        grader.grade_one(Pair(prediction="1", reference="1"))
        for pair in pairs:
            start = time.monotonic()
            timeouts += grader.grade_one(pair).status is GradeStatus.TIMEOUT
            worst = max(worst, time.monotonic() - start)
    print(f"\n{len(pairs)} hostile pairs: strict decides each within {worst:.2f} s, {timeouts} by the deadline")
    decide, slow = math_verify_grader(), 0
    for pair in pairs:
        start = time.monotonic()
        if len(pair.prediction) < 20_000 and "!" not in pair.prediction and "^{9^" not in pair.prediction:
            decide(pair)
        slow += time.monotonic() - start > 2
    print(
        f"math-verify: {slow} of those it was given took over 2 s (towers, factorials and long texts were kept from it)"
    )


if __name__ == "__main__":
    main()
