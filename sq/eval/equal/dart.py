"""The dart profile: what DART-Math's evaluator does, written anew from its rules, for figures beside the paper's.

It is lenient where the strict profile is not (a factor of 100 passes, brackets of pairs do not count) and deaf where
that one hears (mixed numbers, `.5`, `3 < x`). A difference between the two is a finding, not a fault: see
`sq grade --profile strict,dart`. Nothing is executed here, unlike there.
"""

from __future__ import annotations

import re

from mpmath import mp  # type: ignore[import-untyped]

from sq.eval.boxes import boxed
from sq.eval.equal.compare import Comparison
from sq.eval.equal.identity import same, value_at
from sq.eval.equal.matrices import as_matrix
from sq.eval.equal.normalise import MAX_ANSWER, tidy
from sq.eval.equal.parser import parse
from sq.eval.equal.tree import Node, Num, Op, ParseError, Quantity, Rel, Seq
from sq.eval.equal.value import Uncomputable
from sq.eval.extract import MAX_OUTPUT, Extraction, Where
from sq.eval.verdict import Outcome, Verdict

_MARKERS = ("herefore", "####", "# Answer")
_BEFORE = ("is the ans", "is our ans")
_AFTER = ("answer is", "answer:", "answer :")
_FORMULA = re.compile(r"(?:\$|\\\(|\\\[)([^$]{1,1000}?)(?:\$|\\\)|\\\])")
_NUMBER = re.compile(r"-?\d*\.?\d+", re.ASCII)
_UNITS = re.compile(
    r"\\(?:text|mathrm|mbox|textbf|textrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?|\b(?:degrees?|cm|km|m|ft|inches|feet|miles?|hours?|"
    r"minutes?|dollars?|cents|units?|square|cubic|percent|points?|people|students?|years?|days?)\b"
)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SEVERAL = ("find", "all", "separated")
_PAIR = re.compile(r"[(\[]\s*-?[\d.]+(?:\s*,\s*-?[\d.]+)+\s*[)\]]", re.ASCII)
_MIXED = re.compile(r"(?<![\d.^_{}])(\d+)\s*(?=\\frac)", re.ASCII)


def extract(output: str, *, finish_reason: str | None = None) -> Extraction:
    """The final answer by DART-Math's rules: markers, a box, a phrase, the last formula, the last number."""
    cut = finish_reason == "length"
    text = output[-MAX_OUTPUT:]
    whole = text
    for marker in _MARKERS:
        text = text.rpartition(marker)[2]
    if "oxed{" in text:
        box = boxed(text)
        return Extraction(answer=box or "", where=Where.BOXED if box else Where.NOWHERE, cut_off=cut)
    said = _phrase(text)
    if said is not None:
        return Extraction(answer=said, where=Where.PHRASE, cut_off=cut)
    formulas = _FORMULA.findall(whole)
    if formulas:
        return Extraction(answer=formulas[-1].strip(), where=Where.FORMULA, cut_off=cut)
    numbers = _NUMBER.findall(whole.replace(",", ""))
    if numbers:
        return Extraction(answer=numbers[-1], where=Where.NUMBER, cut_off=cut)
    return Extraction(answer="", where=Where.NOWHERE, cut_off=cut)


def equal(answer: str, reference: str, *, question: str = "") -> Outcome:
    """Judge by DART-Math's rules; whatever goes wrong in between is wrong."""
    if max(len(answer), len(reference)) > MAX_ANSWER:
        return Outcome(Verdict.WRONG, "too long")
    ours, theirs = normalised(answer), normalised(reference)
    if not theirs:
        return Outcome(Verdict.UNVERIFIABLE, "the reference is empty")
    if ours == theirs:
        return Outcome(Verdict.CORRECT, "same text")
    if _truth(ours) is not None and _truth(ours) == _truth(theirs):
        return Outcome(Verdict.CORRECT, "both yes, or both no")
    if _date(ours) is not None and _date(ours) == _date(theirs):
        return Outcome(Verdict.CORRECT, "the same day or month")
    try:
        if _equal_values(ours, theirs, sets=_asks_for_all(question)):
            return Outcome(Verdict.CORRECT, "equal")
    except (ParseError, Uncomputable, RecursionError, ValueError) as error:
        return Outcome(Verdict.WRONG, f"not comparable: {error}")
    return Outcome(Verdict.WRONG, "not equal")


