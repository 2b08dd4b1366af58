"""The measures of diversity on sets whose value is known, and the filter that samples sparse regions."""

import math

import numpy as np
import pytest

from sq.synth.diversity import distinct_ngrams, new_topics, vendi_score

TWO = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
"""Of two unit vectors with cosine 0.5, whose kernel over 2 has the eigenvalues 0.75 and 0.25."""


@pytest.mark.parametrize(
    "vectors, score",
    [
        (np.tile([[0.6, 0.8]], (7, 1)), 1.0),
        (np.eye(9), 9.0),
        (np.repeat(np.eye(4), 5, axis=0), 4.0),
        (np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]], dtype=np.float32), TWO),
        (np.array([[1.0, 0.0], [-1.0, 0.0]]), 1.0),
    ],
    ids=["one, seven times", "orthogonal", "four, five times each", "two at 60 degrees", "opposite ones are a line"],
)
def test_the_vendi_score_in_closed_form(vectors, score):
    assert vendi_score(vectors) == pytest.approx(score, rel=1e-6)


def test_it_is_that_of_the_kernel_whichever_of_rows_and_dimensions_are_more():
    rng = np.random.default_rng(0)
    for shape in ((30, 8), (8, 30)):
        vectors = rng.normal(size=shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(vectors @ vectors.T / len(vectors)).clip(1e-300)
        assert vendi_score(vectors) == pytest.approx(np.exp(-np.sum(values * np.log(values))), rel=1e-6)


@pytest.mark.parametrize("n, share", [(1, 4 / 8), (2, 3 / 6), (3, 2 / 4), (4, 1 / 2), (5, 0.0)])
def test_distinct_ngrams_are_a_share_of_all(n, share):
    assert distinct_ngrams(["a b c d", "A b c d."], n) == share


def test_new_topics_are_those_that_no_seed_has():
    assert new_topics(["a", "a", "b", "c", "d"], ["a", "z"]) == 0.75
    assert new_topics([], ["a"]) == 0.0
