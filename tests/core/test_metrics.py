"""The table of metrics is what the documentation has, and finds a metric by the names that MLflow has."""

from pathlib import Path

import pytest

from sq.core.metrics import EVALUATION, TRAINING, Better, find_metric, format_table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "table"), [("training.md", TRAINING), ("evaluation.md", EVALUATION)])
def test_the_documentation_has_the_table(page, table):
    assert format_table(table) in (DOCS / page).read_text(), f"docs/{page} should have:\n{format_table(table)}"


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("val/loss_before", Better.DOWN),
        ("gsm8k/dart/pass_at_8_low", Better.UP),
        ("gsm8k/accuracy_level_5", Better.UP),
        ("val/reward_chosen", Better.NEITHER),
        ("aime24/cut_off", Better.DOWN),
        ("oracle/solvable", Better.UP),
        ("overlap/gsm8k/clean", Better.UP),
        ("judge/unparsable", Better.DOWN),
    ],
)
def test_a_metric_is_found_by_its_whole_name(name, better):
    assert find_metric(name).better is better


def test_an_unknown_metric_is_none():
    assert find_metric("mine/solvable") is None
