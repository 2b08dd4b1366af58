"""The oracle on questions written by hand, among them combinations that the generator does not make."""

from fractions import Fraction

import pytest

from sq.domains.arithmetic import analyse, check, final_answer
from sq.domains.arithmetic.world import Reason

SOLVABLE = [
    # sentences of different families in one story
    ("Tom has 5 apples. Ann has 7 pears. Tom buys 4 more apples. How many apples does Tom have?", "9", 1),
    ("Tom has 12 eggs. There are 30 people on the red bus. He loses 3 eggs. How many eggs does Tom have now?", "9", 1),
    ("The red bus starts with 30 people. Tom has 12 nuts. 4 people get off the red bus. "
     "How many people are on the red bus?", "26", 1),
    ("Tom has 20 dollars. Each of the pens costs 3 dollars. Tom has 5 pens. Tom earns 5 dollars a day for 4 days. "
     "How many dollars does Tom have now?", "40", 2),
    # a quantity that a later sentence states
    ("Tom has 5 more apples than Ben. Ben has 7 apples. How many apples do Tom and Ben have together?", "19", 2),
    ("Ann has twice as many pens as Tom. Tom has 5 more pens than Ben. Ben has 3 pens. How many pens does Ann have?",
     "16", 2),
    ("Ben has 9 hats. Tom has a third as many hats as Ben. Mia has 4 times as many hats as Tom. "
     "How many hats do Ben and Mia have in all?", "21", 3),
    ("One mug costs 4 dollars more than one pen. The price of one pen is 3 dollars. "
     "How many dollars do 2 pens and 3 mugs cost?", "27", 4),
    ("Each of the pens costs 4 dollars. The price of one pen falls by 1 dollar. "
     "How many dollars of 20 are left after Mia pays for 5 pens?", "5", 3),
    ("Tom has 3 boxes of 4 pens. Ann has 2 bags with 6 pens in each. How many pens do Tom and Ann have together?",
     "24", 3),
    ("Ann has 3 pens. Tom has 20 pens. Tom gives 5 pens to Ann. How many pens does Ann have?", "8", 1),
    ("Ann has 3 pens. Tom has 20 pens. Tom gives 5 pens to Ann. How many more pens does Tom have than Ann?", "7", 3),
    ("There are 30 students in the gym. Half of the students leave the gym. "
     "If the students in the gym form teams of 5, how many teams are there?", "3", 3),
    ("There are 24 kids in the hall. 6 kids go from the hall to the zoo. There are 5 more kids in the park than in the "
     "hall. How many kids are in the park?", "23", 2),
    ("The garden is 9 meters long and 5 meters wide. The garden grows wider by 2 meters. "
     "What is the distance around the garden?", "32", 3),
    ("The garden is 5 meters long and 10 meters wide. What is the area of the garden?", "50", 1),
    ("Leo is 10 years old. Eva is 3 years younger than Leo. How old will Eva be in 5 years?", "12", 2),
    ("Eva thinks of the number 6. Eva multiplies by 6. Eva divides by 9. Eva adds 1. What number does Eva get?",
     "5", 3),
    ("Eva thinks of the number 7. Eva divides by 2. What is the number of Eva now?", "7/2", 1),
    ("The red rope is 30 inches long. A third of the red rope is cut off. "
     "If the red rope is cut into pieces of 5 inches, how many pieces are there?", "4", 3),
    ("One cake needs 4 cups of flour. One pie needs twice as much flour as one cake. "
     "How many cups of flour does Ann need for 3 servings of pie?", "24", 2),
    ("Nina earns 6 dollars an hour. How many dollars does Nina earn in 7 hours?",
     "42", 1),
    ("Lily has 30 pages to read. Lily reads 4 pages a day for 5 days. If Lily reads 2 pages a day, how many days does "
     "Lily need?", "5", 3),
    ("There are 9 nuts in the blue drawer. Max moves 4 nuts from the blue drawer to the red drawer. "
     "How many nuts are in the blue drawer?", "5", 1),
    ("Tom has 7 apples. How many apples does Tom have?", "7", 0),
]  # fmt: skip
UNSOLVABLE = [
    ("Tom has some apples. Tom buys 4 more apples. How many apples does Tom have?", Reason.MISSING),
    ("Tom buys 4 more apples. How many apples does Tom have?", Reason.MISSING),
    ("Tom has 4 more apples than Ben. Ben has 2 more apples than Tom. How many apples does Ben have?", Reason.MISSING),
    ("Tom has 4 apples. Tom has 9 apples. How many apples does Tom have?", Reason.CONTRADICTION),
    ("Tom has 4 nuts. Tom buys 2 more nuts. Tom has 9 nuts. How many nuts does Tom have?", Reason.CONTRADICTION),
    ("Tom has 4 more apples than Tom. How many apples does Tom have?", Reason.CONTRADICTION),
    ("The red tank holds 4 liters. 2 liters flow from the red tank to the red tank. "
     "How many liters are in the red tank?", Reason.CONTRADICTION),
    ("Tom has 4 apples. Tom gives 9 apples to Ben. How many apples does Tom have?", Reason.NEGATIVE),
    ("There are -4 kids in the gym. 5 more kids enter the gym. How many kids are in the gym?", Reason.NEGATIVE),
    ("There are 4.5 kids in the gym. 5 more kids enter the gym. How many kids are in the gym?", Reason.FRACTIONAL),
    ("There are 9 kids in the gym. Half of the kids leave the gym. How many kids are in the gym?", Reason.FRACTIONAL),
    ("Tom has 7 eggs. If Tom shares the eggs equally among 2 kids, how many eggs does each kid get?",
     Reason.FRACTIONAL),
    ("Tom has 4 apples. Tom buys 2 more apples.", Reason.NO_QUESTION),
    ("Tom has 4 apples. How many apples does Ann have?", Reason.UNKNOWN),
    ("Tom has 4 apples. How many pears does Tom have?", Reason.UNKNOWN),
    ("Tom has 4 apples. She buys 2 more apples. How many apples does Tom have?", Reason.UNKNOWN),
    ("There are 4 kids in the gym. 5 more kids enter the gym. How many kids are in the zoo?", Reason.UNKNOWN),
    ("The room is 4 meters long and 3 meters wide. What is the area of the garden?", Reason.UNKNOWN),
    ("Tom has 4 apples. How many apples does Tom have? How many apples does Tom have now?", Reason.SEVERAL),
    ("Tom has 4 apples. How many apples does Tom have? Tom buys 2 more apples.", Reason.TRAILING),
    ("Tom has 4 apples. Tom dreams of 2 more apples. How many apples does Tom have?", Reason.UNPARSED),
    ("Tom have 4 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("tom has 4 apples. How many apples does tom have?", Reason.UNPARSED),
    ("Tom has １９ apples. Tom loses 2 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("A buys # more I. How many I does A have?", Reason.UNPARSED),
    ("Tom has 1/0 apples. How many apples does Tom have?", Reason.UNPARSED),
    ("", Reason.EMPTY),
    (" \n\t ", Reason.EMPTY),
    ("Tom has 4 apples. " * 1000, Reason.TOO_LONG),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "steps"), SOLVABLE)
def test_question_written_by_hand(question: str, answer: str, steps: int) -> None:
    found = analyse(question)
    assert (found.solvable, found.answer, found.steps) == (True, Fraction(answer), steps), found
    assert check(final_answer(found.solution or "") or "", answer)


def test_hand_written_questions_that_hang_on_the_order_of_sentences() -> None:
    given_first = "Tom has 20 pens. Tom gives 5 pens to Ann. Ann has 3 pens. How many pens does Tom have?"
    assert (
        analyse(given_first).reason is Reason.CONTRADICTION
    )  # Ann had an unknown number and got 5: it cannot be 3 now
    inverse = "Eva is 7 years old. Eva is 3 years younger than Leo. How old is Leo?"
    assert analyse(inverse).reason is Reason.CONTRADICTION  # the language knows no inverse relations


@pytest.mark.parametrize(("question", "reason"), UNSOLVABLE)
def test_unsolvable_question_written_by_hand(question: str, reason: Reason) -> None:
    found = analyse(question)
    assert (found.solvable, found.reason) == (False, reason), found
    assert found.answer is None and found.solution is None
