"""The format of an evaluation in a report: few-shot results are marked."""

import json

import pytest

from sq.report.artifacts import StageArtifacts
from sq.report.tables import _format

SHOTS = {"model.name": "m", "format.name": "few_shot", "format.shots.count": 4}


@pytest.mark.parametrize(
    ("params", "overrides", "form"),
    [
        ({"model.name": "m", "format.name": "chat", "format.shots": None}, (), "chat"),
        (SHOTS, (), "few_shot, 4-shot"),
        ({**SHOTS, "formats.m.name": "alpaca"}, (), "alpaca"),
        ({**SHOTS, "benchmark.b.domain.name": "arithmetic"}, (), "few_shot"),
        (None, ("model=m", "format=gsm8k_5shot"), "gsm8k_5shot"),
        (None, (), ""),
    ],
)
def test_the_format_is_what_the_run_or_the_recipe_says(tmp_path, params, overrides, form):
    if params:
        lines = [{"op": "open"}, {"op": "params", "params": params}]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = StageArtifacts(name="evaluate", kind="evaluate", directory=tmp_path, overrides=overrides)
    assert _format(stage, "b") == form
