"""Benchmarks that are conversations: rounds with the model's own replies between, and a wrong answer to correct."""

from benchmark_files import benchmark, written

from sq.eval.dialogue import conversation, reference_in

FOLLOWUP = {
    "question": "Ann has 2 hens that lay 3 eggs each. How many eggs?",
    "answer": "2*3=6\n#### 6",
    "followup": "A: And with 4 hens?\nB: Then 4 * 3 = 12. The answer is \\ANSWER{12}.\n\nA: She sells half.\nHow many "
    "are left?\nB: 12 / 2 = 6. The answer is \\(\\boxed{6}\\).",
}


def test_followup_is_three_rounds_with_the_models_own_replies_between(tmp_path):
    rows = [FOLLOWUP, {**FOLLOWUP, "question": "Short?", "followup": "A: only one\nB: \\ANSWER{1}"}]
    found = benchmark("mathchat_followup", f"path={written(tmp_path, rows)}").load(None, 0)
    one, two, three = found.by_id.values()
    assert [p["answer"] for p in (one, two, three)] == ["6", "12", "6"]
    assert [p["level"] for p in (one, two, three)] == ["1", "2", "3"]
    assert two["messages"] == [
        {"role": "user", "content": FOLLOWUP["question"]}, {"role": "assistant", "content": None}
    ]  # fmt: skip
    assert [m["content"] for m in three["messages"]] == [FOLLOWUP["question"], None, "And with 4 hens?", None]
    assert three["question"] == "She sells half.\nHow many are left?" and three["parents"] == [one["id"]]
    assert (
        len(found.unusable) == 1
        and "the conversation is not 2 questions with their answers" in found.unusable[0].detail
    )


def test_correction_puts_the_wrong_answer_and_the_hint_in_the_prompt(tmp_path):
    said = "A: 2 hens, 3 eggs each?\nB: That is 5.\nA: Not quite. Try again.\nB: It is 6. The answer is 6."
    row = {"question": FOLLOWUP["question"], "answer": FOLLOWUP["answer"], "error_correction": said}
    (one,) = benchmark("mathchat_correction", f"path={written(tmp_path, [row])}").load(None, 0).by_id.values()
    assert one["question"] == "Not quite. Try again." and one["answer"] == "6"
    assert [m["content"] for m in one["messages"]] == ["2 hens, 3 eggs each?", "That is 5."]


def test_speakers_are_named_at_the_start_of_a_line_only():
    assert conversation("A: what of plan B: or A: here?\nB: no") == [("A", "what of plan B: or A: here?"), ("B", "no")]
    assert reference_in("The answer is \\ANSWER{$60.80}.") == "$60.80"
