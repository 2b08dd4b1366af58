"""The oracle on questions written by hand, among them combinations that no template makes."""

from fractions import Fraction

import pytest

from sq.domains.arithmetic import analyse, check, final_answer
from sq.domains.arithmetic.world import Reason

SOLVABLE = [
    # sentences of different families in one story, which no template combines
    ("Tom has 5 apples. Ann has 7 pears. Tom buys 4 more apples. How many apples does Tom have?", "9", 1),
    ("Tom has 12 apples. A bus has 30 people on it. He loses 3 apples. How many apples does Tom have now?", "9", 1),
    ("A bus has 30 people on it. Tom has 12 apples. 4 people get off. How many people are on the bus?", "26", 1),
    ("Tom has 5 more apples than Ben. Ben has 7 apples. How many apples do Tom and Ben have together?", "19", 2),
    (
        "Ann has twice as many pens as Tom. Tom has 5 more pens than Ben. Ben has 3 pens. How many pens does Ann have?",
        "16",
        2,
    ),
    (
        "Ben has 9 hats. Tom has a third as many hats as Ben. Mia has 4 times as many hats as Tom. "
        "How many hats do Ben, Tom and Mia have in all?",
        "24",
        4,
    ),
    (
        "Tom has $40. Each pen costs $3. Tom buys 6 pens. Tom earns $5 an hour for 4 hours. "
        "How much money does Tom have now?",
        "42",
        4,
    ),
    (
        "Tom has $40. Each pen costs $3. A ball costs $4 more than a pen. How much do 2 pens and 3 balls cost in all?",
        "27",
        4,
    ),
    (
        "A ball costs twice as much as a pen. Each pen costs $4. Mia buys 1 ball. She pays with $10. "
        "How much change does Mia get?",
        "2",
        2,
    ),
    ("Mia pays $12 for 4 pens. The price of a pen goes up by $2. How much do 3 pens cost?", "15", 3),
    (
        "Tom has 3 boxes of 4 pens. Ann has 2 bags with 6 pens in each. How many pens do Tom and Ann have together?",
        "24",
        3,
    ),
    ("Ann has 3 pens. Tom has 20 pens. Tom gives 5 pens to Ann. How many pens does Ann have?", "8", 1),
    ("Ann has 3 pens. Tom has 20 pens. Tom gives Ann 5 pens. How many more pens does Tom have than Ann?", "7", 3),
    (
        "There are 30 students in the gym. Half of the students leave. The students form teams of 5. "
        "How many teams are there?",
        "3",
        3,
    ),
    (
        "There are 24 students in the hall. A third of the students are girls and the rest are boys. "
        "How many of the students are boys?",
        "16",
        2,
    ),
    ("There are 20 kids in the zoo. Three quarters of the kids go home. How many kids are left?", "5", 3),
    (
        "A garden is 9 meters long. Its width is 4 meters less than its length. What is the perimeter of the garden?",
        "28",
        3,
    ),
    (
        "A garden is 5 meters wide. Its length is twice its width. What is the area of the garden in square meters?",
        "50",
        2,
    ),
    (
        "A square yard has sides of 4 meters. A fence costs $2 for each meter. "
        "How much does a fence around the yard cost?",
        "32",
        3,
    ),
    (
        "A pizza is cut into 8 slices. Tom eats 1 slice. Ann eats 2 more slices than Tom. "
        "What fraction of the pizza is left?",
        "1/2",
        4,
    ),
    (
        "A bag holds 2 red beads and 3 blue beads. There are also 1 green bead. What fraction of the beads are red?",
        "1/3",
        3,
    ),
    ("Leo is 10 years old. Eva is 3 years younger than Leo. How old will Eva be in 5 years?", "12", 2),
    ("Leo is 10 years old. Eva is half as old as Leo. What is the average age of Leo and Eva?", "15/2", 3),
    (
        "A trip is 60 miles long. Sue drives at 10 miles an hour for 4 hours. "
        "At 5 miles an hour, how many hours does the rest take?",
        "4",
        3,
    ),
    ("Sue runs 3 miles on Monday and 4 miles on Tuesday. Sue rides 5 miles. How far does Sue go in all?", "12", 2),
    ("Sue runs 3 miles on Monday and 4 miles on Tuesday. Sue rides 5 miles. How many miles does Sue run?", "7", 1),
    ("The temperature is 3 degrees. It falls by 5 degrees. What is the temperature now?", "-2", 1),
    (
        "Max thinks of the number 6. Max multiplies by 6. Max divides by 9. Max adds 1. What number does Max get?",
        "5",
        3,
    ),
    (
        "One batch needs 2 cups of flour and 1 cup of sugar. Kim bakes 5 batches. "
        "How many cups of flour and sugar does Kim need in all?",
        "15",
        3,
    ),
    ("For every 2 apples, Tom has 3 pears. Tom has 8 apples. How many pears does Tom have?", "12", 2),
    (
        "A rope is 30 meters long. Ian cuts off a third of the rope. Ian cuts the rope into 4 equal pieces. "
        "How long is each piece?",
        "5",
        3,
    ),
    (
        "The dog weighs 40 pounds. The goat weighs a quarter as much as the dog. The goat gains 2 pounds. "
        "How much more does the dog weigh than the goat?",
        "28",
        3,
    ),
    (
        "Pam spends 20 minutes on chess. Pam spends twice as long on piano as on chess. "
        "How many minutes does Pam spend in all?",
        "60",
        2,
    ),
    ("Tom has 7 apples. How many apples does Tom have?", "7", 0),
    (
        "Tom makes 5 more hats than Ben. Ben makes 4 hats on Monday. Ben makes 6 hats on Tuesday. "
        "How many hats does Tom make?",
        "15",
        2,
    ),
]
UNSOLVABLE = [
    ("Tom has some apples. Tom buys 4 more apples. How many apples does Tom have?", Reason.MISSING),
    ("Tom buys 4 more apples. How many apples does Tom have?", Reason.MISSING),
    ("Tom has 4 more apples than Ben. Ben has 2 more apples than Tom. How many apples does Ben have?", Reason.MISSING),
    ("Tom has 4 apples. Tom has 9 apples. How many apples does Tom have?", Reason.CONTRADICTION),
    (
        "Tom has 4 apples. Tom buys 2 more apples. Tom has 9 apples. How many apples does Tom have?",
        Reason.CONTRADICTION,
    ),
    ("Tom has 4 apples. Tom gives 9 apples to Ben. How many apples does Tom have left?", Reason.NEGATIVE),
    ("There are -4 students in the gym. 5 more students join. How many students are in the gym now?", Reason.NEGATIVE),
    (
        "There are 4.5 students in the gym. 5 more students join. How many students are in the gym now?",
        Reason.FRACTIONAL,
    ),
    ("There are 9 students in the gym. Half of the students leave. How many students are left?", Reason.FRACTIONAL),
    (
        "Tom has 7 apples. He shares the apples equally among 2 kids. How many apples does each kid get?",
        Reason.FRACTIONAL,
    ),
    ("Tom has 4 apples. Tom buys 2 more apples.", Reason.NO_QUESTION),
    ("Tom has 4 apples. How many apples does Ann have?", Reason.UNKNOWN),
    ("Tom has 4 apples. How many pears does Tom have?", Reason.UNKNOWN),
    ("Tom has 4 apples. She buys 2 more apples. How many apples does Tom have?", Reason.UNKNOWN),
    ("There are 4 students in the gym. 5 more students join. How many students are in the zoo now?", Reason.UNKNOWN),
    ("A room is 4 meters long and 3 meters wide. What is the area of the garden?", Reason.UNKNOWN),
    ("Tom has 4 apples. How many apples does Tom have? How many apples does Tom have now?", Reason.SEVERAL),
    ("Tom has 4 apples. How many apples does Tom have? Tom buys 2 more apples.", Reason.TRAILING),
    ("Tom has 9 pens. Tom eats 2 pens. How many pens does Tom have left?", Reason.NONSENSE),
    ("Tom has 4 apples. Tom dreams of 2 more apples. How many apples does Tom have?", Reason.UNPARSED),
    ("Tom have 4 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("tom has 4 apples. How many apples does tom have?", Reason.UNPARSED),
    ("Tom has １９ apples. Tom loses 2 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("A buys # more I. How many I does A have?", Reason.UNPARSED),
    ("Tom has 1/0 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("", Reason.EMPTY),
    (" \n\t ", Reason.EMPTY),
    ("Tom has 4 apples. " * 1000, Reason.TOO_LONG),
]


@pytest.mark.parametrize(("question", "answer", "steps"), SOLVABLE)
def test_question_written_by_hand(question: str, answer: str, steps: int) -> None:
    found = analyse(question)
    assert (found.solvable, found.answer, found.steps) == (True, Fraction(answer), steps), found
    assert check(final_answer(found.solution or "") or "", answer)


def test_hand_written_questions_that_hang_on_the_order_of_sentences() -> None:
    given_first = "Tom has 20 pens. Tom gives 5 pens to Ann. Ann has 3 pens. How many pens does Tom have left?"
    assert (
        analyse(given_first).reason is Reason.CONTRADICTION
    )  # Ann had an unknown number and got 5: it cannot be 3 now
    assert analyse("Three quarters of the students leave. How many students are left?").reason is Reason.MISSING
    inverse = "Eva is 7 years old. Eva is 3 years younger than Leo. How old is Leo?"
    assert analyse(inverse).reason is Reason.CONTRADICTION  # the language knows no inverse relations


@pytest.mark.parametrize(("question", "reason"), UNSOLVABLE)
def test_unsolvable_question_written_by_hand(question: str, reason: Reason) -> None:
    found = analyse(question)
    assert (found.solvable, found.reason) == (False, reason), found
    assert found.answer is None and found.solution is None
