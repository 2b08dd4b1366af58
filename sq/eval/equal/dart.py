"""The dart profile: what DART-Math's evaluator decides, written anew from its rules, for scores beside the paper's.

It is lenient where the strict profile is not (a factor of 100 passes, brackets of pairs do not count) and deaf where
that one hears (mixed numbers, `.5`, `3 < x`). A difference between the two is a finding, not a fault: see
`sq grade --profile strict,dart`. The original reads answers with SymPy and executes some; here our own reader does it,
and nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from math import isclose

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.equal import dart_text, sets
from sq.eval.equal.dart_extract import extract as extract
from sq.eval.equal.dart_read import constant, expression
from sq.eval.equal.identity import same, value_at
from sq.eval.equal.tree import Matrix, Node, Num, Op, ParseError, Rel, Seq, walk
from sq.eval.equal.value import Uncomputable
from sq.eval.grade_status import EqualityResult, GradeStatus

MAX_MEMBERS = 30
_LARGEST = 1.7e308
_ZERO = Num(Fraction(0))
_NUMBERED = ({"0", "False"}, {"1", "True"})
_ARRAY = re.compile(r"\\begin{[a-zA-Z]?(?:matrix|array)}(?:\[lcr\])*?(.*)\\end{[a-zA-Z]?(?:matrix|array)}")


class _UnreadableError(Exception):
    """An answer no reading of which succeeds: the original gives up on the whole comparison."""


def equal(answer: str, reference: str, *, question: str = "") -> EqualityResult:
    """Judge by DART-Math's rules; whatever goes wrong in between is wrong."""
    if not reference.strip():
        return EqualityResult(GradeStatus.UNVERIFIABLE, "the reference is empty")
    if max(len(answer), len(reference)) > dart_text.MAX_LENGTH:
        return EqualityResult(GradeStatus.WRONG, "too long")
    try:
        same = _same(dart_text.spelt(answer, _same), reference, several=_asks_for_all(question))
    except (_UnreadableError, RecursionError) as error:
        return EqualityResult(GradeStatus.WRONG, f"not comparable: {error}")
    return EqualityResult(GradeStatus.CORRECT, "equal") if same else EqualityResult(GradeStatus.WRONG, "not equal")


def _asks_for_all(question: str) -> bool:
    """Whether the question is taken to ask for a set: "find the", or "all" and "separate"."""
    return "ind the" in question or ("all" in question and "separate" in question)


def _same(answer: str, reference: str, *, several: bool = False) -> bool:
    ours, theirs = dart_text.spelt(answer, _same), dart_text.spelt(reference, _same)
    if not ours or not ours.isascii():
        return False
    if ours.lower() == theirs.lower() or {ours, theirs} in _NUMBERED:
        return True
    if several:
        return _same_members(dart_text.members(ours, _same), dart_text.members(theirs, _same))
    x, y = _float(ours), _float(theirs)
    if x is not None and y is not None and (_close(y, x) or _close(x, y)):
        return True
    return _same_readings(ours, theirs)


def _same_members(ours: list[str], theirs: list[str]) -> bool:
    if len(ours) != len(theirs) or len(ours) > MAX_MEMBERS:
        return False
    for one in ours:  # every member of one set is held against those of the other, as its reference
        match = next((other for other in theirs if _same(other, one)), None)
        if match is None:
            return False
        theirs.remove(match)
    return True


def _same_readings(ours: str, theirs: str) -> bool:
    """As intervals, as matrices, as expressions; at least one reading of each must succeed."""
    readings: tuple[tuple[Callable[[str], Node], Callable[[Node, Node], bool]], ...] = (
        (_as_sets, _same_sets), (_as_matrix, _same_cells), (expression, _same_values),
    )  # fmt: skip
    read = {text: _float(text) is not None or _is_python(text) for text in (ours, theirs)}
    for reader, alike in readings:
        values = []
        for text in (ours, theirs):
            try:
                values.append(reader(text))
                read[text] = True
            except (ParseError, ValueError):
                continue
        if len(values) == 2 and alike(*values):
            return True
    if not all(read.values()):
        raise _UnreadableError("an answer is not read as mathematics")
    return False


