"""One spelling for what is written in many: the first step before two answers are compared.

Unicode signs become LaTeX, layout commands go, thousands separators are closed, doubled backslashes are undone.
What the answer *means* is left alone: no unit, bracket, sign or digit is dropped here.
"""

from __future__ import annotations

import re
import unicodedata

from sq.eval.equal import han, notation

MAX_ANSWER = 6_000
"""Characters of one answer that are looked at; a longer one is compared letter by letter only."""

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉ₙ]+")
_SIGNS = {
    "−–—‑‐﹣": "-", "×": r"\times ", "·⋅∙•": r"\cdot ", "÷∕⁄": "/", "≤⩽≦": r"\le ", "≥⩾≧": r"\ge ", "≠": r"\ne ",
    "∞": r"\infty ", "π": r"\pi ", "√": r"\sqrt ", "°º˚": r"^\circ ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ",
    "λ": r"\lambda ", "μµ": r"\mu ", "σ": r"\sigma ", "φϕ": r"\phi ", "ω": r"\omega ", "Δ": r"\Delta ", "±": r"\pm ",
    "∓": r"\mp ", "≈≃": r"\approx ", "≡": r"\equiv ", "∖": r"\setminus ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "′’‘": "'", "“”": '"', "…": r"\ldots ",
    "∛": r"\sqrt[3]",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "⅙": r"\frac{1}{6}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}",
    "€": r"\text{euros}", "£": r"\text{gbp}", "¥": r"\text{yen}", "₹": r"\text{rupees}", "¢": r"\text{cents}",
    "∠": r"\angle ", "ΩΩ": r"\Omega ",
    "∨": r" \text{or} ", "∧": r" \text{and} ", "、": ", ",
}  # fmt: skip
_SIGN_TABLE = str.maketrans({sign: latex for signs, latex in _SIGNS.items() for sign in signs})

