"""The final Yes or No, in the forms that judges give it, and what follows from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sq.core import yes_no
from sq.core.config import build, conf_dir
from sq.core.prompts import Parsed, Prompt, PromptConfig
from sq.core.yes_no import YesNo, majority


def load(name: str) -> Prompt:
    return Prompt(build(OmegaConf.load(conf_dir() / "prompt" / f"{name}.yaml"), PromptConfig))


judge = load("judge_solvability")
YES, NO, UNPARSABLE = YesNo


@pytest.mark.parametrize(
    ("answer", "word", "vote", "reject_reason"),
    [(YES, "yes", 1, None), (NO, "no", -1, "unsolvable"), (UNPARSABLE, "unparsable", 0, "unparsable")],
)
def test_what_follows_from_an_answer(answer, word, vote, reject_reason):
    assert (answer.value, answer.vote, answer.reject_reason) == (word, vote, reject_reason)
    assert YesNo(word) is answer


@pytest.mark.parametrize("foreign", [None, "maybe", "Yes", True, 1])
def test_what_is_no_answer_in_a_column_is_never_a_yes(foreign):
    assert YesNo(foreign) is UNPARSABLE


@pytest.mark.parametrize(
    ("answers", "most"),
    [([YES, NO, YES], YES), ([NO], NO), ([YES, NO], UNPARSABLE), ([YES, UNPARSABLE], YES), ([], UNPARSABLE)],
)
def test_most_answers_win_and_a_tie_is_none(answers, most):
    assert majority(answers) is most


def test_a_fourth_answer_does_not_pass_type_checking_before_it_has_its_place(tmp_path):
    source = Path(yes_no.__file__).read_text().replace('    NO = "no"\n', '    NO = "no"\n    MAYBE = "maybe"\n')
    (tmp_path / "yes_no.py").write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "yes_no.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.count("Missing return statement") == 2, done.stdout


def test_a_reply_that_was_cut_off_has_no_answer():
    assert judge.yes_no("Answer: Yes", "stop") is YES and judge.yes_no("Hm.", "stop") is UNPARSABLE
    assert judge.yes_no("Answer: Yes", "length") is UNPARSABLE


@pytest.mark.parametrize(
    ("reply", "yes"),
    [
        ("Yes", True), ("no", False), ("YES.", True), ("**No**", False), ("**No.**", False), ("Answer: Yes", True),
        ("Answer: No.", False), ("**Answer:** Yes", True), ("**Answer: No**", False), ("Final Answer: **Yes**", True),
        ("Answer:\n\nNo", False), ("### Verdict: Yes", True), ("\\boxed{Yes}", True), ("$\\boxed{\\text{No}}$", False),
        ("Thus the final answer is $\\boxed{\\text{Yes}}$. I hope it is correct.", True), ("The answer is yes.", True),
        ("So the final answer is: No", False), ("Therefore, the answer is no.", False), ("No, it is not.", False),
        ("Yes, the conditions suffice.", True), ("Yes, there are no contradictions.", True),
        ("Answer: Yes, no data is missing.", True), ("Answer: No (the speed is missing)", False),
        ("Answer: No — the speed is missing", False), ("Answer: Yes.\n\n---\n", True), ("✅ Yes", True),
        ("The speed is missing. No.", False), ("Is it a problem? Yes. Do the conditions suffice? No.", False),
        ("\"Yes\"", True), ("'No'", False), ("Yes. The conditions suffice to find x.", True),
        ("<answer>No</answer>", False), ('{"answer": "Yes"}', True), ("(No)", False),
        ("It is a question, but is it solvable? No, yes, no... let me see.\nThe price follows.\nAnswer: Yes", True),
        ("Answer : Yes", True),
        ("Yes, it is.\nYes, it may be.\nThe number of people is 2.5, which cannot be.\nAnswer: No", False),
        ("Solvable: Yes", True), ("No, the number of people is not given: no value follows.", False),
        ("Yes, and the answer is 14.", True), ("_Yes_", True), ("Nothing is missing, so yes.", True),
        ("Answer: Yes\u200b", True), ("- Answer: No", False), ("> Yes", True), ("Answer: $\\text{No}$", False),
    ],
)  # fmt: skip
def test_the_last_word_is_the_answer(reply, yes):
    assert judge.parse(reply) == Parsed(ok=True, raw=reply, value=YES if yes else NO)


@pytest.mark.parametrize(
    "reply",
    [
        "Yes and no", "Yes or no", "Yes/No", "Answer: Yes/No", "Not sure", "I am not sure.", "Maybe yes",
        "The answer is not yes.", "I cannot say yes.", "Neither yes nor no.", "Yes, if we assume x = 3.",
        "Yes, but only if x is positive.", "No conditions are missing.", "No solution exists here",
        "Answer: Yes\nHowever, let me check the second condition again, because",
        "Yes, it can be solved.\nThe answer is 14.", "Yesterday", "Nothing", "No, wait, yes.", "Is the answer yes?",
        "Yes?", "Answer:", "Answer: Unclear", "No. 5 is the one.", "\\boxed{14}", "\\boxed{Yes} or \\boxed{No}",
        "The conditions suffice.", "Answer: Yes. However, x is missing.",
        "x is 3?\nNo, that is y. So the sum is 5 and", "...", "はい", "Answer: It depends", "There is no-one",
        "so yes or no", "They may or may not suffice",
    ],
)  # fmt: skip
def test_no_plain_answer_is_unparsable(reply):
    parsed = judge.parse(reply)
    assert (parsed.ok, parsed.value, parsed.raw) == (False, None, reply)
    assert parsed.reason in ("no plain Yes or No at the end", "empty reply")


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["Yes, x is 3.", "No.", "Is it? yes", "no", "\\boxed{Yes}", "Answer: No", ""]), max_size=6
    ),
    st.booleans(),
)
def test_reasoning_does_not_count(reasoning, yes):
    last = "Answer: Yes" if yes else "Answer: No"
    assert judge.parse("\n".join([*reasoning, last])).value is (YES if yes else NO)
    assert not judge.parse("\n".join([*reasoning, "So the rate follows from the"])).ok
