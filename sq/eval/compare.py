"""`sq compare A B`: whether two runs differ by more than chance, problem by problem (an exact paired test).

Two runs over the same problems share what makes a problem hard, so their difference is estimated far better than either
score. Only problems that both runs have are compared, and how many are left out is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sq.core.count import columns, percent
from sq.core.errors import RowError
from sq.core.intervals import Difference, paired_difference
from sq.core.ledger import read_manifest, read_rows
from sq.eval.answer import answers_dir

COMPARED = frozenset({"model", "engine.lora", "benchmark", "problems", "sampling.stop_token_ids"})
"""Of what decides answers: what is compared, what follows from it, and problems, which are counted themselves."""
DRAWING = frozenset({"seed", "engine.seed_bits", "engine.sampler", "sampling.top_p", "sampling.top_k"})
"""What decides only answers that are drawn."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkComparison:
    """One benchmark under one grader: what B has over A; problems that only one of them has."""

    benchmark: str
    profile: str
    difference: Difference
    only_a: int = 0
    only_b: int = 0
    same_grader: bool = True
    differing: tuple[str, ...] = ()
    """Settings that decide answers and are not the same in both, with their values."""

    @property
    def conclusion(self) -> str:
        """In words."""
        if not self.difference.real:
            return "no difference shown"
        return "B is better" if self.difference.value > 0 else "A is better"


def compare(a: str | Path, b: str | Path) -> list[BenchmarkComparison]:
    """Compare the evaluations in two directories, on every benchmark and grader that both have.

    Raises:
        RowError: a directory that is no evaluation's, or nothing in common.
    """
    first, second = benchmarks_in(Path(a)), benchmarks_in(Path(b))
    comparisons = []
    for name in [n for n in first if n in second]:
        ours, theirs = shares_by_grader(first[name]), shares_by_grader(second[name])
        graders = {read_manifest(scores[name]).config.get("grader") for scores in (first, second)}
        differing = tuple(_differing(first[name], second[name]))
        for profile in [p for p in ours if p in theirs]:
            one = _compared(name, profile, ours[profile], theirs[profile])
            comparisons.append(replace(one, same_grader=len(graders) == 1, differing=differing))
    if not comparisons:
        raise RowError(
            f"{a} and {b} have no benchmark and grader in common: the one has {', '.join(first)}, "
            f"the other {', '.join(second)}"
        )
    return comparisons


def benchmarks_in(directory: Path) -> dict[str, Path]:
    """The ledgers of scores in the directory of an evaluation, of one benchmark, or of the scores themselves.

    Raises:
        RowError: where there is none.
    """
    if not directory.is_dir():
        raise RowError(f"there is no directory {directory}")
    for scores in (directory, directory / "scores"):
        if (scores / "manifest.json").is_file() and "verdict" in read_manifest(scores).schema:
            return {_name(scores): scores}
    directories = {p.parent.parent.name: p.parent for p in sorted(directory.glob("*/scores/manifest.json"))}
    if not directories:
        there = ", ".join(sorted(p.name for p in directory.iterdir())[:5]) or "nothing"
        raise RowError(f"{directory} is no evaluation's output: it has no BENCHMARK/scores (it holds {there})")
    return directories


def format_comparison(compared: Sequence[BenchmarkComparison]) -> str:
    """The comparison as a table."""
    lines = [["benchmark", "grader", "problems", "A", "B", "B - A", "95% interval", "p", "verdict"]]
    for one in compared:
        d = one.difference
        interval = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
        change, p = f"{100 * d.value:+.1f}", f"{d.p:.4f}" if d.p >= 0.0001 else "<0.0001"
        numbers = [f"{d.count:,}", percent(d.a), percent(d.b), change, interval, p]
        lines.append([one.benchmark, one.profile, *numbers, one.conclusion])
    notes = [
        f"{one.benchmark} ({one.profile}): {one.only_a} problems only in A and {one.only_b} only in B are left out"
        for one in compared
        if one.only_a or one.only_b
    ]
    notes += [
        f"{name}: A and B were graded by different versions of the grader; run both again, which only grades"
        for name in dict.fromkeys(one.benchmark for one in compared if not one.same_grader)
    ]
    settings = {one.benchmark: one.differing for one in compared if one.differing}
    notes += [f"{name}: A and B differ in {', '.join(differing)}" for name, differing in settings.items()]
    return "\n".join([*columns(lines, left=2), *notes])


def _differing(a: Path, b: Path) -> Iterator[str]:
    """The settings in which the answers of two ledgers of scores differ."""
    ours, theirs = (_settings(scores) for scores in (a, b))
    greedy = all(each.get("sampling.temperature") == 0 for each in (ours, theirs))
    for key in sorted(ours.keys() & theirs.keys() - COMPARED - (DRAWING if greedy else frozenset())):
        if ours[key] != theirs[key]:
            values = "format, instruction or chat template" if key == "prompt" else f"{ours[key]}, {theirs[key]}"
            yield f"{key.removeprefix('sampling.')} ({values})"


def _settings(scores: Path) -> dict[str, Any]:
    """What decided the answers that were graded; nothing where they are not kept."""
    answers = answers_dir(scores.absolute().parent)
    return read_manifest(answers).config if answers.is_dir() else {}


def _name(scores: Path) -> str:
    first = next(read_rows(scores, columns=["benchmark"]), None)
    return str(first["benchmark"]) if first else scores.absolute().parent.name


def shares_by_grader(scores: Path) -> dict[str, dict[str, float]]:
    """The share of right answers to each problem, by grader."""
    if not read_manifest(scores).finished:
        raise RowError(f"{scores} is not finished; run its evaluation to the end first")
    right: dict[str, dict[str, list[bool]]] = {}
    for row in read_rows(scores, columns=["profile", "item", "correct"]):
        right.setdefault(row["profile"], {}).setdefault(row["item"], []).append(row["correct"])
    return {
        profile: {item: sum(given) / len(given) for item, given in items.items()} for profile, items in right.items()
    }


def _compared(name: str, profile: str, a: dict[str, float], b: dict[str, float]) -> BenchmarkComparison:
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise RowError(f"{name}: the two runs answered different problems; none is in both")
    difference = paired_difference([a[i] for i in shared], [b[i] for i in shared])
    return BenchmarkComparison(
        benchmark=name,
        profile=profile,
        difference=difference,
        only_a=len(a) - len(shared),
        only_b=len(b) - len(shared),
    )