_KNOWN = (
    "frac dfrac tfrac cfrac sqrt text textbf textit mathrm mathbf mathbb boxed fbox left right begin end pi theta "
    "alpha beta infty cup cap cdot times pm mp le leq ge geq ne neq sin cos tan log ln circ in mid langle rangle "
    "quad qquad operatorname binom sum prod int approx lfloor rfloor lceil rceil overline displaystyle"
)
_DOUBLED = re.compile(r"(?<!\\)\\\\(?=(?:" + "|".join(_KNOWN.split()) + r")(?![A-Za-z]))")
_ROW_SKIP = re.compile(r"\\\\\s*\[-?[\d.]+\s*(?:pt|em|ex|mm|cm)\]")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|scriptstyle|limits|nolimits|bigg?[lrm]?|Bigg?[lrm]?|middle|noindent|"
    r"centering|hfill|normalsize|large|Large|small|boldsymbol|bm|ensuremath|phantom\{[^{}]*\}|hspace\*?\{[^{}]*\}|"
    r"vspace\*?\{[^{}]*\}|label\{[^{}]*\}|tag\*?\{[^{}]*\})(?![A-Za-z])"
)
_LEFT_RIGHT_DOT = re.compile(r"\\(?:left|right)\s*\.")
_RENAMED = re.compile(
    r"\\(?:(?P<frac>[dtc]frac)|(?P<binom>[dt]binom)|(?P<le>leqslant|leqq|leq)|(?P<ge>geqslant|geqq|geq)|(?P<ne>neq)|"
    r"(?P<cdot>cdotp|centerdot)|(?P<vert>lvert|rvert)|(?P<norm>lVert|rVert|Vert)|(?P<ldots>cdots|dots|dotsc|dotsb)|"
    r"(?P<emptyset>varnothing)|(?P<set>smallsetminus|backslash)|(?P<phi>varphi)|(?P<epsilon>varepsilon)|"
    r"(?P<text>textnormal|textrm|textsf|texttt|textup|mbox|hbox|textit|textbf|emph|textsc))(?![A-Za-z])"
)
_OF_THE_EMPTY_SET = re.compile(r"\\\{\s*(?:\\(?:emptyset|varnothing)|\\\{\s*\\\})\s*\\\}")
_SPELLED = {"set": r"\setminus", "vert": "|", "norm": r"\|"}
_SEPARATOR = re.compile(
    r"(?<=\d)\s?(?:\{\s*,\s*\}|,\\!|\\,|\\!|\{ \}|,\{\}|\\;)\s*(?=\d{3}(?!\d))|(?<=\d),\\!\s*(?=\d)"
)
_COLOURED = re.compile(r"\\color\s*\{[A-Za-z]{1,20}\}|\\textcolor\s*\{[A-Za-z]{1,20}\}\s*(?=\{)|\\underline\s*(?=\{)")
_SPACES = re.compile(
    r"\\(?:quad|qquad|enspace|thinspace|medspace|hskip|space)(?![A-Za-z])|(?<!\\)\\[,;:! ]|~|&nbsp;|[ \t\r\n\f\v]+"
)
_LEADING = re.compile(
    r"^(?:\\(?:approx|therefore|Rightarrow|implies)(?![A-Za-z])|[∴⇒]|=|~|(?:about|approximately|roughly|exactly)\s)\s*"
)
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_CALL_IN_BRACES = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\{\s*\(([^{}()]*)\)\s*\}")
_ALL_TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")
_CIRCLED = re.compile("[①-⑳](?=、?[①-⑳])、?")
"""A statement's number with another one behind it: `①③④`, `①、③`."""
_EITHER = re.compile(r"([①-⑳]\s*)(?:或者?|or\b|\\text\s*\{\s*(?:或者?|or)\s*\})|或者?")
"""Between numbers of statements it says one of the two, and is left unread; between values it lists them."""
_LINES = re.compile(
    r"(?:\\\{\s*)?\\begin\s*\{(aligned|align\*?|gathered|split|cases)\}(.*?)\\end\s*\{\1\}(?!\s*\\\})", re.DOTALL
)
_GOES_ON = ("=", "<", ">", "\\le", "\\ge", "\\approx", "\\equiv")
_TIMES_TEN = re.compile(r"(\d)\s*[xX]\s*10\s*\^")
_GLUED = re.compile(r"(?<=[\d)\]}])(or|and)(?=[A-Za-z(\\\[])")
_NEXT_FORMULA = re.compile(r"([^-+=*/,;:({\\\s$])\s*\$\s+\$(?=[A-Za-z\\({\[])")
_QUAD = re.compile(r"\\q?quad\s*(?=[A-Za-z](?:_\{?\w+\}?)?\s*(?:\([a-z]\))?\s*(?:=|\\equiv))")
_ASIDE = re.compile(
    r"(?<=\S)\s*\((?:approx(?:imately|\.)?|about|since|because|rounded|exact(?:ly)?|as|where|for all|not)\b"
    r"[^()]{0,80}\)$"
    r"|\s*\(\s*([a-z]\s*\\in\s*(?:\\mathbb\s*\{?\s*)?[ZNR]\s*\}?)\s*\)$"
)
_DOLLARS = re.compile(r"\$+")


def tidy(text: str) -> str:
    """The same answer in plain LaTeX: one spelling a sign, no layout, no delimiters, single spaces."""
    text = notation.money_behind(notation.with_backslashes(text[: MAX_ANSWER + 1]))
    if not text.isascii():
        text = _ascii_signs(text)
    text = _BOLD.sub(r"\1", text.replace("\x00", " ").replace("`", "")).replace("**", "^")
    if "\\" in text or "{" in text:
        text = _latex(text)
    text = _TIMES_TEN.sub(r"\1\\times 10^", _GLUED.sub(r" \1 ", money(text)))
    text = _SPACES.sub(" ", text)
    text = text.replace("!=", r"\ne ").replace("<=", r"\le ").replace(">=", r"\ge ")
    text = notation.usual(trim(text))
    whole = _ALL_TEXT.fullmatch(text)
    return trim(whole.group(1)) if whole else text


def trim(text: str) -> str:
    """Without the punctuation and stray backslashes of a sentence around an answer."""
    for _ in range(4):
        shorter = _trim_once(text.strip())
        if shorter == text:
            break
        text = shorter
    return text


def money(text: str) -> str:
    r"""Dollar signs apart: `\$` and a lone `$` before a number are money (`\usd `), the rest delimit mathematics."""
    if "$" not in text:
        return text
    text = _NEXT_FORMULA.sub(r"\1, ", text.replace("\\$", "\x01"))
    runs = _DOLLARS.findall(text)
    if len(runs) == 1:
        text = re.sub(r"\$(?=\s*-?\.?\d)", "\x01", text)
    return _DOLLARS.sub(" ", text).replace("\x01", r"\usd ")


