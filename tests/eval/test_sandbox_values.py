"""Values that cross between the sandbox's processes: they come back as they were, or are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.sandbox.plain_values import DEEPEST, PlainError, decode_plain, encode, value_key
from sq.sandbox.programs import (
    Raised,
    equal_values,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=3), max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=150, deadline=None)
def test_plain_values_come_back_as_they_were(value):
    data = encode(value, lambda v: pytest.fail(f"{v!r} is plain"))
    back = decode_plain(data)
    assert back == value and type(back) is type(value) and value_key(back) == value_key(value)


def test_what_is_no_value_is_refused():
    for data in (
        {"l": [], "t": []},
        {"x": 1},
        {},
        {"s": [[]]},
        {"i": "zz"},
        {"F": [1, 0]},
        {"T": ["open", "/"]},
        {"n": "open"},
    ):
        with pytest.raises(PlainError):
            decode_plain(data)
    deep = []
    for _ in range(DEEPEST + 10):
        deep = [deep]
    with pytest.raises(PlainError, match="nested too deep"):
        encode(deep, lambda v: None)


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        ([1, (2, 3)], (1, [2, 3]), True),
        ({"a": [0.1 + 0.2]}, {"a": (0.3,)}, True),
        (2, 2.0, True),
        (float("nan"), float("nan"), True),
        ([1, 2], [1, 2, 3], False),
        (True, 1, False),
        ("1", 1, False),
        (1.0, 1.1, False),
        (10**400, 1.5, False),
        (Raised(error=""), Raised(error=""), False),
    ],
)
def test_when_values_are_equal(value, expected, equal):
    assert equal_values(value, expected) is equal
