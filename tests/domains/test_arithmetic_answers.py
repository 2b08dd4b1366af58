"""Final answers and their comparison: exact, strict, and unharmed by anything."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.domains.arithmetic import ArithmeticConfig, ArithmeticDomain, check, facts, final_answer, split_of


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is \boxed{19}.", "19"),
        (r"First \boxed{3}, then \boxed{4}.", "4"),
        (r"\boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"\boxed{}", None),
        (r"\boxed{12", None),
        ("boxed 12", None),
        ("", None),
    ],
)
def test_final_answer_is_the_last_balanced_box(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("19", "19", True),
        ("19.0", "19", True),
        ("0019", "19", True),
        ("$19", "19", True),
        ("1,200", "1200", True),
        ("0.75", "3/4", True),
        ("6/8", "3/4", True),
        (r"\frac{3}{4}", "3/4", True),
        (r"\dfrac{-3}{4}", "-3/4", True),
        ("-2", "-2", True),
        ("19.", "19", True),
        ("19", "91", False),
        ("1,20", "120", False),
        ("19 apples", "19", False),
        ("3/0", "3", False),
        ("1e3", "1000", False),
        ("0x10", "16", False),
        ("inf", "inf", False),
        ("nan", "nan", False),
        ("", "", False),
        ("1/3", "0.33", False),
        ("5%", "5", False),
        ("１９", "19", False),
        ("9" * 5000, "9" * 5000, False),
        ("__import__('os')", "1", False),
    ],
)
def test_check(answer: str, reference: str, same: bool) -> None:
    assert check(answer, reference) is same


@given(st.text(max_size=60), st.text(max_size=60))
def test_check_takes_any_text(answer: str, reference: str) -> None:
    assert check(answer, reference) in (True, False)
    final_answer(answer + r"\boxed{" + reference)


def test_a_million_open_boxes_are_read_in_one_pass() -> None:
    """Quadratic work on a megabyte would not end."""
    assert final_answer("\\boxed{" * 150_000) is None
    assert not check("1," + "111," * 250_000, "1")


def test_facts_are_true_and_of_the_tables() -> None:
    rng = random.Random(1)
    seen = set()
    for _ in range(20_000):
        left, op, right, _, result = facts(rng).split()
        a, b, c = int(left), int(right), int(result)
        assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[op] == c
        assert 0 <= min(a, b, c) and max(a, b, c) <= 50
        seen.add((op, a, b))
    assert all(("*", a, b) in seen for a in range(1, 11) for b in range(1, 50 // a + 1) if b <= 10)
    assert {op for op, _, _ in seen} == set("+-*/")


def test_config_builds_and_filters() -> None:
    config = build(OmegaConf.load("conf/domain/arithmetic.yaml"))
    assert isinstance(config, ArithmeticConfig)
    narrow = ArithmeticDomain(ArithmeticConfig(min_steps=2, max_steps=3, families=["ages", "rope"]))
    rows = list(narrow.seeds(40, 1, "train"))
    assert {row["family"] for row in rows} == {"ages", "rope"}
    assert {row["steps"] for row in rows} == {2, 3}
    assert {split_of(row["question"]) for row in rows} == {"train"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_steps": 4, "max_steps": 2}, "min_steps=4 is above max_steps=2"),
        ({"min_steps": 0}, "min_steps=0 must be at least 1"),
        ({"families": ["agess"]}, "did you mean 'ages'"),
        ({"families": ["ages"], "min_steps": 5}, "no family of ages has 5 to 5 steps"),
    ],
)
def test_a_wrong_setting_is_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"_target_": "sq.domains.arithmetic.ArithmeticConfig", "name": "arithmetic", **settings})


def test_an_unknown_split_is_told() -> None:
    with pytest.raises(ConfigError, match="split='tests' is not one of train, validation, test"):
        next(ArithmeticDomain().seeds(1, 1, "tests"))
