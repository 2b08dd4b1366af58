"""Answers in words: choices, yes and no, no solution, names; and prose, compared letter by letter or not at all.

A sentence is never graded by the last expression in it: `the maximum is at x = 2` is not answered by `2`.
"""

from __future__ import annotations

import re

from sq.eval.equal.normalise import words

_STOP = frozenset(
    "the is are was were be been of at to with when where whenever if so not we by that then than for has have had it "
    "its this these those there can cannot will would should which such because since only from as "
    "thus hence therefore let they on but into also must may exactly let's does do did no yes he she his "
    "her".split()
)
_SAME = {
    "none": (
        "no solution", "no solutions", "no real solution", "no real solutions", "none", "no answer", "empty set",
        "the empty set", "no such", "there is no solution", "there are no solutions", "no solution exists",
        "no solutions exist", "no real roots", "no roots", "no real zeros",
        "emptyset", "inconsistent", "no domain",
    ),
    "undefined": ("undefined", "does not exist", "dne", "not defined", "is undefined", "doesn t exist",
        "the limit does not exist", "limit does not exist", "it does not exist",
    ),
    "infinity": ("infinity", "infinite", "infty", "positive infinity", "+infty", "+ infty"),
    "reals": (
        "all real numbers", "all reals", "r", "mathbb r", "the set of all real numbers", "real numbers",
        "( - infty infty )",
    ),
    "many": ("infinitely many", "infinitely many solutions", "infinite solutions", "infinite number of solutions"),
    "diverges": ("diverges", "divergent", "the series diverges", "diverge", "it diverges"),
    "converges": ("converges", "convergent", "the series converges", "converge", "it converges"),
    "yes": ("yes", "yes it is", "yes it does"),
    "no": ("no", "no it is not", "no it does not"),
    "true": ("true", "t r u e"),
    "false": ("false",),
    "impossible": ("impossible", "not possible", "it is impossible", "it is not possible"),
}  # fmt: skip
_GROUP = {phrase: group for group, phrases in _SAME.items() for phrase in phrases}
_MONTHS = {
    m[:3]: n
    for n, m in enumerate(
        ("january february march april may june july august september october november december").split(), 1
    )
}
_KINDS = frozenset("triangle function number sequence series angle polygon event variable".split())
"""Nouns that an adjective implies: `isosceles` is `isosceles triangle`."""
_LETTERS = re.compile(r"\(?[A-H]\)?(?:(?:\s*[,;&和]\s*|\s+and\s+|\s*,\s*and\s+|)\(?[A-H]\)?){1,7}", re.ASCII)
_LABELLED = re.compile(r"([A-Z][a-z]{2,9}) ([A-Z]|\d{1,2})", re.ASCII)
_ITEM = re.compile(r"([A-Za-z][A-Za-z' -]{1,24}):\s*([^\s:][^:]*)", re.ASCII)
_NO_LABEL = frozenset("negative minus plus not non about over under than half exactly nearly sin cos tan log".split())
_FIGURE = re.compile(r"\\(?:overline|angle|triangle|overleftrightarrow|odot|text|mathrm)\s*|[{}\s]")
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\w{2})")
_TEXT_WRAP = re.compile(r"\\(?:text|mathrm|mathbf|operatorname|mathsf|mathit|textbf)\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\(?\s*([A-Ja-j])\s*\)?\s*[.:)]?", re.ASCII)
_ALONE = (
    r"(?!\s*(?:[,/&]|\b(?:or|and|nor)\b)\s*(?:(?:option|choice)\s)?\(?(?-i:[A-J])\b(?!\s[a-z])|"
    r"\s+(?:is|are|fails?\b)(?!\s+(?:correct|right)))"
)
"""Behind a choice: no other one, and nothing that is said of it."""
_CHOICE_AND_MORE = re.compile(
    rf"(?:(?:option|choice|answer)\s*:?\s*)?(?:\(\s*([A-J])\s*\)|([A-J])\s*[.:)]){_ALONE}(?:\s*\S.*)?|"
    rf"(?:option|choice)\s+\(?([A-J])\b\)?{_ALONE}.*",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_LETTER_AND_VALUE = re.compile(rf"\(?([A-J])\){_ALONE}\s*[.:]?\s*(\S.*)", re.ASCII | re.DOTALL)
_MARKED = re.compile(r"\(?\s*\b[A-Ja-j]\s*\)|\\text|\\mathrm|\\textbf|option|choice", re.ASCII | re.IGNORECASE)
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DATE_LIKE = re.compile(rf"{_MONTH}[a-z]*\.?\s+\d|\d(?:st|nd|rd|th)?(?: of)?\s+{_MONTH}", re.IGNORECASE)
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATE_DAY = re.compile(rf"(?:(?:the )?{_DAY}(?: of)? ([a-z]{{3,9}})|([a-z]{{3,9}})\.? {_DAY})(?:,? (\d{{4}}))?")


def unwrap(text: str) -> str:
    r"""Without `\text{}` and font commands."""
    return _TEXT_WRAP.sub(lambda m: f" {m.group(1)} ", text)


def is_prose(text: str) -> bool:
    """Whether an answer is a sentence rather than mathematics: it has words such as "the" and "is"."""
    plain = re.sub(r"\\[A-Za-z]+", " ", unwrap(text))
    return any(
        w.lower() in _STOP for w in re.findall(r"(?<![A-Za-z0-9_^{}\\|])[A-Za-z']{2,}(?![A-Za-z0-9_^{}(|])", plain)
    )


def is_words(text: str) -> bool:
    """Whether an answer has letters and no mathematics at all."""
    plain = unwrap(text).strip()
    if re.fullmatch(r"\(?[A-Za-z]{1,2}\)?", plain) and plain.lower() != "no":
        return False
    letters = plain.replace(" ", "")
    if (
        len(letters) <= 4
        and letters.islower()
        and len(set(letters)) == len(letters)
        and not set(letters) & set("eiou")
        and " " not in plain
    ):
        return False  # a product of variables, such as abc or xyz
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z'\- ,.?!]*", plain)) and bool(re.search(r"[A-Za-z]{3}|^[Nn]o$", plain))


def same_words(prediction: str, reference: str) -> bool:
    """Whether two phrases say the same: letter by letter, or by a short list of phrases that mean one thing."""
    listed = [words(unwrap(t)).removesuffix(" only") for t in (prediction, reference)]
    left, right = (t.replace(" ,", "") for t in listed)
    group = _GROUP.get(right)
    if group is not None and _GROUP.get(left) == group:
        return True
    if {left, right} in ({"t", "true"}, {"f", "false"}):
        return True
    worded = is_words(reference) or is_prose(reference) or _DATE_LIKE.search(reference)
    if not left or not worded:
        return False
    if _bare(left) == _bare(right) or _names(listed[0]) == _names(listed[1]) != []:
        return True
    date = _date(right)
    return date is not None and _date(left) == date


def same_label(prediction: str, reference: str) -> bool:
    """Whether one side adds what kind of thing is named: `Plan B` is B, `Team 1` is 1."""
    short, long = sorted((unwrap(t).strip() for t in (prediction, reference)), key=len)
    match = _LABELLED.fullmatch(long)
    return match is not None and match.group(1).lower() not in _NO_LABEL and match.group(2) == short


def without_labels(prediction: str, reference: str) -> tuple[str, str]:
    """`slope: 2, intercept: 3` as a tuple, its items in the order of the labels of the other where that has them."""
    ours, theirs = _labels(prediction), _labels(reference)
    if theirs and ours and set(ours) == set(theirs):
        ours = {name: ours[name] for name in theirs}
    elif ours and theirs:
        return prediction, reference
    tuples = [f"({', '.join(values.values())})" if values else "" for values in (ours, theirs)]
    return tuples[0] or prediction, tuples[1] or reference


def _labels(text: str) -> dict[str, str]:
    if ":" not in text or len(text) > 300:
        return {}
    items = [_ITEM.fullmatch(item.strip()) for item in re.split(r"[,;](?!\d{3})|\band\b", unwrap(text))]
    labelled = {m.group(1).strip().lower(): m.group(2).strip() for m in items if m}
    return labelled if len(items) > 1 and len(labelled) == len(items) else {}


def same_figure(prediction: str, reference: str) -> bool:
    """Whether one names a segment, angle or triangle with its sign and the other by its letters alone."""
    ours, theirs = (_FIGURE.sub("", t) for t in (prediction, reference))
    bare = any(re.fullmatch(r"[A-Z]{2,4}", t, re.ASCII) for t in (prediction, reference))
    return bare and ours == theirs


def empty_answer(text: str) -> bool:
    """Whether the answer says that there is none."""
    return _GROUP.get(words(unwrap(text))) == "none" or text.replace(" ", "") in (r"\emptyset", r"\{\}", "{}")


def choice(text: str) -> str | None:
    """The letter where the answer is one choice: `B`, `(B)`, `\\text{B}.`"""
    match = _CHOICE.fullmatch(unwrap(text).strip())
    return match.group(1) if match else None


def leading_choice(text: str) -> str | None:
    """The letter where the answer starts with a choice: `(B) 12`, `B. Paris`, `option B`."""
    match = _CHOICE_AND_MORE.fullmatch(unwrap(text).strip()) if len(text) < 300 else None
    return next((g.upper() for g in match.groups() if g), None) if match else None


def same_choice(prediction: str, reference: str) -> bool | None:
    """Whether both name one choice; None where the reference is no choice, or the prediction is something else."""
    wanted = choice(reference)
    if wanted is None:
        several = _choices(prediction), _choices(reference)
        return True if several[0] and several[0] == several[1] else None
    given = choice(prediction)
    if given is None:
        letter = leading_choice(prediction) if wanted.isupper() else None
        return None if letter is None else letter == wanted
    if _MARKED.search(prediction) or _MARKED.search(reference):
        return given.upper() == wanted.upper()
    return given == wanted


def _choices(text: str) -> str:
    """The letters of several choices, `A, B and D` or `ABD`; nothing for other text."""
    plain = unwrap(text).strip()
    letters = "".join(re.findall("[A-H]", plain)) if len(plain) < 60 and _LETTERS.fullmatch(plain) else ""
    return letters if "".join(sorted(set(letters))) == letters else ""


def split_choice(text: str) -> tuple[str, str] | None:
    """The letter and what it stands for in `(B) 12`."""
    match = _LETTER_AND_VALUE.fullmatch(unwrap(text).strip()) if len(text) < 300 and not _choices(text) else None
    return (match.group(1), match.group(2)) if match else None


def _bare(text: str) -> str:
    """A phrase without its article, its hyphens, its plurals, and a noun that its adjective implies."""
    text = _ARTICLE.sub("", text.replace(" - ", " "))
    plain = [w.removesuffix("s") if len(w) > 3 else w for w in text.split()]
    implied = len(plain) == 2 and plain[1] in _KINDS and plain[0] not in _KINDS
    return plain[0] if implied else " ".join(plain)


def _names(text: str) -> list[str]:
    """The names in `Alice and Bob`, in one order; none where there is one name, or more than names."""
    names = sorted(n.strip() for n in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", text) if n.strip())
    return names if len(names) > 1 and all(n.isalpha() for n in names) else []


def _date(text: str) -> tuple[int, int, str] | None:
    match = _DATE_DAY.fullmatch(text.replace(" ,", ",").replace(",", ""))
    if match is None:
        return None
    day, month = match.group(1) or match.group(4), match.group(2) or match.group(3)
    number = _MONTHS.get(month[:3])
    return (number, int(day), match.group(5) or "") if number and 1 <= int(day) <= 31 else None
