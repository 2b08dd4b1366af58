"""Headings, JSON and tags in the dress that models really give them, and any text at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sq.core.config import build, conf_dir
from sq.core.prompts import Parsed, Prompt, PromptConfig
from sq.core.yes_no import YesNo

ROLES = ["improve_solvability", "raise_difficulty", "judge_solvability", "rate_difficulty", "classify_topic", "answer"]


def load(name: str) -> Prompt:
    return Prompt(build(OmegaConf.load(conf_dir() / "prompt" / f"{name}.yaml"), PromptConfig))


SHIPPED = [load(role) for role in ROLES]
improve, harder, judge, rate, topic, answer = SHIPPED

FINAL = "A train goes 60 miles in 2 hours. What is its speed in miles per hour?"


@pytest.mark.parametrize(
    "heading",
    [
        "FINAL QUESTION: {}", "FINAL QUESTION:\n{}", "**FINAL QUESTION:** {}", "**FINAL QUESTION**: {}",
        "**FINAL QUESTION**\n{}", "### FINAL QUESTION\n\n{}", "### FINAL QUESTION: {}", "## **Final Question:**\n{}",
        "Final question: {}", "#FINAL QUESTION#: {}", "3. FINAL QUESTION: {}", "3) **FINAL QUESTION:** {}",
        "- FINAL QUESTION: {}", "> **Final Question:** {}", "FINAL  QUESTION : {}", "FINAL_QUESTION: {}",
        "__FINAL QUESTION:__ {}", "*Final Question:* {}", "FINAL QUESTION：{}", "`FINAL QUESTION:` {}",
        "**FINAL QUESTION: {}**", "FINAL QUESTION: **{}**", "FINAL QUESTION: \"{}\"", "FINAL QUESTION:\n```\n{}\n```",
        "FINAL QUESTION:\n```text\n{}\n```\nI hope this helps!", "FINAL QUESTION (revised): {}",
        "FINAL QUESTION: <question>\n{}\n</question>", "FINAL QUESTION:\r\n{}\r\n",
        "All is well. **FINAL QUESTION:** {}", "FINAL QUESTION: a draft\n\nFINAL QUESTION: {}",
        "FINAL QUESTION: {}\n\n---\nThe speed is 30.",
        "FINAL QUESTION: {}\n\nNote: I modified the original question to add the hours.",
        "FINAL QUESTION: {}\n\n(Note: the original question lacked a time.)", "FINAL QUESTION: {}\n\n**Answer:** 30",
        "FINAL QUESTION: {}\n\nThis question is now solvable, as the version above is complete.",
        "FINAL QUESTION: {}\n\n**Explanation:**\n60/2", "FINAL QUESTION: {}\n\nLet me know if you want another one.",
        "[FINAL QUESTION]: {}", "Step 3: FINAL QUESTION: {}",
    ],
)  # fmt: skip
def test_final_question_in_every_dress(heading):
    reply = (
        "CREATED QUESTION: A train goes. How fast?\n**VERIFICATION & MODIFICATION:** The final question is unclear.\n"
    )
    parsed = improve.parse(reply + heading.format(FINAL))
    assert (parsed.ok, parsed.value, parsed.reason) == (True, FINAL, None)
    assert parsed.raw == reply + heading.format(FINAL)


@pytest.mark.parametrize(
    "heading",
    [
        "#Finally Rewritten Problem#: {}", "#Finally Rewritten Problem#:\n{}", "**#Finally Rewritten Problem#:** {}",
        "**Finally Rewritten Problem**: {}", "**Finally Rewritten Problem:**\n\n{}",
        "### Finally Rewritten Problem\n{}", "### Finally Rewritten Problem: {}", "Finally Rewritten Problem: {}",
        "# Finally Rewritten Problem #\n{}", "#Finally Rewritten Problem# {}",
        "Step 4: #Finally Rewritten Problem#: {}", "Step 4 #Finally Rewritten Problem#:\n{}",
        "**Step 4: #Finally Rewritten Problem#:**\n{}", "### Step 4: Finally Rewritten Problem\n{}",
        "#Final Rewritten Problem#: {}", "**Finally Rewritten Question:** {}", "#finally rewritten problem#: {}",
        "4. **#Finally Rewritten Problem#**: {}", "#Finally Rewritten Problem:# {}",
    ],
)  # fmt: skip
def test_rewritten_problem_in_every_dress(heading):
    reply = "Step 1 #Ways to Make It Harder#: - a stop\nStep 2 #Plan#: add one\nStep 3 #Draft#: A train stops.\n"
    parsed = harder.parse(reply + heading.format(FINAL))
    assert (parsed.ok, parsed.value) == (True, FINAL)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        (" \n", "empty reply"),
        ("I cannot help with that.", "no heading 'FINAL QUESTION'"),
        ("The final question is what matters.", "no heading 'FINAL QUESTION'"),
        ("Is the **final question** solvable?", "no heading 'FINAL QUESTION'"),
        ("CREATED QUESTION: What is 2 + 2?", "no heading 'FINAL QUESTION'"),
        ("FINAL QUESTION:", "nothing under 'FINAL QUESTION'"),
        ("FINAL QUESTION: ...", "nothing under 'FINAL QUESTION'"),
        ("FINAL QUESTION: What is 1 + 1?\nFINAL QUESTION:\n", "nothing under 'FINAL QUESTION'"),
        ("FINAL QUESTION: [the finished question and nothing else]", "only a placeholder under 'FINAL QUESTION'"),
        ("<think>FINAL QUESTION: What is", "cut off while thinking"),
    ],
)
def test_no_rewrite_is_unparsable_and_keeps_the_raw_text(reply, reason):
    assert improve.parse(reply) == Parsed(ok=False, raw=reply, reason=reason)


def test_what_belongs_to_the_question_stays():
    for question in (
        "Note: all angles are in degrees.\nFind $x$ if $2x = 50$.",
        "A pool holds 50 L.\n\nNote: the tap runs at 5 L per minute.\n\nHow long does filling take?",
        "I have 5 apples.\n\nI eat 2 of them. How many are left?",
        "Solve:\n1. $x + 1 = 3$\n\n2. $y = 2x$\n\nWhat is $y$?",
        "In the table\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nwhat is $a + b$?",
        '"Seven" has 5 letters; how many has "eleven"?',
        "-5 + x = 3. What is x?",
        "**Ann** has 3 coins and **Bob** has 4. How many have they?",
    ):
        assert improve.parse(f"FINAL QUESTION: {question}").value == question


def test_thinking_is_no_part_of_the_reply():
    assert improve.parse(f"<think>FINAL QUESTION: a</think>\nFINAL QUESTION: {FINAL}").value == FINAL
    assert judge.parse("<think>No.\nNo</think>\nAnswer: Yes").value is YesNo.YES
    assert judge.parse("[THINK]Answer: No").value is None, "it was cut off before it answered"


words = st.lists(
    st.sampled_from("Ann has 3 red balls and {x} of $y^{2}$ cost \\frac{1}{2} € how many , . ?".split()),
    min_size=2,
    max_size=30,
)
question_texts = words.map(" ".join).filter(lambda q: any(c.isalnum() for c in q) and q.count("**") == 0)
dress = st.sampled_from(
    ["{}: ", "**{}:** ", "**{}**: ", "### {}\n", "#{}#: ", "{}:\n\n", "## {}:\n", "1. {}: ", "**{}**\n\n"]
)
cases = st.sampled_from([str.upper, str.lower, str.title])


@settings(deadline=None)
@given(question_texts, question_texts, question_texts, dress, cases)
def test_parts_come_back_from_any_dress(created, verification, final, heading, case):
    names = ["created question", "verification and modification", "final question"]
    reply = "\n\n".join(heading.format(case(n)) + t for n, t in zip(names, (created, verification, final), strict=True))
    parsed = improve.parse(reply)
    assert parsed.ok
    assert parsed.value == final


RATING = {"intent": "find the speed", "knowledge": "division", "difficulty": "easy"}


@pytest.mark.parametrize(
    "dress",
    [
        "{}", "```json\n{}\n```", "```\n{}\n```\nI hope this helps!", "Here it is: {} Done.", "{{\"a\": 1}}\n{}",
        "The set {{1, 2}} is {}", "{}\nSo in $\\frac{{1}}{{2}}$ of the cases it is easy.",
        "First {{\"intent\": \"x\"}} then {}", "<think>{{}}</think>{}",
    ],
)  # fmt: skip
def test_last_json_object(dress):
    parsed = rate.parse(dress.format(json.dumps(RATING, indent=1)))
    assert (parsed.ok, parsed.value) == (True, 40)


def test_json_of_careless_models():
    assert (
        rate.parse(
            '{"intent": "find $\\frac{1}{2} \\sqrt{x}$", "knowledge": ["a", "b"], "difficulty": "Very Hard"}'
        ).value
        == 100
    )
    assert rate.parse('{"Intent": "a\nb", "Knowledge": "", "Difficulty": "very_easy"}').value == 20
    assert rate.parse('{"intent": "", "knowledge": "", "difficulty": 60}').value == 60
    nested = '{"intent": {"difficulty": "hard", "intent": "", "knowledge": ""}, "knowledge": "", "difficulty": "easy"}'
    assert rate.parse(nested).value == 40
    two = json.dumps(RATING) + json.dumps(RATING | {"difficulty": "hard"})
    assert rate.parse(two).value == 80


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("easy", "no JSON object"),
        ("{'intent': 'a'}", "no JSON object"),
        ('__import__("os").system("true")', "no JSON object"),
        ('["difficulty"]', "no JSON object"),
        ('{"intent": "a", "difficulty": "easy"}', "the JSON object has no key 'knowledge'"),
        (
            '{"intent": "a", "knowledge": "b", "difficulty": "so-so"}',
            "difficulty 'so-so' is not one of very easy, easy,",
        ),
        ('{"intent": "a", "knowledge": "b", "difficulty": 61}', "difficulty '61' is not one of"),
        ('{"intent": "a", "knowledge": "b", "difficulty": true}', "difficulty 'true' is not one of"),
        ('{"intent": "a", "knowledge": "b", "difficulty": NaN}', "no JSON object"),
        ('{"intent": "a", "knowledge": "b", "difficulty": "easy"', "no JSON object"),
    ],
)
def test_no_rating(reply, reason):
    parsed = rate.parse(reply)
    assert not parsed.ok
    assert parsed.reason.startswith(reason)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("<TOPIC>Algebra</TOPIC>", "Algebra"),
        ("It may be <TOPIC>Geometry</TOPIC>, no: <topic> number theory. </topic>", "Number Theory"),
        ("<TOPIC> **Counting & Probability** </TOPIC>", "Counting and Probability"),
    ],
)
def test_topic(reply, value):
    assert topic.parse(reply) == Parsed(ok=True, raw=reply, value=value)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Algebra", "no <TOPIC>…</TOPIC>"),
        ("<TOPIC>Algebra", "no <TOPIC>…</TOPIC>"),
        ("</TOPIC>Algebra<TOPIC>", "no <TOPIC>…</TOPIC>"),
        ("<TOPIC></TOPIC>", "nothing between <TOPIC> and </TOPIC>"),
        ("<TOPIC>Cooking</TOPIC>", "'Cooking' is not one of the choices"),
    ],
)
def test_no_topic(reply, reason):
    assert topic.parse(reply) == Parsed(ok=False, raw=reply, reason=reason)


def test_text_is_the_whole_reply():
    parsed = answer.parse(" <think>a</think> The answer is \\boxed{3}. \n")
    assert parsed.value == "<think>a</think> The answer is \\boxed{3}."
    assert answer.parse(" \n").reason == "empty reply"


# --- any reply at all ---

scraps = st.sampled_from(
    ["FINAL QUESTION:", "**", "#", "\n", "{", "}", '{"a":', '"', "yes", "No", "\\boxed{", "<TOPIC>", "</TOPIC>"]
    + ["<think>", "</think>", "```", "#Finally Rewritten Problem#:", "Step 4", "(", ")", "\\", "\r\n", "---"]
    + ["Note: ", "\ud800", "\0", "：", "[", "]"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(scraps, st.text(max_size=5)), max_size=30).map("".join))
def test_reading_never_raises_and_says_why_not(reply):
    for each in SHIPPED:
        parsed = each.parse(reply)
        assert parsed.raw == reply
        assert parsed.ok == (parsed.reason is None) == (parsed.value is not None)


HOSTILE = [
    "{", '{"a":', "[", "FINAL QUESTION:", "FINAL QUESTION:\n", "**", " ", "\n", "yes ", "no, ", "<TOPIC>", "</TOPIC>",
    "#", "`", "\\boxed{", "Note: ", "a", "\\", '"', "Step 4 #Finally Rewritten Problem#: x\n", "(", "1. ", "-",
    "Final ", "\n\n---\n", "'", ": ", "{\\",
]  # fmt: skip
ENDINGS = [
    (improve, f"\nFINAL QUESTION: {FINAL}", FINAL),
    (harder, f"\n#Finally Rewritten Problem#: {FINAL}", FINAL),
    (judge, "\nAnswer: No", YesNo.NO),
    (rate, "\n" + json.dumps(RATING), 40),
    (topic, "\n<TOPIC>Algebra</TOPIC>", "Algebra"),
]
SAYING = {("no, ", judge.role): YesNo.NO, ("Step 4 #Finally Rewritten Problem#: x\n", harder.role): "x"}


@pytest.mark.parametrize("size", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_hostile_replies_are_read_in_linear_time_and_what_comes_after_them_is_found(size):
    # No clock is needed: a reader that is quadratic would be at it for hours.
    for scrap in HOSTILE:
        reply = "x" + scrap * (size // len(scrap))
        for each, ending, value in ENDINGS:
            assert each.parse(reply).value == SAYING.get((scrap, each.role)), (scrap, each.role)
            assert each.parse(reply + ending).value == value, (scrap, each.role)
        assert answer.parse(reply).value == reply.strip()


def test_a_long_reply_is_read_to_its_end():
    reasoning = "So x = 3, yes. " * 60_000
    assert judge.parse(reasoning + "\nAnswer: No").value is YesNo.NO
    assert improve.parse(f"CREATED QUESTION: {reasoning}\nFINAL QUESTION: {FINAL}").value == FINAL
    assert rate.parse(reasoning + json.dumps(RATING)).value == 40
