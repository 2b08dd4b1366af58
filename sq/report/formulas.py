"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network.

latex2mathml reads the LaTeX. It neither escapes text nor refuses what it does not know, so nothing of its own output is
trusted: its tree is checked and stripped here, and a formula with anything unknown stays as its source, in code type.
"""

from __future__ import annotations

import re
from html import unescape
from xml.etree.ElementTree import Element, tostring

from markupsafe import Markup

INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that no HTML may hold."""
MATH = re.compile(
    r"(?<!\\)\$\$(?P<a>.{1,4000}?)(?<!\\)\$\$|\\\[(?P<b>.{1,4000}?)\\\]|\\\((?P<c>.{1,2000}?)\\\)"
    r"|(?<![\\$])\$(?P<d>(?![\s\d,.]+\s)[^$\n]{1,1000}?)(?<![\s\\])\$(?!\d)"
    r"|(?P<e>\\begin\{(?P<env>align\*?|equation\*?|gather\*?)\}.{1,4000}?\\end\{(?P=env)\})"
    r"|(?P<f>\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){0,300}\})",
    re.DOTALL,
)
DEFINITIONS = re.compile(r"\\(?:def|newcommand|renewcommand|newenvironment|DeclareMathOperator)(?![a-zA-Z])")
"""Macros can call each other, so that a short text becomes an endless one; no question needs them."""
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%")
"""What TeX takes for a comment is a percent sign that its writer forgot to escape."""
DEPTH = 40
ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([^{}]*)\}")
ENVIRONMENTS = {
    **{name: name for name in "matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases array split".split()},
    **dict.fromkeys("align align* aligned alignat* eqnarray*".split(), "align*"),
    **dict.fromkeys("gather gather* gathered equation equation*".split(), "matrix"),
}
"""Environments, and by which of the library's own they are drawn; those that number their lines are not numbered."""
ELEMENTS = {
    "mfrac": 2, "msup": 2, "msub": 2, "mroot": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3,
} | dict.fromkeys(
    "math mrow mi mn mo mtext mspace msqrt mstyle mtable mtr mtd mpadded mphantom menclose".split()
)  # fmt: skip
"""Elements that may be on the page, those of a fixed number of children with that number."""
ATTRIBUTES = {
    "display", "alttext", "stretchy", "fence", "form", "displaystyle", "scriptlevel", "linethickness", "mathvariant",
    "columnalign", "notation", "width", "minsize", "maxsize", "movablelimits", "accent",
}  # fmt: skip
VALUE = re.compile(r"[a-z -]{0,40}|-?\d?(?:\.\d{1,4})?(?:em|ex|px)?")
"""A word, or a length that moves nothing out of its line: a formula cannot cover the page around it."""


class UnreadError(ValueError):
    """A formula that is not understood."""


def rich(text: str) -> Markup:
    """A text with its formulas drawn; everything else escaped, line breaks kept by the style of its element."""
    text, pieces, end = INVALID.sub("\ufffd", text), [], 0
    for match in MATH.finditer(text):
        pieces += [text[end : match.start()], formula(match)]
        end = match.end()
    return Markup("").join([*pieces, text[end:]])


def formula(match: re.Match[str]) -> Markup:
    """One formula as MathML; its source where it cannot be read."""
    source = next(part for part in match.group("a", "b", "c", "d", "e", "f") if part is not None)
    try:
        return mathml(source, block=match.group("a") is not None or match.group("b") is not None)
    except UnreadError:
        return Markup("<code>{}</code>").format(match[0])


def mathml(source: str, *, block: bool = False) -> Markup:
    """LaTeX mathematics as one `<math>` element; an `UnreadError` names the first thing that is not understood."""
    from latex2mathml.converter import convert_to_element

    source = INVALID.sub("\ufffd", source)
    _check_source(source)
    readable = COMMENT.sub(r"\1\\%", ENVIRONMENT.sub(_environment, source))
    try:
        root = convert_to_element(readable, display="block" if block else "inline")
    except Exception as error:  # the library's errors have no common class, and IndexError and RecursionError are among
        raise UnreadError(f"{type(error).__name__}: {error}") from error
    _clean(root)
    root.set("alttext", source[:500])
    return Markup(tostring(root, encoding="unicode", short_empty_elements=False))


def _check_source(source: str) -> None:
    """What the library would pass over in silence."""
    if DEFINITIONS.search(source):
        raise UnreadError("it defines macros")
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", source):
        depth += 1 if brace == "{" else -1
        if depth < 0 or depth > DEPTH:
            raise UnreadError("a brace stands alone" if depth < 0 else "it is nested too deeply")
    if depth:
        raise UnreadError("a brace is not closed")
    for _, name in ENVIRONMENT.findall(source):
        if name not in ENVIRONMENTS:
            raise UnreadError(f"the environment {name} is not known")


def _environment(match: re.Match[str]) -> str:
    """An end of an environment by the library's name for it; in braces, or a power of a matrix is drawn wrong."""
    edge = f"\\{match[1]}{{{ENVIRONMENTS[match[2]]}}}"
    return f"{{{edge}" if match[1] == "begin" else f"{edge}}}"


def _clean(element: Element, depth: int = 0) -> None:
    """Keep of the library's tree what the page may hold; its texts have character references, and become plain text."""
    if depth > 4 * DEPTH:
        raise UnreadError("it is nested too deeply")
    if element.tag not in ELEMENTS:
        raise UnreadError(f"{element.tag} is not an element of formulas")
    if (count := ELEMENTS[element.tag]) is not None and len(element) != count:
        raise UnreadError(f"{element.tag} has {len(element)} of {count} parts")
    if "linebreak" in element.attrib:
        raise UnreadError("browsers break no line in a formula")
    text = element.text or ""
    if element.tag != "mtext" and (text in ("{", "}", "&", "^", "_", "$", "#") or re.match(r"\\[a-zA-Z]", text)):
        raise UnreadError(f"{text} is not known")
    element.text = INVALID.sub("\ufffd", unescape(text))
    element.attrib = {k: v for k, v in element.attrib.items() if k in ATTRIBUTES and VALUE.fullmatch(v)}
    for child in element:
        _clean(child, depth + 1)