def literal(text: str) -> str:
    """A key for letter-by-letter comparison: two answers with one key are the same text."""
    key = re.sub(r"\s+(?=[^A-Za-z0-9\s])|(?<=[^A-Za-z0-9\s])\s+", "", text)
    key = re.sub(r"(?<=\d)\s+(?=[A-Za-z])|(?<=[A-Za-z])\s+(?=\d)", "", key)
    return re.sub(r"([_^])\{(\w)\}", r"\1\2", key)


def words(text: str) -> str:
    """A key for prose: letters and digits only, one case, one space."""
    text = _OF_THE_EMPTY_SET.sub(" set of the empty set ", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|operatorname)\b", " ", text)
    text = re.sub(r"\\([A-Za-z]+)", r"\1", text)
    return " ".join(re.findall(r"[^\W_]+|[-+*/=<>^_|()\[\].,]", text.casefold().strip(" .\t\n"))).rstrip(" .,")


def _unopened(text: str) -> bool:
    """Whether more braces are closed than opened."""
    plain = text.replace("\\{", "").replace("\\}", "")
    return plain.count("}") > plain.count("{")


def _ascii_signs(text: str) -> str:
    text = _SUPER_RUN.sub(lambda m: "^{" + m.group().translate(_SUPER) + "}", text)
    text = _SUB_RUN.sub(lambda m: "_{" + m.group().translate(_SUB) + "}", text)
    text = _EITHER.sub(lambda m: f"{m.group(1)}或" if m.group(1) else " or ", han.in_digits(text)).replace(
        "且", " and "
    )
    text = han.in_latex(text)
    text = _CIRCLED.sub(lambda m: m.group()[0] + ", ", text)
    text = re.sub(r"[€£¥₹](?=\s*[-\d.])", "", text).translate(_SIGN_TABLE)
    if text.isascii():
        return text
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    text = "".join(c if not 0xD800 <= ord(c) <= 0xDFFF else "\ufffd" for c in text)
    return unicodedata.normalize("NFKC", text)


def _latex(text: str) -> str:
    text = _DOUBLED.sub(r"\\", text)
    text = _ROW_SKIP.sub(r"\\\\", text)
    text = _QUAD.sub(", ", _DELIMITERS.sub(" ", text))
    text = _SEPARATOR.sub("", text)
    text = _COLOURED.sub("", _LEFT_RIGHT_DOT.sub(" ", text))
    text = _LAYOUT.sub(" ", text)
    text = _RENAMED.sub(_rename, text)
    text = _LINES.sub(_one_line, text)
    text = _CALL_IN_BRACES.sub(r"\1(\2)", text)
    text = text.replace("\\%", "%").replace("\\#", "#").replace("\\&", r"\text{and}")
    return re.sub(r"\\lt(?![A-Za-z])", "<", re.sub(r"\\gt(?![A-Za-z])", ">", text))


def _one_line(match: re.Match[str]) -> str:
    """Formulas under one another as a list; a line that starts with a relation goes on with the one before it."""
    if match.group(1) == "cases" and "&" in match.group(2):  # values with their conditions
        return match.group()
    text = ""
    for line in match.group(2).split("\\\\"):
        line = line.replace("&", "").strip(" ,;\n")
        if line:
            text += line if not text else f" {line}" if line.startswith(_GOES_ON) else f", {line}"
    return text


def _rename(match: re.Match[str]) -> str:
    name = match.lastgroup or ""
    return _SPELLED.get(name, "\\" + name)


def _trim_once(text: str) -> str:
    text = text.rstrip(" ,;:\n\t")
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1]
    while text.endswith("\\"):
        text = text[:-1].rstrip()
    if text.endswith("}") and not text.endswith("\\}") and _unopened(text):
        text = text[:-1].rstrip()
    if text.endswith(")"):
        text = _ASIDE.sub(lambda m: f", {m.group(1)}" if m.group(1) else "", text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return _LEADING.sub("", text.lstrip(" ,;:\n\t")).strip()
