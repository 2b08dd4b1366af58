"""What reads what, and in which order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core.errors import ConfigError
from sq.recipe.graph import closure, dependents, matching, ordered, reads, renamed, resolved

names = st.integers(0, 12).map("s{}".format)


@st.composite
def graphs(draw):
    """Stages in any order, each reading some of those before it in another, hidden order."""
    hidden = draw(st.lists(names, min_size=1, unique=True))
    reading = {n: draw(st.lists(st.sampled_from(hidden[:i]), max_size=3)) if i else [] for i, n in enumerate(hidden)}
    return {name: reading[name] for name in draw(st.permutations(hidden))}


@given(graphs())
def test_every_stage_comes_once_and_after_all_it_reads(reading):
    order = ordered(reading)
    assert sorted(order) == sorted(reading)
    assert all(order.index(other) < order.index(name) for name in reading for other in reading[name])


@given(graphs())
def test_stages_that_are_in_order_already_stay_as_written(reading):
    order = ordered(reading)
    assert ordered({name: reading[name] for name in order}) == order


@given(graphs(), st.data())
def test_what_a_stage_needs_and_what_needs_it(reading, data):
    chosen = data.draw(st.sampled_from(sorted(reading)))
    needed = closure(reading, [chosen])
    assert chosen in needed and all(set(reading[name]) <= needed for name in needed)
    assert all((chosen in closure(reading, [name])) == (name in dependents(reading, [chosen])) for name in reading)


@given(graphs(), st.data())
def test_a_circle_is_found_and_shown(reading, data):
    first = data.draw(st.sampled_from(sorted(reading)))
    last = data.draw(st.sampled_from(sorted(dependents(reading, [first]))))
    circular = {**reading, first: [*reading[first], last]}
    with pytest.raises(ConfigError, match=r"in a circle: .*s\d+ reads s\d+"):
        ordered(circular)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"stage sft reads @anwsers, which is no stage .* did you mean 'answers'\?"):
        ordered({"answers": [], "sft": ["anwsers"]})


def test_references_are_found_and_replaced_wherever_they_stand():
    settings = {"input": "@a", "model.path": "@b/model", "mix": {"@c": 0.5, "x": ["@d/part", "me@e", "@a b"]}, "n": 3}
    assert reads(settings) == ("a", "b", "c", "d")
    places = {name: Path("out") / name for name in "abcd"}
    assert resolved(settings, places) == {
        "input": "out/a",
        "model.path": "out/b/model",
        "mix": {"out/c": 0.5, "x": ["out/d/part", "me@e", "@a b"]},
        "n": 3,
    }
    assert renamed(settings, {"b": "b-s1"})["model.path"] == "@b-s1/model"


def test_stages_are_meant_by_name_by_the_name_before_they_were_repeated_or_by_a_pattern():
    bases = {"qft": "qft", "sft-a": "sft-{of}", "sft-b": "sft-{of}", "sft-mix": "sft-mix"}
    assert matching("qft", bases, "--only") == ["qft"]
    assert matching("sft", bases, "--only") == ["sft-a", "sft-b"]
    assert matching("sft-*", bases, "--only") == ["sft-a", "sft-b", "sft-mix"]
    with pytest.raises(ConfigError, match=r"--until qtf: no stage has that name, did you mean 'qft'\?"):
        matching("qtf", bases, "--until")
