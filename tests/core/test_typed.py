"""A setting becomes an override that Hydra reads back the same, from a recipe and from a shell."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from sq.core.quoting import quote_override, word
from sq.recipe.overrides import plain

texts = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12).filter(lambda t: "${" not in t)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
keys = st.from_regex(r"(?a)[A-Za-z_][\w./-]{0,9}", fullmatch=True).filter(
    lambda k: k.lower() not in ("null", "true", "false")
)


@given(st.recursive(scalars, lambda s: st.lists(s, max_size=3) | st.dictionaries(keys, s, max_size=3), max_leaves=6))
def test_hydra_reads_an_override_as_the_value_it_was_made_from(value):
    parsed = OverridesParser.create().parse_override(f"key={word(value)}")
    assert not parsed.is_sweep_override() and plain(parsed.value()) == value


@given(texts)
def test_a_shell_and_hydra_read_what_was_typed(text):
    (argument,) = shlex.split(quote_override("key", text))
    parsed = OverridesParser.create().parse_override(argument)
    assert not parsed.is_sweep_override() and plain(parsed.value()) == text


def test_a_usual_path_is_typed_as_it_is_and_a_sweep_s_is_quoted():
    assert quote_override("input", "outputs/questions-tiny") == "input=outputs/questions-tiny"
    assert quote_override("input", "out/lr=1,2") == """'input="out/lr=1,2"'"""
