"""Prompts: filling in, and reading the replies that models really give."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError
from sq.core.prompts import Prompt, PromptConfig

ROLES = ["improve_solvability", "raise_difficulty", "judge_solvability", "rate_difficulty", "classify_topic", "answer"]
QUESTION = "Ann has $\\frac{3}{4}$ of {question} and {} apples; how many is $x^{2}$ if $x = 3$?"


def load(name: str) -> Prompt:
    return Prompt(build(OmegaConf.load(conf_dir() / "prompt" / f"{name}.yaml"), PromptConfig))


def prompt(template="{question}", *, fields=("question",), **parser) -> Prompt:
    node = {"role": "test", "template": template, "fields": list(fields), "parser": {"kind": "text"} | parser}
    return Prompt(build(node, PromptConfig))


SHIPPED = [load(role) for role in ROLES]
improve, harder, judge, rate, topic, answer = SHIPPED


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_its_file(role):
    assert load(role).role == role
    assert load(role).fields == ("question",)


def test_the_two_directions_are_not_swapped():
    assert "FINAL QUESTION:" in improve.render(question="q") and "Rewritten Problem" not in improve.render(question="q")
    assert "#Finally Rewritten Problem#:" in harder.render(question="q") and "FINAL QUESTION" not in harder.render(
        question="q"
    )
    assert "solve it" in improve.render(question="q") and "harder" in harder.render(question="q")
    assert "10 to 20 words" in harder.render(question="q")


@pytest.mark.parametrize("role", ROLES[:5])
def test_the_question_stands_between_its_tags_on_lines_of_its_own(role):
    text = load(role).render(question=QUESTION)
    before, _, rest = text.rpartition("\n<question>\n")
    inside, _, after = rest.partition("\n</question>\n")
    assert inside == QUESTION
    assert "<question>" not in after
    assert before


def test_answer_asks_for_the_box():
    text = load("answer").render(question="What is 2 + 2?")
    assert text == "What is 2 + 2?\nPlease reason step by step, and put your final answer within \\boxed{}."


anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
nasty = st.lists(
    st.one_of(
        anything,
        st.sampled_from(["{question}", "{", "}", "{}", "{{question}}", "\\1", "\\g<0>", "%s", "$x_{1}$", "\\"]),
    ),
    max_size=6,
).map("".join)


@settings(deadline=None)
@given(
    nasty,
    nasty,
    st.lists(st.sampled_from(["{question}", "{topic}", " a ", "\\boxed{}", "x^{2}", '{"k": 1}']), max_size=6),
)
def test_each_placeholder_becomes_its_text_once_and_nothing_else_changes(question, about, middle):
    pieces = ["{question}", *middle, "{topic}"]
    made = prompt(" ".join(pieces), fields=("question", "topic")).render(question=question, topic=about)
    assert made == " ".join({"{question}": question, "{topic}": about}.get(piece, piece) for piece in pieces)


@settings(deadline=None, max_examples=50)
@given(nasty)
def test_a_question_stands_verbatim_in_every_shipped_prompt(question):
    for shipped in SHIPPED:
        left, right = shipped.render(question="\0").split("\0")
        assert shipped.render(question=question) == left + question + right


@pytest.mark.parametrize(
    ("template", "fields", "message"),
    [
        ("Solve it.", ["question"], r"has no \{question\}, which it declares"),
        (
            "{qestion} {question}",
            ["question"],
            r"has \{qestion\}, which is not in fields=\['question'\], did you mean 'question'",
        ),
        ("{topic}", [], r"has \{topic\}, which is not in fields"),
    ],
)
def test_template_and_fields_must_agree(template, fields, message):
    with pytest.raises(ConfigError, match=message):
        prompt(template, fields=fields)


def test_latex_in_a_template_is_no_placeholder():
    assert (
        prompt("\\boxed{answer} $x_{n}^{k}\\frac{a}{b}$ {question}")
        .render(question="q")
        .startswith("\\boxed{answer} $x_{n}")
    )


def test_fields_are_checked_when_filling_in():
    for values, message in (
        ({}, "needs the field 'question', which is missing"),
        ({"question": None}, "needs the field 'question', which is None, no text"),
        ({"question": "q", "qestion": "q"}, "has no field 'qestion', did you mean 'question'"),
    ):
        with pytest.raises(ConfigError, match=message):
            improve.render(**values)


def test_digests_tell_prompts_apart():
    assert load("judge_solvability").digest == judge.digest
    assert len({load(role).digest for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize(
    ("parser", "message"),
    [
        ({"kind": "marker"}, "kind='marker' is not one of markers, .*did you mean 'markers'"),
        ({"kind": "markers"}, "needs parser.markers"),
        ({"kind": "markers", "markers": ["::"]}, "a marker without a word"),
        ({"kind": "verdict", "markers": ["A"]}, "parser.markers has no effect with parser.kind=verdict"),
        ({"kind": "json", "keys": ["a"], "value": "b"}, r"parser.value='b' is not one of parser.keys=\['a'\]"),
        ({"kind": "json", "keys": ["a"]}, "needs parser.value"),
        ({"kind": "tag"}, "needs parser.tag"),
    ],
)
def test_parser_settings_are_checked(parser, message):
    with pytest.raises(ConfigError, match=message):
        prompt(**parser)
