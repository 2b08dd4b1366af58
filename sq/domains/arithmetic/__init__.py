"""Word problems of small numbers with an exact oracle: the world in which every stage's effect can be measured."""

from sq.domains.arithmetic.answers import check, final_answer
from sq.domains.arithmetic.corpus import facts
from sq.domains.arithmetic.domain import ArithmeticConfig, ArithmeticDomain
from sq.domains.arithmetic.families import FAMILIES, Problem, problem
from sq.domains.arithmetic.oracle import QuestionAnalysis, analyse
from sq.domains.arithmetic.splits import split_of
from sq.domains.arithmetic.spoiled_questions import poor, unsolvable
from sq.domains.arithmetic.world import Reason

__all__ = [
    "FAMILIES",
    "ArithmeticConfig",
    "ArithmeticDomain",
    "QuestionAnalysis",
    "Problem",
    "Reason",
    "check",
    "facts",
    "final_answer",
    "analyse",
    "poor",
    "problem",
    "split_of",
    "unsolvable",
]
