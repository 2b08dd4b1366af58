"""The trainings of the run: what each ended with, on its rows and on held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts
from sq.report.html import Section, join, note, table

LOSSES = {
    "qft": "cross-entropy of questions",
    "sft": "cross-entropy of solutions",
    "qpo": "preference loss (ln 2 = 0.693 at the start)",
    "reward": "loss of a right solution's score against a wrong one's",
    "difficulty": "squared error of fail rates",
    "pretrain": "cross-entropy of text",
}

LEFT_OUT = ("val/loss", "val/perplexity", "val/logp", "val/tokens", "val/reward")
"""Figures that say in other words what the loss or the margin says; MLflow has them."""


def section(artifacts: RunArtifacts) -> Section | None:
    """The table, from each train.json."""
    rows = []
    for stage in artifacts.of(*LOSSES):
        figures: Mapping[str, Any] = stage.record.get("figures") or {}
        if not figures:
            continue
        further = {
            key.removeprefix("val/"): value
            for key, value in figures.items()
            if key.startswith("val/") and not key.startswith(LEFT_OUT) and isinstance(value, int | float)
        }
        config = stage.record.get("config", {})
        rows.append(
            [
                stage.name,
                LOSSES[stage.kind],
                ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in further.items()) or "–",
                str(config.get("stage.lr", "–")),
                str(config.get("stage.epochs", "–")).removesuffix(".0"),
                _number(figures.get("train/loss")),
                _number(figures.get("val/loss")),
            ]
        )
    if not rows:
        return None
    head = ["training", "loss", "on held-out rows", "learning rate", "epochs", "last loss", "held-out loss"]
    body = join([
        table(head, rows, caption="Trainings and their final figures", words=3),
        note("The last loss is that of the final steps; held-out rows are chosen by a hash and never trained on."),
    ])  # fmt: skip
    return Section(
        id="training",
        title="Trainings",
        says=f"The final figures of {count_noun(len(rows), 'training')}, from train.json.",
        body=body,
    )


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"
