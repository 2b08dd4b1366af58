"""Where the final answer of an output is found."""

import pytest

from sq.eval import announced, negated_answers
from sq.eval.answer_text import may_mention
from sq.eval.extract import MAX_OUTPUT, AnswerLocation, extract, extract_reference
from sq.eval.grade import Pair, grade_answer
from sq.eval.grade_status import GradeStatus
from sq.eval.negated_answers import without_negated_answers

CASES = [
    (r"So it is $\boxed{42}$.", "42", AnswerLocation.BOXED),
    (r"\boxed{1} is wrong. It is \boxed{2}.", "2", AnswerLocation.BOXED),
    (r"We get \boxed{\frac{1}{2}}", r"\frac{1}{2}", AnswerLocation.BOXED),
    (r"\boxed{\text{a {b} c}}", r"\text{a {b} c}", AnswerLocation.BOXED),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", AnswerLocation.BOXED),
    (r"\boxed{3} and \boxed{4}", "3, 4", AnswerLocation.BOXED),
    (r"\boxed{(3, 3)} \text{ for part (a) and } \boxed{(1, 1)}", "(3, 3), (1, 1)", AnswerLocation.BOXED),
    (r"\boxed{1} no no no no no \boxed{2}", "2", AnswerLocation.BOXED),
    (r"\boxed{7} So again, the answer is \boxed{7}", "7", AnswerLocation.BOXED),
    (r"\boxed{5}. Then \boxed{6", "5", AnswerLocation.BOXED),
    (r"\fbox{9}", "9", AnswerLocation.BOXED),
    (r"\boxed 7.", "7", AnswerLocation.BOXED),
    (r"The answer is 3, that is \boxed{4}", "4", AnswerLocation.BOXED),
    ("He has 2*9 = $<<2*9=18>>18 a day.\n#### 18", "18", AnswerLocation.HASHES),
    ("#### Step 1: add\n2+2\n#### 4", "4", AnswerLocation.HASHES),
    ("The answer is 15.\n\n#### Verification\n3*5=15", "15.", AnswerLocation.PHRASE),
    ("#### Conclusion\nJohn pays **15** dollars.", "15", AnswerLocation.NUMBER),
    ("#### 2. Total\n12+3=15 dollars", "15", AnswerLocation.NUMBER),
    ("#### 最终答案\n15", "15", AnswerLocation.NUMBER),
    ("#### Day 1\nHe ran 3.\n#### Day 2\nHe ran 4. In total he ran 7.", "7", AnswerLocation.NUMBER),
    ("#### 18 apples\nThat is all.", "18 apples", AnswerLocation.HASHES),
    ("#### False\nThat is all.", "False", AnswerLocation.HASHES),
    ("#### Paris", "Paris", AnswerLocation.HASHES),
    ("The answer is 12. #### 13", "13", AnswerLocation.HASHES),
    ("#### 3\nThat is wrong, so the answer is 5.", "5", AnswerLocation.PHRASE),
    ("The answer is 3. But wait, that is wrong. The answer is 5.", "5", AnswerLocation.PHRASE),
    (r"So it is \boxed{7}. I have put the answer in \boxed{}.", "7", AnswerLocation.BOXED),
    ("She makes $18 every day\nA: 18", "18", AnswerLocation.PHRASE),
    ("The answer is 15 apples.", "15 apples", AnswerLocation.PHRASE),
    ("The final answer is $\\frac{3}{4}$. I hope it is correct.", r"$\frac{3}{4}$", AnswerLocation.PHRASE),
    ("Final Answer: The largest $n$ is 34.", "34", AnswerLocation.PHRASE),
    ("**Answer:** $x = 3$", "$x = 3$", AnswerLocation.PHRASE),
    ("Some work.\n\n### Final Answer\n\n42", "42", AnswerLocation.PHRASE),
    ("【答案】A\n【解析】3>2，所以 B 不对", "A", AnswerLocation.PHRASE),
    ("So the answer is no solution.", "no solution", AnswerLocation.PHRASE),
    ("The correct option is (C).", "(C)", AnswerLocation.PHRASE),
    ("Final Answer: Jane started growing Sphere 3 hours ago.", "3", AnswerLocation.PHRASE),
    ("So the number is\n\n**73**", "73", AnswerLocation.BOLD),
    ("Therefore $x > 5$ is the solution.", "x > 5", AnswerLocation.FORMULA),
    ("The roots are 2 and -3.", "2 and -3", AnswerLocation.FORMULA),
    ("The solutions are:\n- $x=2$\n- $x=-3$", "$x=2$, $x=-3$", AnswerLocation.FORMULA),
    ("**The roots are:**\n\n1. **2** (from the first)\n2. **-3**.\n", "2, -3", AnswerLocation.FORMULA),
    ("The values are:\n- $a=2$\n- $b=3$\nSo it is $5$.", "5", AnswerLocation.FORMULA),
    ("There are $n$ of them, which makes 12 in all.", "12", AnswerLocation.NUMBER),
    ("so it costs $1,250.", "$1,250", AnswerLocation.NUMBER),
    ("which is 3/4 of the whole", "3/4", AnswerLocation.NUMBER),
    ("It increases by 100%.", "100%", AnswerLocation.NUMBER),
    ("42", "42", AnswerLocation.WHOLE),
    ("x = 5", "x = 5", AnswerLocation.WHOLE),
    ("28 percent", "28 percent", AnswerLocation.WHOLE),
    ("<think>It may be \\boxed{1}</think> It is \\boxed{2}.", "2", AnswerLocation.BOXED),
    ("no tag before</think>The answer is 6.", "6", AnswerLocation.PHRASE),
    ("<answer>8</answer>", "8", AnswerLocation.WHOLE),
    ("The answer is 4.<|im_end|><|im_start|>user 5", "4", AnswerLocation.PHRASE),
    ("<think> hmm, 5", "", AnswerLocation.NOWHERE),
    ("(a) $\\boxed{3}$\n\n(b) $\\boxed{4}$", "3, 4", AnswerLocation.BOXED),
    ("\x08oxed{7} is a box whose backslash was lost", "7", AnswerLocation.BOXED),
    ("◁think▷ \\boxed{3} ◁/think▷ The answer is 4.", "4", AnswerLocation.PHRASE),
    ("<|begin_of_thought|> 3 <|end_of_thought|> It is \\boxed{4}.", "4", AnswerLocation.BOXED),
    ("The answer is 5.\n\nQuestion: What is 3 + 3?\nAnswer: 6", "5", AnswerLocation.PHRASE),
    ("所以答案是 42。", "42", AnswerLocation.PHRASE),
    ("答案：B", "B", AnswerLocation.PHRASE),
    ("所以，小明一共有 15 个苹果。", "15", AnswerLocation.NUMBER),
    ("Entonces tiene 12 manzanas. La respuesta final es 12.", "12", AnswerLocation.PHRASE),
    ("Die Antwort lautet 42.", "42", AnswerLocation.PHRASE),
    ("La réponse est 42.", "42", AnswerLocation.PHRASE),
    ("With 12 and 3 we see that C is the correct answer.", "C", AnswerLocation.PHRASE),
    ("Therefore, option **C** is correct.", "C", AnswerLocation.PHRASE),
    ("Yes, the triangle is isosceles.", "Yes", AnswerLocation.WHOLE),
    ("Answer: 3 hours and 20 minutes", "3 hours and 20 minutes", AnswerLocation.PHRASE),
    ("x = 2\ny = 3", "x = 2, y = 3", AnswerLocation.WHOLE),
    ("The answer is not 7.", "", AnswerLocation.NOWHERE),
    ("The answer isn't $7$ apples.", "", AnswerLocation.NOWHERE),
    ("**Answer:** not 7", "", AnswerLocation.NOWHERE),
    (r"The answer cannot be \boxed{7}.", "", AnswerLocation.NOWHERE),
    ("7 is not the answer.", "", AnswerLocation.NOWHERE),
    ("So (C) is not correct.", "", AnswerLocation.NOWHERE),
    ("The answer is not 7, it is 8.", "8", AnswerLocation.PHRASE),
    ("The answer is not A but B.", "B", AnswerLocation.PHRASE),
    ("The answer is not 7.5. It is 8.", "8", AnswerLocation.NUMBER),
    ("Therefore the answer is not 7 because 7 is odd. The answer is 8.", "8", AnswerLocation.PHRASE),
    ("The answer is not unique.", "not unique", AnswerLocation.PHRASE),
    ("Answer: not possible", "not possible", AnswerLocation.PHRASE),
    ("La respuesta no es 7, sino 8.", "8", AnswerLocation.PHRASE),
    ("Die Antwort ist nicht 7.", "", AnswerLocation.NOWHERE),
    ("La réponse n'est pas 7, mais 8.", "8", AnswerLocation.PHRASE),
    ("A resposta não é 7.", "", AnswerLocation.NOWHERE),
    ("Ответ: не 7, а 8.", "8", AnswerLocation.PHRASE),
    ("答案不是7，而是8。", "8", AnswerLocation.PHRASE),
    ("答えは7ではありません。", "", AnswerLocation.NOWHERE),
    ("정답은 7이 아닙니다.", "", AnswerLocation.NOWHERE),
    ("Die Antwort ist 1.250.", "1.250", AnswerLocation.PHRASE),
    ("La respuesta es 3,5.", "3,5", AnswerLocation.PHRASE),
    ("I do not know", "", AnswerLocation.NOWHERE),
    ("", "", AnswerLocation.NOWHERE),
]


