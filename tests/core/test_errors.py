"""The messages of errors: made of parts, of which each may end a sentence."""

import pytest

from sq.core.errors import ConfigError, SqError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("it has: a, b.. Give one", "it has: a, b. Give one"),
        ("give another..", "give another."),
        ("wait ...", "wait ..."),
        ("in ../a", "in ../a"),
        ("ends in one.", "ends in one."),
    ],
)
def test_a_sentence_ends_in_one_period(text, message):
    assert str(SqError(text)) == message and str(ConfigError(text)) == message
