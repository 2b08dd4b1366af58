"""What an evaluation tells: the table beside the paper's figures, and the answers on which the graders differ."""

import json
import re
from dataclasses import replace

import pytest

from sq.core.intervals import mean_interval, share_interval
from sq.core.ledger import Ledger, WorkItem
from sq.core.prompts import PromptConfig
from sq.core.rows import fit_row
from sq.engine.base import Sampling
from sq.eval.answer import ANSWER, BenchmarkAnswers
from sq.eval.checkers import EqualityChecker
from sq.eval.grader_config import GraderConfig
from sq.eval.paper import base_of, paper_figure
from sq.eval.prompting import FormatConfig, RequestBuilder
from sq.eval.report import (
    BenchmarkSummary,
    disagreements,
    flat_metrics,
    format_details,
    format_table,
    metric_rows,
    write_jsonl,
)
from sq.eval.score import score, scores_dir
from sq.models.load import ModelConfig

PAIRS = [
    ("\\boxed{(0,1)}", "[0,1]", (False, True)),  # dart takes an open interval for a closed one
    ("\\boxed{7}", "7", (True, True)),
    ("\\boxed{3 \\frac{1}{2}}", "3.5", (True, False)),  # and does not read mixed numbers
    ("no idea", "7", (False, False)),
]


@pytest.fixture
def scores(tmp_path):
    """A ledger of scores, as the real graders grade `PAIRS`."""
    rows = [
        {
            "id": f"a{i}", "run": "r", "parents": [f"p{i}"], "question": "?", "benchmark": "b", "item": f"p{i}",
            "sample": 0, "prediction": prediction, "reference": reference, "prediction_finish_reason": "stop",
        }
        for i, (prediction, reference, _) in enumerate(PAIRS)
    ]  # fmt: skip
    with Ledger.open(tmp_path / "answers", schema=ANSWER, config={}) as ledger:
        for item in ledger.todo(WorkItem(row["id"], row) for row in rows):
            ledger.record(item.key, [fit_row(item.payload, ANSWER)])
        answers = ledger.finish()
    form = FormatConfig(name="bare", prompt=PromptConfig(template="{question}"))
    model = ModelConfig(name="tiny", path="package:tiny")
    builder = RequestBuilder(model=model, form=form, sampling=Sampling(), seed=0, ids=False)
    graded = BenchmarkAnswers(rounds=[answers], as_graded=builder.as_graded, reasoning=builder.reasoning)
    score(tmp_path, graded, EqualityChecker(GraderConfig(workers=1), ("strict", "dart")))
    return scores_dir(tmp_path)


@pytest.fixture
def every_result_logged(monkeypatch, caplog):
    monkeypatch.setattr("sq.core.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("sq.core.progress.Progress._keep_up", lambda self: None)  # which has lines of its own
    caplog.set_level("INFO", "sq")


def test_grading_says_how_far_it_is(every_result_logged, scores, caplog, tmp_path):
    shown = [record.getMessage() for record in caplog.get_records("setup")]
    assert len(shown) == len(PAIRS) and shown[-1].startswith(f"{tmp_path.name} grades: {len(PAIRS)} of {len(PAIRS)} ")


def test_the_graders_differ_where_they_are_known_to_and_both_say_why(scores, tmp_path):
    found = list(disagreements(scores))
    expected = [f"a{i}" for i, (_, _, (strict, dart)) in enumerate(PAIRS) if strict != dart]
    assert [row["id"] for row in found] == expected
    for row in found:
        assert {row["strict_verdict"], row["dart_verdict"]} == {"correct", "wrong"}
        assert row["strict_reason"] and row["dart_reason"] and row["prediction"] and row["reference"]
    write_jsonl(tmp_path / "d.jsonl", found)
    assert [json.loads(line)["id"] for line in (tmp_path / "d.jsonl").read_text().splitlines()] == expected


def figures(share, count=10):
    values = [1.0] * int(share * count) + [0.0] * (count - int(share * count))
    rest = {
        name: share_interval([0.0] * count) for name in ("cut_off", "unparsed", "timeout", "unverifiable", "failed")
    }
    return {"accuracy": share_interval(values), **rest, "tokens": mean_interval([123.0] * count)}


def test_the_table_has_a_line_for_each_grader_and_the_papers_figure_where_there_is_one():
    base = "Qwen2-Math-7B"
    summaries = [
        BenchmarkSummary(
            name="math", metrics={"strict": figures(0.5), "dart": figures(0.4)}, disagreements=[{"id": "x"}], base=base
        ),
        BenchmarkSummary(name="aime24", metrics={"strict": figures(0.0)}, left_out=2, base=base),
    ]
    lines = format_table(summaries).splitlines()
    assert lines[0].endswith("paper (Qwen2-Math-7B)") and len(lines) == 5
    assert lines[2].split()[:4] == ["math", "strict", "10", "50.0%"] and lines[2].endswith("73.4%")
    assert lines[4].split()[:4] == ["aime24", "strict", "10", "0.0%"] and "73.4" not in lines[4]
    assert "paper" not in format_table([replace(one, base=None) for one in summaries])
    more = format_details(summaries)
    assert "math: the graders disagree on 1 answer to 10 problems (strict 50.0%, dart 40.0%)" in more
    assert "aime24: left out: 2 problems (" in more
    several = BenchmarkSummary(
        name="amc23", metrics={"strict": figures(0.5) | {"avg_at_16": share_interval([i / 39 for i in range(40)])}}
    )
    assert re.search(r"amc23 \(strict\): avg_at_16 50\.0% \(4\d\.\d to 5\d\.\d%\)", format_details([several]))
    assert flat_metrics(several)["avg_at_16"] == pytest.approx(0.5) and flat_metrics(several)["avg_at_16_low"] < 0.5
    row = next(r for r in metric_rows(summaries) if r["figure"] == "accuracy")
    assert (row["value"], row["paper"], row["grader"]) == (0.5, 73.4, "strict")


def test_the_first_graders_metrics_stand_without_a_prefix():
    values = flat_metrics(
        BenchmarkSummary(name="b", metrics={"strict": figures(0.5), "dart": figures(0.4)}, left_out=3)
    )
    assert values["accuracy"] == 0.5 and values["dart/accuracy"] == 0.4 and values["left_out"] == 3
    assert values["accuracy_low"] < 0.5 < values["accuracy_high"] and "tokens_low" not in values


@pytest.mark.parametrize(
    ("names", "base"),
    [
        (["mistral-7b", "x"], "Mistral-7B"), (["m", "mistralai/Mistral-7B-v0.1"], "Mistral-7B"),
        (["meta-llama/Meta-Llama-3-8B"], "Llama3-8B"), (["llama-3.1-8b"], None),
        (["Qwen/Qwen2-Math-7B"], "Qwen2-Math-7B"),
        (["Qwen/Qwen2.5-Math-7B"], None), (["deepseek-ai/deepseek-math-7b-base"], "DeepSeekMath-7B"), (["tiny"], None),
        (["Qwen2-Math-72B"], None),
    ],
)  # fmt: skip
def test_the_papers_scores_stand_beside_the_same_base_only(names, base):
    assert base_of(*names) == base
    assert paper_figure(base, "aime24") is None
    assert paper_figure("Qwen2-Math-7B", "math") == 73.4