@pytest.mark.parametrize(("output", "answer", "where"), CASES, ids=[c[0][:40] or "empty" for c in CASES])
def test_extract(output, answer, where):
    found = extract(output)
    assert (found.answer, found.location) == (answer, where)
    assert found.has_answer == (where is not AnswerLocation.NOWHERE)


def test_what_stands_last_in_a_cut_off_output_is_no_answer():
    text = "Let us compute the first term. " * 30 + "Then we have 12 and so"
    assert extract(text).has_answer
    cut = extract(text, finish_reason="length")
    assert not cut.has_answer
    said = {
        why: grade_answer(Pair(prediction=text, reference="12", finish_reason=why)).status for why in ("stop", "length")
    }
    assert said == {"stop": GradeStatus.CORRECT, "length": GradeStatus.UNPARSED}


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (r"It is \boxed{5}. Let me check:", "5"),
        (r"It is \boxed{5}", "5"),
        (r"It is \boxed 5", ""),
        (r"It is \boxed{5}. The final answer is 1", "5"),
        (r"It is \boxed{5} or \boxed{", ""),
        ("The answer is $x=12$ or\n$x=", ""),
        ("#### 12", ""),
        ("#### 12\n", "12"),
        ("The answer is 12", ""),
        ("The answer is 12.", ""),
        ("The answer is $12$", ""),
        ("The answer is 12. We", "12"),
        ("The answer is 3. No, wait. The answer is 5", ""),
        ("The answer is:\n12", ""),
        ("The answer is $$x=\n12", ""),
        ("The answer is \\[x=\n12", ""),
        ("12", ""),
        ("First 2 * 6 = 12. Then we add", ""),
        ("Then 3", ""),
        ("so it is **12**", ""),
        ("答案是5。因", "5"),
    ],
)
def test_only_what_was_finished_before_the_cut_is_an_answer(output, answer):
    assert extract(output, finish_reason="length").answer == answer
    assert not (answer == "" and grade_answer(Pair(prediction=output, reference="12", finish_reason="length")).correct)


