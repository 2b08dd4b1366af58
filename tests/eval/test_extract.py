"""Where the final answer of an output is found."""

import pytest

from sq.eval.extract import MAX_OUTPUT, Where, extract, extract_reference
from sq.eval.judge import Pair, judge
from sq.eval.verdict import Verdict

CASES = [
    (r"So it is $\boxed{42}$.", "42", Where.BOXED),
    (r"\boxed{1} is wrong. It is \boxed{2}.", "2", Where.BOXED),
    (r"We get \boxed{\frac{1}{2}}", r"\frac{1}{2}", Where.BOXED),
    (r"\boxed{\text{a {b} c}}", r"\text{a {b} c}", Where.BOXED),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", Where.BOXED),
    (r"\boxed{3} and \boxed{4}", "3, 4", Where.BOXED),
    (r"\boxed{(3, 3)} \text{ for part (a) and } \boxed{(1, 1)}", "(3, 3), (1, 1)", Where.BOXED),
    (r"\boxed{1} no no no no no \boxed{2}", "2", Where.BOXED),
    (r"\boxed{7} So again, the answer is \boxed{7}", "7", Where.BOXED),
    (r"\boxed{5}. Then \boxed{6", "5", Where.BOXED),
    (r"\fbox{9}", "9", Where.BOXED),
    (r"\boxed 7.", "7", Where.BOXED),
    (r"The answer is 3, that is \boxed{4}", "4", Where.BOXED),
    ("He has 2*9 = $<<2*9=18>>18 a day.\n#### 18", "18", Where.HASHES),
    ("#### Step 1: add\n2+2\n#### 4", "4", Where.HASHES),
    ("The answer is 12. #### 13", "13", Where.HASHES),
    ("#### 3\nThat is wrong, so the answer is 5.", "5", Where.PHRASE),
    ("The answer is 3. But wait, that is wrong. The answer is 5.", "5", Where.PHRASE),
    (r"So it is \boxed{7}. I have put the answer in \boxed{}.", "7", Where.BOXED),
    ("She makes $18 every day\nA: 18", "18", Where.PHRASE),
    ("The answer is 15 apples.", "15 apples", Where.PHRASE),
    ("The final answer is $\\frac{3}{4}$. I hope it is correct.", r"$\frac{3}{4}$", Where.PHRASE),
    ("Final Answer: The largest $n$ is 34.", "34", Where.PHRASE),
    ("**Answer:** $x = 3$", "$x = 3$", Where.PHRASE),
    ("Some work.\n\n### Final Answer\n\n42", "42", Where.PHRASE),
    ("So the answer is no solution.", "no solution", Where.PHRASE),
    ("The correct option is (C).", "(C)", Where.PHRASE),
    ("Final Answer: Jane started growing Sphere 3 hours ago.", "3", Where.PHRASE),
    ("So the number is\n\n**73**", "73", Where.BOLD),
    ("Therefore $x > 5$ is the solution.", "x > 5", Where.FORMULA),
    ("The roots are 2 and -3.", "2 and -3", Where.FORMULA),
    ("There are $n$ of them, which makes 12 in all.", "12", Where.NUMBER),
    ("so it costs $1,250.", "$1,250", Where.NUMBER),
    ("which is 3/4 of the whole", "3/4", Where.NUMBER),
    ("It increases by 100%.", "100%", Where.NUMBER),
    ("42", "42", Where.WHOLE),
    ("x = 5", "x = 5", Where.WHOLE),
    ("28 percent", "28 percent", Where.WHOLE),
    ("<think>It may be \\boxed{1}</think> It is \\boxed{2}.", "2", Where.BOXED),
    ("no tag before</think>The answer is 6.", "6", Where.PHRASE),
    ("<answer>8</answer>", "8", Where.WHOLE),
    ("The answer is 4.<|im_end|><|im_start|>user 5", "4", Where.PHRASE),
    ("<think> hmm, 5", "", Where.NOWHERE),
    ("(a) $\\boxed{3}$\n\n(b) $\\boxed{4}$", "3, 4", Where.BOXED),
    ("\x08oxed{7} is a box whose backslash was lost", "7", Where.BOXED),
    ("◁think▷ \\boxed{3} ◁/think▷ The answer is 4.", "4", Where.PHRASE),
    ("<|begin_of_thought|> 3 <|end_of_thought|> It is \\boxed{4}.", "4", Where.BOXED),
    ("The answer is 5.\n\nQuestion: What is 3 + 3?\nAnswer: 6", "5", Where.PHRASE),
    ("所以答案是 42。", "42", Where.PHRASE),
    ("答案：B", "B", Where.PHRASE),
    ("所以，小明一共有 15 个苹果。", "15", Where.NUMBER),
    ("Entonces tiene 12 manzanas. La respuesta final es 12.", "12", Where.PHRASE),
    ("Die Antwort lautet 42.", "42", Where.PHRASE),
    ("La réponse est 42.", "42", Where.PHRASE),
    ("With 12 and 3 we see that C is the correct answer.", "C", Where.PHRASE),
    ("Therefore, option **C** is correct.", "C", Where.PHRASE),
    ("Yes, the triangle is isosceles.", "Yes", Where.WHOLE),
    ("Answer: 3 hours and 20 minutes", "3 hours and 20 minutes", Where.PHRASE),
    ("x = 2\ny = 3", "x = 2, y = 3", Where.WHOLE),
    ("The answer is not 7.", "", Where.NOWHERE),
    ("The answer isn't $7$ apples.", "", Where.NOWHERE),
    ("**Answer:** not 7", "", Where.NOWHERE),
    (r"The answer cannot be \boxed{7}.", "", Where.NOWHERE),
    ("7 is not the answer.", "", Where.NOWHERE),
    ("So (C) is not correct.", "", Where.NOWHERE),
    ("The answer is not 7, it is 8.", "8", Where.PHRASE),
    ("The answer is not A but B.", "B", Where.PHRASE),
    ("The answer is not 7.5. It is 8.", "8", Where.NUMBER),
    ("Therefore the answer is not 7 because 7 is odd. The answer is 8.", "8", Where.PHRASE),
    ("The answer is not unique.", "not unique", Where.PHRASE),
    ("Answer: not possible", "not possible", Where.PHRASE),
    ("La respuesta no es 7, sino 8.", "8", Where.PHRASE),
    ("Die Antwort ist nicht 7.", "", Where.NOWHERE),
    ("La réponse n'est pas 7, mais 8.", "8", Where.PHRASE),
    ("A resposta não é 7.", "", Where.NOWHERE),
    ("Ответ: не 7, а 8.", "8", Where.PHRASE),
    ("答案不是7，而是8。", "8", Where.PHRASE),
    ("答えは7ではありません。", "", Where.NOWHERE),
    ("정답은 7이 아닙니다.", "", Where.NOWHERE),
    ("Die Antwort ist 1.250.", "1.250", Where.PHRASE),
    ("La respuesta es 3,5.", "3,5", Where.PHRASE),
    ("I do not know", "", Where.NOWHERE),
    ("", "", Where.NOWHERE),
]


@pytest.mark.parametrize(("output", "answer", "where"), CASES, ids=[c[0][:40] or "empty" for c in CASES])
def test_extract(output, answer, where):
    found = extract(output)
    assert (found.answer, found.where) == (answer, where)
    assert found.found == (where is not Where.NOWHERE)


def test_what_stands_last_in_a_cut_off_output_is_no_answer():
    text = "Let us compute the first term. " * 30 + "Then we have 12 and so"
    assert extract(text).found
    cut = extract(text, finish_reason="length")
    assert cut.cut_off and not cut.found
    said = {why: judge(Pair(prediction=text, reference="12", finish_reason=why)).verdict for why in ("stop", "length")}
    assert said == {"stop": Verdict.CORRECT, "length": Verdict.UNPARSED}


def test_a_box_in_a_cut_off_output_counts_and_is_marked():
    cut = extract(r"It is \boxed{5}. Let me check:", finish_reason="length")
    assert (cut.answer, cut.cut_off) == ("5", True)


def test_the_end_of_a_long_output_is_what_counts():
    assert extract("x" * (5 * MAX_OUTPUT) + r" \boxed{5}").answer == "5"


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
