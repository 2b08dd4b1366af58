"""What one core of a worker does beside its engine, with an engine that answers at once.

python benchmarks/scale.py                       # the table: questions, answers, select, fail_rate, grading
python benchmarks/scale.py --only select --count 2000 --repeats 3

Rows a second of processor time, of this process and of the grader's, so that they hold while other work runs beside.
Texts are natural: solutions of MATH of about 450 tokens where `--data` has them, else the arithmetic oracle's; every
stage runs as the command line would run it, with reading, prompts, keys, extraction, journals and parts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine.base import Completion, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.eval.grade import Pair
from sq.eval.grader import Grader
from sq.eval.grader_config import GraderConfig
from sq.models.load import ModelConfig, load_tokenizer
from sq.synth.config import SynthJob

GOALS: dict[str, int | None] = {"questions": 4000, "answers": 2500, "select-reward": 800, "select-majority": None}
GOALS |= {"fail_rate": None, "grading": 2000}
UNITS = {"questions": "rows", "answers": "candidates", "select-reward": "questions of five"}
UNITS |= {"select-majority": "questions of five", "fail_rate": "solutions, five a problem", "grading": "pairs"}
N = 5
CHARACTERS = (1200, 1600)  # of a solution of about 450 tokens
CONTENT: dict[str, list[Completion]] = {}


@dataclass(frozen=True, kw_only=True)
class CannedConfig(EngineConfig):
    """An engine that has its answers ready: those of `CONTENT` in turn."""

    content: str = "solutions"

    def fingerprint_fields(self, model: ModelConfig) -> dict[str, Any]:
        return {"engine": "canned"}

    def can_score(self, model: ModelConfig) -> bool:
        return True

    def create(self, model: ModelConfig) -> CannedEngine:
        return CannedEngine(CONTENT[self.content])


class CannedEngine:
    """Implements `sq.engine.base.Engine`: the texts in turn."""

    fingerprint = "canned"

    def __init__(self, completions: Sequence[Completion]) -> None:
        self._completions = itertools.cycle(completions)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            completions = tuple(itertools.islice(self._completions, request.sampling.n))
            yield Result(key=request.key, completions=completions, prompt_tokens=60)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        for number, request in enumerate(requests):
            yield ScoreResult(key=request.key, score=(number * 7919 % 1000) / 1000, tokens=500)

    def close(self) -> None:
        pass


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def solutions(data: Path) -> list[str]:
    """Solutions of about 450 tokens."""
    low, high = CHARACTERS
    if (data / "math_train.jsonl").is_file():
        texts = [json.loads(line)["solution"] for line in (data / "math_train.jsonl").read_text().split("\n") if line]
        return [text for text in texts if low <= len(text) <= high and "[asy]" not in text]
    steps = [row["solution"] for row in ArithmeticDomain().seeds(4000, 0, "train")]
    each = max(1, low // (sum(map(len, steps)) // len(steps)))
    return ["\n".join(steps[i : i + each]) for i in range(0, len(steps) - each, each)]


def job(stage: str, engine: EngineConfig, *overrides: str) -> SynthJob:
    """A stage as the command line would compose it, with the canned engine."""
    given = [
        f"stage={stage}",
        "engine=oracle",
        "engine.domain=arithmetic",
        "model=tiny",
        "domain=math",
        "tracking=none",
        *overrides,
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = build(compose("synthesize", overrides=[*given, *overrides]), SynthJob)
    return replace(composed, engine=engine)


class Scale:
    """The measurements, on inputs that are made once."""

    def __init__(self, where: Path, data: Path, count: int) -> None:
        self.where, self.count = where, count
        self.texts = solutions(data)
        self.questions = [row["question"] for row in ArithmeticDomain().seeds(max(count, 4 * count), 0, "train")]
        lines = (json.dumps({"question": q}) + "\n" for q in self.questions[:count])
        (where / "q.jsonl").write_text("".join(lines))
        CONTENT["solutions"] = [Completion(text=text, finish_reason="stop", tokens=450) for text in self.texts]
        self._run = 0

    def stage(self, name: str, *overrides: str, content: str = "solutions") -> tuple[float, Path]:
        """Processor seconds of a stage in a directory of its own."""
        self._run += 1
        output = self.where / f"{name}-{self._run}"
        composed = job(name, CannedConfig(content=content), f"output_dir={output}", *overrides)
        begun = cpu_seconds()
        composed.run()
        return cpu_seconds() - begun, output

    def measure_questions(self) -> tuple[int, float]:
        tokenizer = load_tokenizer(build({"name": "tiny", "path": "package:tiny", "dtype": "fp32"}, ModelConfig))
        encoded = [tuple(tokenizer(text)["input_ids"]) for text in self.questions]
        CONTENT["questions"] = [
            Completion(text=text, finish_reason="stop", token_ids=ids, tokens=len(ids))
            for text, ids in zip(self.questions, encoded, strict=True)
        ]
        return len(encoded), self.stage("questions", f"stage.count={len(encoded)}", content="questions")[0]

    def measure_answers(self) -> tuple[int, float]:
        return N * self.count, self.stage("answers", f"input={self.where}/q.jsonl")[0]

    def measure_select(self, method: str) -> tuple[int, float]:
        answers = self.where / "answers"
        if not answers.exists():
            self.stage("answers", f"input={self.where}/q.jsonl")[1].rename(answers)
        return self.count, self.stage("select", f"input={answers}", f"stage.method={method}")[0]

    def measure_fail_rate(self) -> tuple[int, float]:
        rows = list(ArithmeticDomain().seeds(self.count, 1, "train"))
        problems = self.where / "p.jsonl"
        problems.write_text(
            "".join(json.dumps({"question": r["question"], "answer": r["answer"]}) + "\n" for r in rows)
        )
        return N * len(rows), self.stage("fail_rate", f"input={problems}", f"stage.n={N}")[0]

    def measure_grading(self) -> tuple[int, float]:
        pairs = [Pair(prediction=t, reference=r) for t, r in zip(self.texts, self.texts[::-1], strict=True)]
        pairs += [Pair(prediction=text, reference=text) for text in self.texts]
        pairs = (pairs * (1 + N * self.count // len(pairs)))[: N * self.count]
        begun = cpu_seconds()
        with Grader(GraderConfig()) as grader:
            graded = sum(1 for _ in grader.grade(pairs))
        return graded, cpu_seconds() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="questions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("shared/data"), help="a directory with math_train.jsonl")
    parser.add_argument("--only", choices=list(GOALS), nargs="*", default=list(GOALS))
    args = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as made:
        small = Scale(Path(made), args.data, 64)  # imports, tokenizers, first calls
        scale = Scale(Path(made), args.data, args.count)
        measures: dict[str, Callable[[Scale], tuple[int, float]]] = {
            "questions": Scale.measure_questions,
            "answers": Scale.measure_answers,
            "select-reward": lambda s: s.measure_select("reward"),
            "select-majority": lambda s: s.measure_select("majority"),
            "fail_rate": Scale.measure_fail_rate,
            "grading": Scale.measure_grading,
        }
        del small
        for name in args.only:
            rates = []
            for _ in range(args.repeats):
                count, seconds = measures[name](scale)
                rates.append(count / seconds)
            goal = f" (goal {GOALS[name]:,})" if GOALS[name] else ""
            spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
            print(
                f"{name:<16} {statistics.median(rates):>8,.0f} {UNITS[name]} a CPU second, {spread}{goal}", flush=True
            )


if __name__ == "__main__":
    main()