def test_the_end_of_a_long_output_is_what_counts():
    assert extract("x" * (5 * MAX_OUTPUT) + r" \boxed{5}").answer == "5"


@pytest.mark.parametrize("shift", [0, 4])  # the closing mark lies across the start of what is looked at
def test_the_marks_of_reasoning_count_in_a_long_output_too(shift):
    reasoning = "<think>" + "well " * (MAX_OUTPUT // 5)
    assert not extract(reasoning + r"so \boxed{5} maybe. Wait").has_answer
    ended = reasoning + "</think>" + r"\boxed{5}".rjust(MAX_OUTPUT - shift)
    assert extract(ended).answer == "5"


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Therefore $x=\\boxed{3}$.", "3"),
        ("2+2 = <<2+2=4>>4\n#### 4", "4"),
        ("  $\\frac12$ ", r"$\frac12$"),
        (r"\boxed{W(n) = 1 \text{ and } W(n) = -1", r"W(n) = 1 \text{ and } W(n) = -1"),
    ],
)
def test_extract_reference(reference, answer):
    assert extract_reference(reference) == answer


NEGATED = (
    "The answer is not 7.", "THE ANSWER ISN'T (B)", "so 12 is not the answer!", "choice B are not correct.",
    "the result can not equal \\frac{1}{2}", "The solution won't be $x=3$", "the answer is neither 3", "answer ≠ 4",
    "answer \\neq 4", "the anſwer İs not 5", "option $3$ isn’t right.",
    "La respuesta final no es 7, sino 8",
    "Die Antwort lautet nicht 7", "La reponse n'est pas 7", "La réponse n’est pas 7", "A resposta não é 7",
    "La risposta non è 7", "Ответ: не 7", "答案不是 7", "答えは 7 ではない。", "정답은 7 이 아니다.",
    "Answer:** not 7", "the answer to this problem is certainly not 7",
)  # fmt: skip


