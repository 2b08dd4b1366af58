"""Text of models on a page is shown, and never becomes part of the page; formulas are drawn, or shown as they are."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.report.formulas import DEPTH, UnreadError, mathml, rich
from sq.report.html import Markup, escape, join, table, tag

OURS = {"div", "math", "code", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msup", "msub", "msubsup", "msqrt",
        "mroot", "mstyle", "mover", "munder", "mtable", "mtr", "mtd"}  # fmt: skip
OUR_ATTRIBUTES = {"class", "display", "alttext", "width", "stretchy", "linethickness", "style", "title"}
PIECES = st.sampled_from(
    [r"\frac", r"\sqrt", "{", "}", "$", "$$", r"\(", r"\)", r"\[", r"\]", "^", "_", "&", r"\\", r"\begin{cases}",
     r"\end{cases}", r"\left", r"\right", "(", ")", r"\text", "<script>", "</div>", '"', "'", "<img src=x>", "x", "12",
     r"\boxed", r"\alpha", " ", "\n", "&lt;", "<!--", "]]>", r"\mathbf", r"\overline", "\x00"]
)  # fmt: skip


class Seen(HTMLParser):
    """Which elements, attributes and text a browser would see."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = set(), set(), "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.add(name)
        self.attributes.update(key for key, _ in attributes)
        self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.add("!--")


@given(st.text())
def test_any_text_comes_back_as_it_was_and_brings_no_element(text):
    seen = Seen(tag("div", text, title=text))
    assert seen.tags == {"div"} and seen.attributes == {"title"} and not seen.open
    readable = text.isprintable() and "\r" not in text
    assert not readable or seen.text == text


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_formulas_bring_only_elements_of_ours_whatever_the_text(text):
    seen = Seen(tag("div", rich(text)))
    assert seen.tags <= OURS and seen.attributes <= OUR_ATTRIBUTES and not seen.open


def test_only_markup_passes_unescaped():
    assert join(["<b>", tag("b", "x"), Markup("<i></i>")]) == "&lt;b&gt;<b>x</b><i></i>"
    assert escape("\x00\ud800") == "\ufffd\ufffd"
    made = table(["a", "<b>"], [["r<1>", "2"]], caption="<c>")
    assert "<b>" not in made and "r&lt;1&gt;" in made and 'scope="row"' in made and 'scope="col"' in made


@pytest.mark.parametrize(
    ("source", "made"),
    [
        (r"\frac{1}{2}", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        (r"x^{12}", "<msup><mi>x</mi><mn>12</mn></msup>"),
        ("x^12", "<mrow><msup><mi>x</mi><mn>1</mn></msup><mn>2</mn></mrow>"),
        ("a_1^2", "<msubsup><mi>a</mi><mn>1</mn><mn>2</mn></msubsup>"),
        (r"\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"),
        (r"\text{if } x", "<mrow><mtext>if </mtext><mi>x</mi></mrow>"),
        (r"a \rightarrow b", "<mrow><mi>a</mi><mo>→</mo><mi>b</mi></mrow>"),
        (r"\boxed{7}", '<mrow class="boxed"><mn>7</mn></mrow>'),
        (r"1 < 2", "<mrow><mn>1</mn><mo>&lt;</mo><mn>2</mn></mrow>"),
    ],
)
def test_formulas_are_drawn(source, made):
    assert made in mathml(source)


def test_matrices_cases_and_fences():
    assert mathml(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}").count("<mtd>") == 4
    assert mathml(r"\begin{cases} x & y \\ z \\ \end{cases}").count("<mtr>") == 2
    assert mathml(r"\left( \frac{a}{b} \right]").count("stretchy") == 2


@pytest.mark.parametrize(
    "source", [r"\frac{1}", "{", "}", r"\unheard", r"\left(", "x^^2", r"\begin{tikz}x\end{tikz}", "a & b"]
)
def test_what_is_not_understood_stays_as_its_source(source):
    with pytest.raises(UnreadError):
        mathml(source)
    assert rich(rf"so \({source}\) it is").startswith("so <code>")


def test_depth_and_length_are_bounded():
    with pytest.raises(UnreadError, match="too deeply"):
        mathml("{" * (DEPTH + 1) + "x" + "}" * (DEPTH + 1))
    assert "<math" in rich("$" + "x+" * 400 + "x$")


@pytest.mark.parametrize("text", ["She pays $5 and $6.", "A $20 bill", "from $1,000 to $2,000 in total", r"costs \$3"])
def test_money_is_no_formula(text):
    assert "<math" not in rich(text) and Seen(rich(text)).text == text
