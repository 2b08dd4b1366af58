"""Small programming tasks with an exact oracle: the world in which the code path can be measured."""

from sq.domains.programs.oracle import Judgement, Reason, judge
from sq.domains.programs.problems import Problem, add_steps, mend, poor, problem, unsolvable

__all__ = ["Judgement", "Problem", "Reason", "add_steps", "judge", "mend", "poor", "problem", "unsolvable"]
