"""Each training stage improves what it is to improve, by the arithmetic domain's exact oracle.

A gain is told in standard errors of the difference. QFT's was 7.3 and 6.0 with two seeds (400 judged each), and 3 are
asked for; QPO's in steps was 5.9 and 3.7, more with the 600 judged here, and 2.3 are asked for, which a stage without
effect reaches once in a hundred runs. That the scorer's rank correlation is 0.8 on held-out rows, and what more SFT
gives, is asked for as well. `benchmarks/effects.py` has the whole method.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticDomain, analyse
from sq.train.fit import fit

pytestmark = pytest.mark.slow
GROUPS = ("stage", "model", "domain", "engine", "trainer", "tracking", "data")
TRAINED = ("stage.pack_tokens=2048", "trainer.precision=auto", "trainer.threads=1", "trainer.accelerator=cpu")
HF = ("engine=hf", "engine.batch_size=256", "engine.window=1024", "engine.device=cpu")


@dataclass(frozen=True)
class Questions:
    """The steps of each sampled question, 0 where it cannot be solved."""

    steps: Sequence[int]

    @property
    def solvable(self) -> list[float]:
        return [float(s > 0) for s in self.steps]

    @property
    def needed(self) -> list[float]:
        return [float(s) for s in self.steps if s]


class Writers:
    """A solver, after QFT, and after QPO; and what each writes."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        self.raw = self.written("raw", None, 400)
        qft = self.train("qft", "stage=qft", "data.limit=1500", "stage.lr=5e-4", "stage.batch_packs=1")
        self.qft = self.written("of-qft", qft, 1200)
        sampled = self.sample("for-pairs", qft, 600)
        pairs = self.synthesize("pairs", "stage=rewrite", "engine=oracle", "engine.error_rate=0.1", f"input={sampled}")
        qpo = self.train("qpo", "stage=qpo", f"model.path={qft}", f"data.input={pairs}", "stage.lr=1e-4",
                         "stage.batch_rows=16", "stage.warmup_steps=2", "stage.epochs=1.5")  # fmt: skip
        self.qpo = self.written("of-qpo", qpo, 1200)

    def train(self, name: str, *words: str) -> Path:
        return fit(composed("train", self.work / name, self.seed, "model=tiny", *TRAINED, *words))

    def synthesize(self, name: str, *words: str) -> Path:
        composed("synthesize", self.work / name, self.seed, *words).run()
        return self.work / name

    def sample(self, name: str, model: Path | None, count: int) -> Path:
        path = (f"model.path={model}",) if model else ()
        words = ("stage=questions", "model=tiny", *path, f"stage.count={count}", "stage.max_tokens=160", *HF)
        return self.synthesize(name, *words)

    def written(self, name: str, model: Path | None, count: int) -> Questions:
        place = self.sample(name, model, count)
        found = [analyse(row["question"]) for row in read_rows(place, columns=["question"])]
        steps = [max(1, j.steps) if j.solvable else 0 for j in found]
        return Questions(steps + [0 for _ in read_rejects(place)])


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Writers:
    return Writers(tmp_path_factory.mktemp("effects"), seed=0)


def test_qft_makes_more_questions_solvable(writers):
    assert gain(writers.raw.solvable, writers.qft.solvable) > 3


def test_qpo_makes_questions_harder(writers):
    assert gain(writers.qft.needed, writers.qpo.needed) > 2.3
    # A harder question is easier to spoil, and fewer are solvable then. With an unsolvable one counted as no steps
    # it is no loss (+0.6 and +1.5).
    assert gain(writers.qft.steps, writers.qpo.steps) > -1


def test_a_scorer_ranks_held_out_problems_by_their_difficulty(tmp_path):
    """Labels as a solver would give them that fails once in seven times for each step that the oracle counts."""
    rows = [{"question": p["question"], "fail_rate": p["steps"] / 7} for p in ArithmeticDomain().seeds(600, seed=11)]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("stage=difficulty", "model=tiny-base", f"data.input={labels}", "stage.validation=0.2", "stage.lr=1e-3",
             "stage.head_lr=5e-3", "stage.batch_rows=16", "stage.epochs=3")  # fmt: skip
    fit(composed("train", tmp_path / "scorer", 0, *words, *TRAINED))
    assert json.loads((tmp_path / "scorer" / "train.json").read_text())["figures"]["val/spearman"] >= 0.8


def test_sft_lowers_the_loss_of_solutions_it_has_not_seen(tmp_path):
    words = ("stage=sft", "model=tiny-base", "data.limit=400", "stage.validation=0.01", "stage.lr=1e-4",
             "stage.batch_packs=1", "stage.epochs=1")  # fmt: skip
    fit(composed("train", tmp_path / "student", 0, *words, *TRAINED))
    metrics = json.loads((tmp_path / "student" / "train.json").read_text())["figures"]
    assert metrics["val/loss"] < 0.97 * metrics["val/loss_before"]


def gain(before: Sequence[float], after: Sequence[float]) -> float:
    """The difference of means in standard errors of that difference."""
    spread = sum(statistics.variance(values) / len(values) for values in (before, after))
    return (statistics.mean(after) - statistics.mean(before)) / math.sqrt(spread)


def composed(script: str, output: Path, seed: int, *words: str) -> Any:
    """The job of a command line."""
    given = [*words, "tracking=none", f"output_dir={output}", f"seed={seed}"]
    overrides = [word if word.split("=")[0] in GROUPS else f"++{word}" for word in given]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose(script, overrides=overrides))
