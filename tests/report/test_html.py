"""Text of models on a page is shown, and never becomes part of the page; formulas are drawn, or shown as they are."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from sq.report.formulas import ATTRIBUTES, DEPTH, ELEMENTS, UnreadError, mathml, rich
from sq.report.render import environment, render

MATH_TEST = Path(__file__).parents[3] / "shared/data/math_test.jsonl"
PIECES = st.sampled_from(
    [r"\frac", r"\sqrt", "{", "}", "$", "$$", r"\(", r"\)", r"\[", r"\]", "^", "_", "&", r"\\", r"\begin{cases}",
     r"\end{cases}", r"\left", r"\right", "(", ")", r"\text", "<script>", "</div>", '"', "'", "<img src=x>", "x", "12",
     r"\boxed", r"\alpha", " ", "\n", "&lt;", "<!--", "]]>", r"\mathbf", r"\overline", "\x00", "%",
     r"\href", r"\style", r"\class", r"\color", r"\raise", r"\rule", r"\def", r"\unicode", r"\verb", "x3c", "|",
     "&#60;"]
)  # fmt: skip


class Seen(HTMLParser):
    """Which elements, attributes and text a browser would see."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = set(), set(), "", []
        self.feed("".join([page]))
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
    seen = Seen(render("figure.html.j2", id=text, view="", drawing="", alt=text, caption=text))
    assert seen.tags == {"figure", "svg", "title", "figcaption"} - ({"figcaption"} if not text else set())
    assert seen.attributes == {"class", "role", "aria-labelledby", "id"} and not seen.open
    assert not text.isprintable() or "\r" in text or seen.text.strip() == (text * 2).strip()


def test_every_template_escapes_and_knows_its_values():
    pages = [name for name in environment().list_templates() if ".html" in name]
    sources = [environment().loader.get_source(environment(), name)[0] for name in pages]
    assert len(pages) > 15 and all(map(environment().autoescape, pages))
    assert not any(re.search(r"\|\s*safe\b|autoescape", source) for source in sources)
    with pytest.raises(UndefinedError):
        render("figure.html.j2")


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_formulas_bring_only_elements_of_ours_whatever_the_text(text):
    seen = Seen(rich(text))
    assert seen.tags <= {"code", *ELEMENTS} and seen.attributes <= ATTRIBUTES and not seen.open


def test_only_markup_passes_unescaped():
    table = environment().get_template("macros.html.j2").module.table
    made = table("<c>", ["a", "<b>"], [["r<1>", "2 to 3"], [Markup("<i></i>"), "\x00\ud800"]], foot=["<all>", "2"])
    assert "<b>" not in made and "r&lt;1&gt;" in made and "&lt;all&gt;" in made and "&lt;c&gt;" in made
    assert "<i></i>" in made and "\ufffd\ufffd" in made
    assert 'scope="row"' in made and 'scope="col"' in made and "2\u00a0to\u00a03" in made


@pytest.mark.parametrize(
    ("source", "made"),
    [
        (r"\frac{1}{2}", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        ("x^12", "<msup><mi>x</mi><mn>1</mn></msup><mn>2</mn>"),
        (r"\text{if } x", "<mtext>if\u00a0</mtext><mi>x</mi>"),
        (r"\boxed{7}", '<menclose notation="box"><mrow><mn>7</mn></mrow></menclose>'),
        (r"1 < 2", "<mn>1</mn><mo>&lt;</mo><mn>2</mn>"),
        (r"\text{<b>&#60;b></b>}", "<mtext>&lt;b&gt;&lt;b&gt;&lt;/b&gt;</mtext>"),
        (r"\unicode{x3c}b>", "<mi>&lt;</mi>"),
        ("50% of x", "<mi>%</mi><mi>o</mi><mi>f</mi>"),
        (r"\begin{pmatrix} 1 \end{pmatrix}^2", "<mo>)</mo></mrow><mn>2</mn></msup>"),
        (r"\begin{aligned} a &= 1 \\ b &= 2 \end{aligned}", '<mtr><mtd columnalign="right"><mi>b</mi></mtd>'),
    ],
)
def test_formulas_are_drawn(source, made):
    assert made in mathml(source)


@pytest.mark.parametrize(
    "source",
    [r"\href{javascript:alert(1)}{x}", r"\style{position:fixed}{x}", r"\class{skip}{x}", r"\raise{90em}{x}",
     r"\rule{90em}{90em}", r"\hspace{-90em}x", r"\color{url(//a)}x"],
)  # fmt: skip
def test_a_formula_neither_leads_away_nor_covers_the_page(source):
    drawn = mathml(source)
    assert Seen(drawn).attributes <= ATTRIBUTES and "90em" not in drawn.partition("alttext")[2].partition(">")[2]


@pytest.mark.parametrize(
    "source",
    [r"\frac{1}", "{", "}", r"\unheard", r"\left(", r"\begin{tikz}x\end{tikz}", "a & b", r"a \\ b", r"\text{a {b} c}",
     r"\begin{cases} x", r"\def\x{\y\y}\def\y{\x\x}\x"],
)  # fmt: skip
def test_what_is_not_understood_stays_as_its_source(source):
    with pytest.raises(UnreadError):
        mathml(source)
    assert Seen(rich(rf"so \({source}\) it is")).text == rf"so \({source}\) it is"


def test_depth_and_length_are_bounded():
    with pytest.raises(UnreadError, match="too deeply"):
        mathml("{" * (DEPTH + 1) + "x" + "}" * (DEPTH + 1))
    for nested in (r"\sqrt" * 900, r"\left(" * 900 + r"\right)" * 900, r"\begin{cases}" * 300):
        with pytest.raises(UnreadError):
            mathml(nested)
    assert "<math" in rich("$" + "x+" * 400 + "x$")


def test_real_questions_are_drawn_but_for_a_few():
    """Of the formulas of MATH's test problems, as many as the parser could that was here before."""
    if not MATH_TEST.is_file():
        pytest.skip(f"no benchmark data at {MATH_TEST}")
    lines = MATH_TEST.read_text(encoding="utf-8").splitlines()[:500]
    pages = [rich(json.loads(line)["problem"]) for line in lines]
    drawn, source = sum(page.count("<math") for page in pages), sum(page.count("<code>") for page in pages)
    assert drawn > 1000 and source < 0.01 * drawn


@pytest.mark.parametrize("text", ["She pays $5 and $6.", "A $20 bill", "from $1,000 to $2,000 in total", r"costs \$3"])
def test_money_is_no_formula(text):
    assert "<math" not in rich(text) and Seen(rich(text)).text == text
