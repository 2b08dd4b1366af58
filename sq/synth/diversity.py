"""How much a set of questions differs within itself: distinct n-grams, the Vendi score, topics that seeds have not.

All of them depend on the size of the set: the share of distinct n-grams falls with it and the Vendi score grows, so
only sets of the same size are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sq.synth.filters.words import words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def distinct_ngrams(texts: Iterable[str], n: int = 3) -> float:
    """The share of different ones among all runs of n words, within texts (distinct-n, Li et al. 2016)."""
    counts: Counter[int] = Counter()
    for text in texts:
        words = words_of(text)
        counts.update(hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1))
    return len(counts) / max(counts.total(), 1)


def vendi_score(vectors: NDArray[Any]) -> float:
    """The effective number of different ones among unit vectors (Friedman and Dieng, 2022): e to the entropy of the
    eigenvalues of their cosine kernel over n. n equal ones give 1, n orthogonal ones n.
    """
    import numpy as np

    exact = np.asarray(vectors, dtype=np.float64)
    smaller = exact.T if exact.shape[0] > exact.shape[1] else exact  # X Xᵀ and Xᵀ X have the same eigenvalues but zeros
    values = np.linalg.eigvalsh(smaller @ smaller.T / len(exact))
    shares = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def new_topics(topics: Iterable[str], seeds: Iterable[str]) -> float:
    """The share of the topics that no seed has."""
    own = set(topics)
    return len(own - set(seeds)) / max(len(own), 1)
