"""Two runs compared by their directories: what is real, what is not, and what cannot be compared."""

import argparse

import pytest

from sq.cli import compare as compare_command
from sq.core.errors import RowError
from sq.core.ledger import Ledger, WorkItem
from sq.core.rows import SCORE, fit_row, row_id
from sq.eval.answer import ANSWER
from sq.eval.compare import compare, format_comparison
from sq.recipe.progress import format_scores


def evaluation(directory, right, *, benchmark="gsm8k", profiles=("strict",), samples=1, finish=True, grader="x"):
    """The scores of an evaluation: `right` says of each problem by name which of its answers are right."""
    with Ledger.open(directory / benchmark / "scores", schema=SCORE, config={"grader": grader}) as ledger:
        for item in ledger.todo(WorkItem(key) for key in right):
            rows = []
            for profile in profiles:
                for sample in range(samples):
                    correct = right[item.key] > sample
                    row = {
                        "id": row_id("s", i=item.key, p=profile, k=sample), "run": "r", "parents": [item.key],
                        "question": "?", "benchmark": benchmark, "item": item.key, "sample": sample,
                        "profile": profile, "prediction": "", "reference": "1", "correct": correct,
                        "verdict": "correct" if correct else "wrong",
                    }  # fmt: skip
                    rows.append(fit_row(row, SCORE))
            ledger.record(item.key, rows)
            if not finish:
                return directory
        ledger.finish()
    return directory


def test_a_gain_on_the_same_problems_is_real_and_its_reverse_too(tmp_path):
    names = [f"p{i}" for i in range(300)]
    a = evaluation(tmp_path / "a", {n: int(i % 2 == 0) for i, n in enumerate(names)})
    b = evaluation(tmp_path / "b", {n: int(i % 2 == 0 or i % 10 == 1) for i, n in enumerate(names)})
    (found,) = compare(a, b)
    assert found.conclusion == "B is better" and found.difference.value == pytest.approx(0.1)
    (back,) = compare(b, a)
    assert back.conclusion == "A is better" and back.difference.low < back.difference.high < 0
    assert found.difference.p == pytest.approx(2 * 0.5**30, abs=1e-12), "30 gained, none lost: exact"
    shown = format_comparison([found])
    assert "+10.0" in shown and "300" in shown and "B is better" in shown and "50.0%" in shown
    assert compare(a / "gsm8k", b / "gsm8k" / "scores") == [found], "directories of one benchmark do too"


def test_as_many_right_elsewhere_is_no_difference(tmp_path):
    a = evaluation(tmp_path / "a", {f"p{i}": i % 2 for i in range(100)})
    b = evaluation(tmp_path / "b", {f"p{i}": (i + 1) % 2 for i in range(100)})
    (found,) = compare(a, b)
    assert found.conclusion == "no difference shown" and found.difference.p > 0.9
    (same,) = compare(a, a)
    assert same.conclusion == "no difference shown" and same.difference.p == 1


def test_problems_are_matched_by_their_id_and_those_of_one_run_alone_are_counted(tmp_path):
    a = evaluation(tmp_path / "a", {f"p{i}": int(i < 20) for i in range(40)})
    b = evaluation(tmp_path / "b", {f"p{i}": int(i < 20) for i in reversed(range(10, 43))})
    (found,) = compare(a, b)
    assert found.difference.value == 0 and found.difference.count == 30
    assert (found.only_a, found.only_b) == (10, 3)
    assert "10 problems only in A and 3 only in B are left out" in format_comparison([found])


def test_several_answers_count_by_their_share_and_graders_stand_apart(tmp_path):
    a = evaluation(tmp_path / "a", {f"p{i}": 1 for i in range(50)}, samples=4, profiles=("strict", "dart"))
    b = evaluation(tmp_path / "b", {f"p{i}": 3 for i in range(50)}, samples=4)
    (found,) = compare(a, b)
    assert found.profile == "strict" and (found.difference.a, found.difference.b) == (0.25, 0.75)
    apart = evaluation(tmp_path / "c", {f"p{i}": 4 * (i % 2) for i in range(50)}, samples=4)
    assert format_scores(apart) == "gsm8k 50.0% of 50 problems right (36.6% to 63.4%)", "200 answers, but 50 problems"


def test_scores_of_two_versions_of_the_grader_are_reported(tmp_path):
    a = evaluation(tmp_path / "a", {"p": 1, "q": 0})
    b = evaluation(tmp_path / "b", {"p": 1, "q": 0}, grader="y")
    assert "A and B were graded by different versions of the grader" in format_comparison(compare(a, b))
    assert "different versions" not in format_comparison(compare(a, a))


def test_settings_that_decide_answers_and_differ_are_named(tmp_path):
    plain = {"engine": "hf", "engine.dtype": "float32", "model": "m", "prompt": "p", "seed": 0, "problems": 2,
             "sampling.temperature": 0.0, "sampling.max_tokens": 128}  # fmt: skip
    shown = {}
    for name, change in {
        "a": {},
        "other model": {"model": "n", "seed": 1, "problems": 3},
        "shorter": {"sampling.max_tokens": 64, "engine.dtype": "bfloat16"},
        "drawn": {"sampling.temperature": 0.7, "seed": 1, "prompt": "q"},
        "vllm": {"engine": "vllm", "engine.sampler": "sq"},
    }.items():
        b = evaluation(tmp_path / name, {"p": 1, "q": 0}, profiles=("strict", "dart"))
        with Ledger.open(b / "gsm8k" / "answers", schema=ANSWER, config=plain | change) as ledger:
            list(ledger.todo([]))
            ledger.finish()
        shown[name] = [s for s in format_comparison(compare(tmp_path / "a", b)).splitlines() if "differ in" in s]
    assert shown["a"] == shown["other model"] == []
    assert shown["shorter"] == ["gsm8k: A and B differ in engine.dtype (float32, bfloat16), max_tokens (128, 64)"]
    assert shown["drawn"] == [
        "gsm8k: A and B differ in prompt (format, instruction or chat template), temperature (0.0, 0.7), seed (0, 1)"
    ]
    assert shown["vllm"] == ["gsm8k: A and B differ in engine (hf, vllm)"]


def test_what_cannot_be_compared_says_why(tmp_path):
    a = evaluation(tmp_path / "a", {"p": 1})
    for other, message in (
        (
            evaluation(tmp_path / "b", {"p": 1}, benchmark="math"),
            "no benchmark and grader in common: the one has gsm8k, ",
        ),
        (evaluation(tmp_path / "c", {"q": 1}), "answered different problems; none is in both"),
        (evaluation(tmp_path / "d", {"p": 1, "q": 1}, finish=False), "is not finished; run its evaluation to the end"),
        (tmp_path / "nowhere", "there is no directory"),
        (tmp_path, "is no evaluation's output: it has no BENCHMARK/scores .it holds a, b, c, d"),
    ):
        with pytest.raises(RowError, match=message):
            compare(a, other)


def test_the_command_says_which_directory_each_column_is(tmp_path, capsys):
    a, b = (evaluation(tmp_path / name, {f"p{i}": i % 2 for i in range(4)}) for name in ("first", "second"))
    parser = argparse.ArgumentParser()
    compare_command.add(parser.add_subparsers())
    parsed = parser.parse_args(["compare", str(a), str(b)])
    parsed.run(parsed)
    assert capsys.readouterr().out.startswith(f"A: {a}\nB: {b}\nbenchmark  grader")