def normalised(text: str) -> str:
    """The text as it is compared: no units, signs of money and percent, outer punctuation or case of words."""
    whole = tidy(text)
    text = whole.replace(r"\usd", "").replace("%", "")
    text = re.sub(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})", "", text)
    inside = re.fullmatch(r"\s*\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}\s*", text)
    text = inside.group(1) if inside else _UNITS.sub("", text)
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name.strip()) <= 2:
        text = value
    text = text.strip(" .,:;!?\n") or whole  # `m` is a unit, but may be all there is
    return re.sub(r"\s+", " ", text.lower() if re.fullmatch(r"[A-Za-z ]+", text) else text)


def _asks_for_all(question: str) -> bool:
    """Whether the question says "find ... all ... separated", in this order."""
    at = 0
    for word in _SEVERAL:
        match = re.compile(rf"\b{word}\b", re.IGNORECASE).search(question, at)
        if match is None:
            return False
        at = match.end()
    return True


def _phrase(text: str) -> str | None:
    """What stands before "is the answer" or behind "answer is"."""
    for marker in _BEFORE:
        if marker in text:
            before = text.rpartition(marker)[0].strip()
            return _undollared(re.split(r"[,.!|]", before)[-1].strip())
    for marker in _AFTER:
        found = text.lower().rfind(marker)
        if found >= 0:
            return _undollared(text[found + len(marker) :].strip())
    return None


def _undollared(text: str) -> str:
    text = text.strip().rstrip(".").strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "$" else text


def _truth(text: str) -> bool | None:
    word = text.lower().strip(" .")
    if word in ("yes", "true", "t", "y"):
        return True
    return False if word in ("no", "false", "f", "0") or word.startswith("no ") else None


def _date(text: str) -> str | None:
    word = text.lower()
    if not re.fullmatch(r"[a-z]{3,9}\.?", word):
        return None
    return next((d for d in _WEEKDAYS if word.startswith(d)), None) or next(
        (m for m in _MONTHS if word.startswith(m) and m != "mar" or word.startswith("march")), None
    )


def _equal_values(ours: str, theirs: str, *, sets: bool) -> bool:
    if _PAIR.fullmatch(ours) and _PAIR.fullmatch(theirs):
        ours, theirs = f"({ours[1:-1]})", f"({theirs[1:-1]})"
    a, b = _read(ours), _read(theirs)
    if sets and isinstance(a, Seq) and isinstance(b, Seq):
        return Comparison()(Seq("", ",", a.items), Seq("", ",", b.items))
    if isinstance(a, Rel) and isinstance(b, Rel):
        return a.ops == b.ops and all(map(_close, a.parts, b.parts))
    return _close(_value_of(a), _value_of(b))


def _value_of(node: Node) -> Node:
    return node.parts[-1] if isinstance(node, Rel) and set(node.ops) <= {"=", "in", "~"} else node


def _close(a: Node, b: Node) -> bool:
    """Item by item for intervals and matrices; floats to 1e-9, or a factor of 100 apart to 1e-3; else symbolically."""
    a, b = (n.value if isinstance(n, Quantity) else n for n in (a, b))
    left, right = _items(a), _items(b)
    if left is not None and right is not None:
        same_ends = not (isinstance(a, Seq) and isinstance(b, Seq) and a.left and b.left) or (a[:2] == b[:2])
        return same_ends and len(left) == len(right) and all(map(_close, left, right))
    with mp.workdps(30):
        x, y = value_at(a, {}), value_at(b, {})
        if x is None or y is None:
            return same(a, b)
        if abs(x - y) <= max(abs(x), abs(y)) * mp.mpf(10) ** -9:
            return True
        if mp.isint(x) and mp.isint(y):
            return False
        return any(abs(x - y * f) <= abs(y * f) * mp.mpf(10) ** -3 for f in (100, mp.mpf(1) / 100)) and not _exact(a, b)


def _items(node: Node) -> tuple[Node, ...] | None:
    if isinstance(node, Seq):
        return node.items
    matrix = as_matrix(node)
    return None if matrix is None else tuple(cell for row in matrix.rows for cell in row)


def _exact(a: Node, b: Node) -> bool:
    """Whether neither is a written decimal, so that no percentage can be meant."""
    return not any(isinstance(n, Num) and n.digits for n in (a, b)) and not any(isinstance(n, Op) for n in (a, b))


def _read(text: str) -> Node:
    return parse(_MIXED.sub(r"\1 \\cdot ", text))
