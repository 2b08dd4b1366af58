"""Small programming tasks with an exact oracle: the world in which the code path can be measured."""

from sq.domains.programs.oracle import Reason, TaskAnalysis, analyse
from sq.domains.programs.problems import Problem, add_steps, fix, poor, problem, unsolvable

__all__ = ["TaskAnalysis", "Problem", "Reason", "add_steps", "analyse", "fix", "poor", "problem", "unsolvable"]