@pytest.mark.parametrize("text", NEGATED)
def test_the_quick_look_for_negations_sees_all_that_the_pattern_does(text):
    assert negated_answers._REFUSED.search(text), "no negation, so this case tests nothing"
    for case in (text, text.upper(), f"Let $x = 2$.\n{text}\nHence 9."):
        assert without_negated_answers(case) == negated_answers._REFUSED.sub(
            lambda match: "The answer is " if match.group("but") else " ", case
        )


@pytest.mark.parametrize("text", ["It is not 7.", "Not (A)", "That can't be $7$", "IT ISN'T 7", "那么 it is not 7"])
def test_what_it_is_not_is_no_answer_at_the_end_alone(text):
    assert "7" not in without_negated_answers(text) and "(A)" not in without_negated_answers(text)
    later = f"{text} Hence 9."
    assert without_negated_answers(later) == later


@pytest.mark.parametrize(
    ("pattern", "words", "texts"),
    [
        (announced._PHRASE, announced._PHRASE_WORDS,
         ("A: 5", "so\nA: 5", "FINAL ANSWER: 3", "correct option is B", "Correct Choice: B", "The result was 4",
          "the anſwer is 4", "Solution set = {1}")),
        (announced._FOREIGN, announced._FOREIGN_WORDS,
         ("答案是 5", "ответ: 5", "La RESPUESTA es 5", "Antwort: 5", "reponse est 5", "Réponse: 5", "resposta: 5",
          "risposta: 5", "정답은 5")),
        (announced._HEADING, announced._HEADING_WORDS, ("### Final Answer\n5", "**Result**\n5")),
    ],
)  # fmt: skip
def test_the_quick_look_for_announcements_sees_all_that_the_patterns_do(pattern, words, texts):
    for text in texts:
        assert pattern.search(text), "nothing is announced, so this case tests nothing"
        assert may_mention(text, words)
    assert not may_mention("We add 2 and 3 to get 5.", words)
