"""Form: a text of usable length that asks something and does not bring its own solution (ours; paper, section 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sq.core.config import setting
from sq.core.rows import text_problem
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem

ASKING = re.compile(
    r"\?|？|\b(?:what|how|which|when|where|who|why|find|compute|calculate|determine|evaluate|simplify|solve|express|prove"
    r"|show|write|give|state|list|count|estimate|convert|factor|expand|round|graph|name|identify|let|suppose|enter"
    r"|rationali[sz]e|complete|order|arrange|sum|add|subtract|multiply|divide|draw|describe|explain|derive|verify)\b",
    re.IGNORECASE,
)
SOLVED = re.compile(
    r"\\boxed\s*\{|^\s*#{4}\s*-?\d|^\W{0,6}(?:(?:final |correct )?answer|solution|explanation)\W{0,4}:"
    r"|^\W{0,6}step 1\W{0,4}:|\bthe (?:final )?answer is:? \S",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class FormatFilter(FilterConfig):
    """Removes texts that are no question by their form alone."""

    min_chars: int = setting(10, ge=1, help="shortest question")
    max_chars: int = setting(4000, ge=1, help="longest question")
    needs_question: bool = setting(True, help="it must ask or demand something, by a question mark or English words")
    allow_solution: bool = setting(False, help="let texts stand that hold a solution or an answer")

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add well_formed and format_problem; remove what has one."""
        for case in cases:
            if case.reason is None:
                problem = self.problem(case.question)
                case.row |= {"well_formed": problem is None, "format_problem": problem}
                if problem:
                    case.remove("format", problem)
            yield case

    def problem(self, text: str) -> str | None:
        """What is wrong with the form of a question."""
        if defect := text_problem(text):
            return f"the text {defect}"
        length = len(text.strip())
        if not self.min_chars <= length <= self.max_chars:
            return f"{length} characters, outside {self.min_chars} to {self.max_chars}"
        if self.needs_question and not ASKING.search(text):
            return "asks nothing, by the words of English (filters.format.needs_question=false for other languages)"
        if not self.allow_solution and (solved := SOLVED.search(text)):
            return f"holds a solution: {solved[0].strip()[:40]!r}"
        return None
