"""What filters and select say of themselves is what the oracle says: a judge's error, and what best-of-five gains."""

import json
from itertools import islice

import pytest

from sq.domains.arithmetic import ArithmeticDomain


def test_a_judges_error_on_planted_questions_is_its_error_on_all(run, tmp_path):
    file = tmp_path / "q.jsonl"
    seeds = [row["question"] for row in ArithmeticDomain().seeds(300, 0, "train")]
    spoiled = [text.replace("?", ", and how many are blue?") if i % 2 else text for i, text in enumerate(seeds)]
    file.write_text("".join(json.dumps({"question": text}) + "\n" for text in spoiled))
    chain = [f"input={file}", "filters=[solvability]", f"stage.scores={tmp_path}/s", "engine.error_rate=0.25"]
    metrics = run("filter", *chain, "filters.solvability.measure=true", to="f")
    for measured, truth in (("recall", "judge_recall"), ("wrongly_removed", "judge_wrongly_removed")):
        assert abs(metrics[f"judge/{measured}"] - metrics[f"oracle/{truth}"]) < 0.12  # each is known to 0.07
        assert metrics[f"judge/{measured}_low"] < metrics[f"judge/{measured}"] < metrics[f"judge/{measured}_high"]
        assert 0.1 < abs(metrics[f"oracle/{truth}"] - (measured == "recall")) < 0.35, "a judge that errs is seen to err"


@pytest.mark.vllm
@pytest.mark.slow
def test_best_of_five_of_the_tiny_model_beats_a_random_one(run, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
    problems = (p for p in ArithmeticDomain().seeds(2000, 1, "test") if p["steps"] > 3)
    lines = [json.dumps({k: p[k] for k in ("question", "answer")}) for p in islice(problems, 300)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    run("answers", f"input={tmp_path}/p.jsonl", "engine=vllm", "model=tiny", "stage.max_tokens=150", to="a")
    majority = run("select", f"input={tmp_path}/a", "stage.method=majority", to="m")
    rewarded = run("select", f"input={tmp_path}/a", "stage.method=reward", "engine.error_rate=0.2", to="r")
    assert majority["correct/random"] == pytest.approx(rewarded["correct/random"])
    assert majority["correct/chosen"] > majority["correct/random"]  # 68.0 against 66.5%: they err alike
    assert rewarded["correct/chosen"] > rewarded["correct/random"] + 0.05
