"""`build`: one dataclass, or one error with every problem in it."""

from dataclasses import dataclass, field
from enum import Enum

import pytest
from omegaconf import OmegaConf

from sq.core.config import build, flatten, nearest, setting
from sq.core.errors import ConfigError


class Color(Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = setting(0.5, gt=0, le=1)
    name: str = setting(help="what it is called")


@dataclass(frozen=True, kw_only=True)
class Special(Inner):
    extra: int = 3


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    count: int = setting(1, ge=1)
    color: Color = Color.RED
    kind: str = setting("a", choices=("alpha", "a", "b"))
    flag: bool = False
    maybe: int | None = setting(None, ge=2)
    many: list[Inner] = field(default_factory=list)
    named: dict[str, Inner] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.flag and self.maybe is None:
            raise ValueError("flag=true needs maybe=, a whole number")


def node(**values):
    return OmegaConf.create({"inner": {"name": "x"}, **values})


def test_builds_nested_frozen_dataclasses():
    built = build(
        node(color="DARK_BLUE", many=[{"name": "a"}], named={"k": {"name": "b", "rate": 1}}, numbers=[1, 2]), Outer
    )
    assert built == Outer(
        inner=Inner(name="x"),
        color=Color.DARK_BLUE,
        many=(Inner(name="a"),),
        named={"k": Inner(name="b", rate=1.0)},
        numbers=(1, 2),
    )
    assert isinstance(built.named["k"].rate, float)
    with pytest.raises(AttributeError):
        built.count = 2


def test_target_chooses_a_subclass():
    target = f"{Special.__module__}.Special"
    built = build(node(inner={"_target_": target, "name": "x", "extra": 5}), Outer)
    assert built.inner == Special(name="x", extra=5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("sq.core.errors.SqError", "is not a config dataclass"),
        ("no.such.Thing", "cannot be imported"),
        ("x", "cannot be imported"),
    ],
)
def test_target_must_name_a_config(target, message):
    with pytest.raises(ConfigError, match=message):
        build(node(inner={"_target_": target, "name": "x"}), Outer)


def test_target_must_be_of_the_right_kind():
    with pytest.raises(ConfigError, match=r"inner\._target_='sq\.train\.config\.TrainerConfig' is no Inner"):
        build(node(inner={"_target_": "sq.train.config.TrainerConfig", "name": "x"}), Outer)


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        build(node(count="many", color="purple", cuont=4, kind="alpah", inner={"rate": 2}, flag="maybe"), Outer)
    text = str(caught.value)
    assert len(caught.value.problems) == 7
    assert "unknown key 'cuont' (value 4), did you mean 'count'?" in text
    assert "count='many' is not a whole number" in text
    assert "color='purple' is not one of red, dark_blue" in text
    assert "kind='alpah' is not one of alpha, a, b, did you mean 'alpha'?" in text
    assert "inner.rate=2.0 must be at most 1" in text
    assert "'inner.name' must be given (what it is called)" in text
    assert "flag='maybe' is not true or false" in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, r"count=0 must be at least 1"),
        ({"count": 1.5}, r"count=1.5 is not a whole number"),
        ({"count": None}, r"count=None is not a whole number"),
        ({"maybe": 1}, r"maybe=1 must be at least 2"),
        ({"inner": {"name": "x", "rate": 0}}, r"inner.rate=0.0 must be above 0"),
        ({"inner": {"name": "x", "rate": float("nan")}}, r"inner.rate=nan must be"),
        ({"inner": "text"}, r"inner is 'text', but a group of settings is needed"),
        ({"many": [{"name": "a"}, {"rate": 9}]}, r"many.1.rate=9.0 must be at most 1"),
        ({"numbers": 3}, r"numbers=3 is not a list: 'numbers=\[3\]'"),
        ({"flag": True}, r"flag=true needs maybe="),
        ({"inner": {"name": "${nowhere}"}}, r"nowhere"),
    ],
)
def test_each_slip_names_key_and_value(values, message):
    with pytest.raises(ConfigError, match=message):
        build(node(**values), Outer)


def test_a_value_that_another_key_has_lent_is_reported_once():
    lent = node(count=0, inner={"name": "x", "rate": "${count}"})
    with pytest.raises(ConfigError, match=r"^count=0 must be at least 1$"):
        build(lent, Outer)
    with pytest.raises(ConfigError, match=r"^inner\.rate=3\.0 must be at most 1$"):
        build(node(count=3, inner={"name": "x", "rate": "${count}"}), Outer)


def test_a_string_is_not_taken_for_a_number_list():
    with pytest.raises(ConfigError, match="numbers='12'"):
        build(node(numbers="12"), Outer)


def test_flatten_gives_dotted_keys():
    flat = flatten(build(node(many=[{"name": "a"}]), Outer))
    assert flat["inner.rate"] == 0.5 and flat["many.0.name"] == "a" and flat["color"] == "red"


def test_nearest_is_silent_when_nothing_is_near():
    assert nearest("zzz", ["alpha"]) == ""
    assert nearest("alhpa", ["alpha"]) == ", did you mean 'alpha'?"