def _is_python(text: str) -> bool:
    """Whether the original's reader of plain expressions takes it: no LaTeX, one name or one operation at a time."""
    return re.fullmatch(r"[A-Za-z_]\w*|[\w.+\-*/() ,<>]+", text) is not None and "\\" not in text and "^" not in text


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _close(reference: float, answer: float) -> bool:
    """To 1e-9; or a factor of 100 apart to 1e-3, where both may be percentages."""
    if isclose(reference, answer, rel_tol=1e-9, abs_tol=1e-8):
        return True
    shifted = (reference / 100, reference * 100) if _may_be_percent(answer) else ()
    return any(_may_be_percent(r) and isclose(r, answer, rel_tol=1e-3, abs_tol=1e-8) for r in shifted)


def _may_be_percent(value: float) -> bool:
    return 0 < value < 1 or 1 < value < 100


def _same_values(a: Node, b: Node) -> bool:
    """The same for every value of the variables; or two numbers close to one another."""
    if _exact(a, b):
        return True
    x, y = constant(a), constant(b)
    if x is None or y is None:
        return False
    with mp.workdps(30):
        values = [value_at(node, {}) for node in (x, y)]
        if any(v is None or mp.im(v) or abs(v) > _LARGEST for v in values):
            return False
        ours, theirs = (float(mp.re(v)) for v in values)
        return _close(ours, theirs) or _close(theirs, ours)


def _as_sets(text: str) -> Node:
    """An interval, a set of one, or unions and intersections of these."""
    text = text.replace(" ", "")
    for join, op in (("\\cup", "cup"), ("\\cap", "cap")):
        if join in text:
            first, *rest = (_as_sets(part) for part in text.split(join))
            for part in rest:
                first = Op(op, (first, part))
            return first
    for opening, closing in (("\\{", "\\}"), ("{", "}")):
        if text.startswith(opening) and text.endswith(closing):
            return Seq("\\{", "\\}", (expression(text[len(opening) : -len(closing)]),))
    text = text.replace("\\(", "(").replace("\\)", ")").replace("\\[", "[").replace("\\]", "]")
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]"):
        raise ParseError("no interval")
    ends = text[1:-1].split(",")
    if len(ends) != 2:
        raise ParseError("an interval has two ends")
    low, high = (expression(end) for end in ends)
    x, y = (value_at(end, {}) for end in (low, high))
    if x is not None and y is not None and not (mp.im(x) or mp.im(y)) and x >= y:
        raise ParseError("an interval that ends before it starts")
    return Seq(text[0], text[-1], (low, high))


def _same_sets(a: Node, b: Node) -> bool:
    if isinstance(a, Seq) and isinstance(b, Seq):
        brackets = zip((a.left, a.right), (b.left, b.right), a.items, strict=False)
        return _all_exact(a.items, b.items) and all(x == y or _exact(end, _ZERO) for x, y, end in brackets)
    ours, theirs = sets.real_set(a), sets.real_set(b)
    return a == b if ours is None or theirs is None else sets.same_set(ours, theirs)


def _as_matrix(text: str) -> Matrix:
    text = text.replace(" ", "")
    array = _ARRAY.search(text)
    if array:
        rows = [row.split("&") for row in re.split(r"\\+(?!frac|sqrt)", array.group(1))]
    elif "," in text:
        rows = [dart_text.members(text, _same) if dart_text.is_set(text) else dart_text.unbracketed(text).split(",")]
    else:
        raise ParseError("no matrix")
    cells = tuple(tuple(expression(cell) for cell in row) for row in rows)
    if len({len(row) for row in cells}) != 1:
        raise ParseError("rows of unlike length")
    return Matrix((tuple(row[0] for row in cells),)) if len(cells[0]) == 1 else Matrix(cells)


def _same_cells(a: Node, b: Node) -> bool:
    if not (isinstance(a, Matrix) and isinstance(b, Matrix)) or len(a.rows) != len(b.rows):
        return False
    return all(len(x) == len(y) and all(map(_alike, x, y)) for x, y in zip(a.rows, b.rows, strict=True))


def _all_exact(ours: tuple[Node, ...], theirs: tuple[Node, ...]) -> bool:
    return len(ours) == len(theirs) and all(map(_exact, ours, theirs))


def _exact(a: Node, b: Node) -> bool:
    """Whether SymPy would take one from the other and find nothing; sums over k and relations only as they stand."""
    if a == b:
        return True
    if any(isinstance(part, Rel | Matrix) for node in (a, b) for part in walk(node)):
        return False
    try:
        return same(a, b, everywhere=True)
    except Uncomputable:
        return False


def _alike(a: Node, b: Node) -> bool:
    """Whether two cells of a matrix are the same as they stand: SymPy does not simplify there."""
    return a == b or (isinstance(a, Num) and isinstance(b, Num) and a.value == b.value)
