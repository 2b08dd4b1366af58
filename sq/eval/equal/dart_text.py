"""How DART-Math spells an answer before it compares it: its rules, in its order, written anew.

The order matters as much as the rules: `.5` loses its point to the rule about punctuation before the rule that would
write `0.5` sees it. So nothing is tidied here that the original leaves alone, mistakes included. What it costs is
bounded by `MAX_LENGTH`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_LENGTH = 1_000
"""Characters of an answer; a longer one is wrong under this profile."""

_FUNCTION = "sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|coth|sech|csch|log|ln|exp"
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|"
    "chi|psi|omega|sin|cos|sec|csc|tan|cot|sinh|cosh|sech|csch|tanh|coth|log|ln|exp"
)
_NAME = re.compile(
    rf"([a-z]|[A-Z]{{2}}|\\?({_GREEK}))\^?{{?-?('|\\prime|\d)*}}?(\(-?([\d.]+|[a-z])?\))?(?=\n?$)", re.ASCII
)
_OUTER = ":./,#?$\"'ки"
_BEFORE, _AFTER = "!)]}" + _OUTER, "([{\\" + _OUTER
_REMOVED = (
    "\n", "\t", "approximately", "'", '"', "\\$", "$", "￥", "£", "€", "{,}", "\\!", "\\,", "\\:", "\\;", "\\quad",
    "\\qquad", "\\space", "\\thinspace", "\\medspace", "\\thickspace", "~,", "\\ ", "\\\\%", "\\%", "%", "\\left",
    "\\right", "^{\\circ}", "^\\circ",
)  # fmt: skip
_REPLACED = (
    ("∪", "\\cup"), ("π", "\\pi"), ("∞", "\\infty"), ("∈", "\\in"), ("∩", "\\cap"), ("−", "-"), ("\\item", ","),
    ("and", ","), (";", ","), ("infinity", "\\infty"), ("+\\infty", "\\infty"), ("tfrac", "frac"), ("dfrac", "frac"),
    ("\\approx", "="), ("\\times", "*"), ("\\cdot", "*"), ("{.", "{0."), (" .", " 0."), (":", "/"),
)  # fmt: skip
_COMMANDS = tuple(
    "\\" + name
    for name in (
        "textbf textit textsl texttt textsc textsf textrm mathrm mathbf mathit mathsf mathtt mathbb mathcal mathscr "
        "mathfrak bm em emph underline overline tiny scriptsize footnotesize small normalsize large Large LARGE huge "
        "Huge newline par noindent indent footnote cite ref label textsuperscript textsubscript text mbox"
    ).split()
) + ("\\renewcommand{\\arraystretch}",)
_ENVIRONMENTS = "align align* center flushleft flushright itemize enumerate description".split()
_UNITS = tuple(
    re.compile(rf"(?<=[-\d.*^{{}}]){unit}e?s?$", re.ASCII)
    for unit in (
        *"hour minute min sec second day week month year meter mile kg mg g t ton nm pm um μm m cm mm dm km".split(),
        *"kilometer inch feet piece bit hz Hz m/s km/s".split(),
        "m/(min^2)", "billion", "eV", "V", "C", "s", r"a\.?m\.?", r"(?<!\\)p\.?m\.?",
    )
)  # fmt: skip
_BRACKETS = (("\\(", "\\)"), ("\\[", "\\]"), ("\\{", "\\}"), ("(", ")"), ("[", "]"), ("{", "}"))
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_COUNT = {
    word: str(n)
    for n, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
    if n
}
_PLUS_MINUS = re.compile(r"([\w.\\{}+\-*^]+?)(?:\\pm|\\mp)([\w.\\{}+\-*^]+)")
Same = Callable[[str, str], bool]


def spelt(text: str, same: Same) -> str:
    """An answer as it is compared.

    Args:
        text: the answer as extracted.
        same: whether two members of a set are one; asked to drop the second.
    """
    text = trimmed(text.replace("\n", "").strip())
    word = truth(text)
    if word is not None:
        return word
    day = weekday(text)
    return day if day is not None else _mathematics(trimmed(text), same)


def trimmed(text: str) -> str:
    """Without the punctuation before and behind; `.5` becomes `5`."""
    text = text.strip()
    while text and text[0] in _BEFORE:
        text = text[1:].strip()
    return trimmed_behind(text)


def trimmed_behind(text: str) -> str:
    """Without the punctuation and opening brackets behind."""
    text = text.strip()
    while text and text[-1] in _AFTER:
        text = text[:-1].strip()
    return text


def truth(text: str) -> str | None:
    """True or False for whatever has such a word in it: `no` in `northern`, too."""
    lower = text.lower().strip().replace("noindent", "")
    if "yes" in lower or "true" in lower:
        return "True"
    return "False" if "no" in lower or "false" in lower else None


def weekday(text: str) -> str | None:
    """The day that a single word starts like: `money` is Monday."""
    lower = text.lower().strip()
    return None if " " in lower else next((d for d in _WEEKDAYS if lower.startswith(d[:3].lower())), None)


def is_set(text: str) -> bool:
    """Whether a spelling is a set: in braces, or joined by `or`."""
    braced = any(text.startswith(b[0]) and text.endswith(b[1]) for b in (("{", "}"), ("\\{", "\\}")))
    return braced or re.search(r"[^a-z]or(x|[^a-z])", text) is not None


def members(text: str, same: Same) -> list[str]:
    """The distinct members of a set, sorted as text."""
    distinct: list[str] = []
    for item in (part.strip() for part in unbracketed(text).replace("or", ",").split(",")):
        if not any(same(item, other) for other in distinct):
            distinct.append(item)
    return sorted(distinct)


def unbracketed(text: str) -> str:
    """Without the brackets around the whole, however many."""
    again = True
    while again:
        again = False
        for opening, closing in _BRACKETS:
            first, last = _pair(text, opening, closing)
            if first == 0 and last == len(text) - len(opening):
                text, again = text[len(opening) : -len(opening)], True
    return text


def _pair(text: str, opening: str, closing: str) -> tuple[int, int]:
    first = text.find(opening)
    if first < 0:
        return -1, -1
    depth = 0
    for match in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", text[first:]):
        depth += 1 if match.group() == opening else -1
        if depth == 0:
            return first, first + match.start()
    return first, -1


def _mathematics(text: str, same: Same) -> str:
    for removed in _REMOVED:
        text = text.replace(removed, "")
    for old, new in _REPLACED:
        text = text.replace(old, new)
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = text.replace(" ", "")
    for command in _COMMANDS:
        text = _without_command(text, command)
    for name in _ENVIRONMENTS:
        text = text.replace(f"\\begin{{{name}}}", "").replace(f"\\end{{{name}}}", "")
    text = _without_units(_functions(_degrees(text)))
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    text = ",".join(_expression(part) for part in (members(text, same) if is_set(text) else [text]))
    if "," not in text:
        text = unbracketed(text)
    text = trimmed(re.sub(r"\\mid([a-z])", r"\\mid \1", _COUNT.get(text, text)))
    for sign in "<>":  # 1 < x < 2 becomes 1, x, 2
        if text.count(sign) > 1 and not any(join in text.lower() for join in (",", "and", "or")):
            text = text.replace(sign, ",")
    return text


def _without_command(text: str, command: str) -> str:
    """The first use of a command off, with its braces."""
    at = text.find(command)
    if at < 0:
        return text
    before, behind = text[:at].strip(), text[at + len(command) :].strip()
    if behind[:1] == "{":
        first, last = _pair(behind, "{", "}")
        if last >= 0:
            behind = behind[:first] + behind[first + 1 : last] + behind[last + 1 :]
    elif before[-1:] == "{":
        last = behind.find("}")
        if last >= 0:
            before, behind = before[:-1], behind[:last] + behind[last + 1 :]
    return before + behind


def _degrees(text: str) -> str:
    text = re.sub(r"^(\d+) ?\^?\\?circ$", r"\1", text.replace("rad", ""))
    return re.sub(r"(\d+) ?\^?\\?circ", r"{\1*\\frac{\\pi}{180}}", text)


def _functions(text: str) -> str:
    text = re.sub(rf"(?<!\\)(pi\b|{_FUNCTION})", r"\\\1", text)
    text = re.sub(rf"\\?({_FUNCTION})\^(\d+)", r"\\\1^{\2}", text)
    return re.sub(rf"\\?({_FUNCTION})(?!\^)", r"\\\1^{1}", text)


def _without_units(text: str) -> str:
    """One spelling for matrices and decimals, and no unit behind."""
    text = re.sub(r"\\begin{array}{[lcr]*}", r"\\begin{array}{}", re.sub(r"{[a-z]?matrix}", "{array}", text))
    if "\\begin{array}" not in text:
        text = text.replace("\\\\", "")
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d)\.0+$", r"\1", re.sub(r"(\d)\.0+([^\d])", r"\1\2", text))
    for unit in _UNITS:
        text = unit.sub("", text)
    return text


def _expression(text: str) -> str:
    """One expression: roots and fractions in braces, the name before an equals sign off, both signs written out."""
    text = re.sub(r"\\?sqrt[({\[](\w+)[)}\]]", r"\\sqrt{\1}", text)
    text = re.sub(r"\\?sqrt\s*(\d+)", r"\\sqrt{\1}", text)
    text = _fractions("\\" + text if text.startswith("frac") else text)
    text = re.sub(r"(\b\d+|sqrt\(.*?\))/(\d+|sqrt\(.*?\)\b)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"^[a-z]\\in", "", text)
    if "," not in text:
        text = unbracketed(text)
    if "\\begin{array}" not in text:
        text = _value(text)
    inside = unbracketed(text)
    if "\\pm" in inside or "\\mp" in inside:
        expanded = _PLUS_MINUS.sub(r"\1-\2,\1+\2", inside)
        text = expanded if expanded != inside else text
    return re.sub(r"^0+([1-9])", r"\1", text)


def _fractions(text: str) -> str:
    first, *rest = text.split("\\frac")
    done = first
    for part in rest:
        if part[:1] == "{":
            done += "\\frac" + part
        elif len(part) < 2:
            return text
        else:
            top, bottom = part[0], part[1] if part[1] == "{" else f"{{{part[1]}}}"
            done += f"\\frac{{{top}}}{bottom}{part[2:]}"
    return done


def _value(text: str) -> str:
    """What stands behind the last of several equals signs, or behind one that follows a name or a number."""
    parts = text.split("=")
    if len(parts) > 2:
        return parts[-1]
    if len(parts) == 2:
        name = parts[0].strip()
        if _NAME.match(name) or not re.search("[a-zA-Z]", name):
            return parts[1]
    return text
