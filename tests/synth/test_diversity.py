"""The measures of diversity on sets whose value is known, and the filter that samples sparse regions."""

import json
import math

import numpy as np
import pytest

from sq.core.ledger import read_rejects, read_rows
from sq.synth.diversity import distinct_ngrams, new_topics, vendi_score
from sq.synth.filters.base import FilterContext, FilterItem
from sq.synth.filters.diversity import DiversityFilter, densities
from sq.synth.filters.minhash import MinHash
from sq.synth.filters.signatures import blocks_of

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


def cases(texts, gone=()):
    items = [FilterItem(row={"id": f"q{i}", "question": text}) for i, text in enumerate(texts)]
    for i in gone:
        items[i].remove("before")
    return items


def chosen(items, tmp_path, *, seed=0, **settings):
    """The numbers of those that stay, with the filter's metrics."""
    context = FilterContext(domain=None, models=None, scores=tmp_path, seed=seed)
    passed = list(DiversityFilter(**settings).apply(iter(items), context))
    assert [case.row for case in passed] == [case.row for case in items] and not any(tmp_path.iterdir())
    return {i for i, case in enumerate(passed) if case.reason is None}, context.metrics


CROWD = [f"Tom has {i} apples and eats two of them at noon. How many apples does Tom have now?" for i in range(300)]
RARE = [f"Prove that the {a} of every {b} is {c}." for a in ("sum", "centre", "kernel", "norm", "rank")
        for b in ("ring", "field", "graph") for c in ("finite", "even")]  # fmt: skip


def test_sparse_regions_stay_and_crowds_are_thinned(tmp_path):
    items = [text for pair in zip(CROWD[:30], RARE, strict=True) for text in pair] + CROWD[30:]
    kept, metrics = chosen(cases(items), tmp_path, keep=0.25)
    plain, _ = chosen(cases(items), tmp_path, keep=0.25, power=0)
    rare = {i for i, text in enumerate(items) if text in RARE}
    assert len(kept) == len(plain) == 82 and len(kept & rare) >= 27 and len(plain & rare) < 15
    assert metrics["diversity/density_kept"] < 0.8 * metrics["diversity/density"]


def test_what_was_removed_before_passes_and_counts_for_nothing(tmp_path):
    kept, _ = chosen(cases([*CROWD[:20], *RARE], gone=range(20)), tmp_path, keep=1.0)
    assert kept == set(range(20, 50))
    assert chosen(cases(CROWD[:3], gone=range(3)), tmp_path) == (set(), {}) and chosen([], tmp_path)[0] == set()


@pytest.mark.parametrize("other", [{"processes": 2}, {"seed": 1}], ids=str)
def test_the_sample_follows_from_the_seed_alone(tmp_path, monkeypatch, other):
    monkeypatch.setattr(blocks_of, "__defaults__", (64,))
    kept = chosen(cases(CROWD + RARE), tmp_path, processes=1)[0]
    assert len(kept) == 165 and (chosen(cases(CROWD + RARE), tmp_path, **{"processes": 1} | other)[0] == kept) is (
        "seed" not in other
    )


def test_the_density_is_the_sum_of_similarities_to_the_power_of_rows():
    minhash = MinHash(bands=4000, rows=2, width=1)
    texts = [text.split() for text in ("a b c d", "a b c e", "a b c d", "x y z")]
    buckets = (minhash.keys(minhash.shingles(texts)) >> np.uint64(32)).astype(np.uint32)
    expected = [2 + 0.6**2, 1 + 2 * 0.6**2, 2 + 0.6**2, 1]
    assert densities(buckets) == pytest.approx(expected, abs=0.05)


def test_a_stage_samples_and_a_rerun_changes_nothing(run, tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in CROWD[:40] + RARE))
    words = [f"input={tmp_path / 'q.jsonl'}", "filters=[format,diversity]", f"stage.scores={tmp_path / 's'}"]
    first = run("filter", *words, "filters.diversity.keep=0.4", to="f")
    assert first["diversity/density_kept"] < first["diversity/density"]
    rows, rejects = list(read_rows(tmp_path / "f")), list(read_rejects(tmp_path / "f"))
    assert len(rows) == 28 and len(rejects) == 42 and {reject["reason"] for reject in rejects} == {"density"}
    assert all("questions like it" in reject["detail"] for reject in rejects)
    run("filter", *words, "filters.diversity.keep=0.4", "workers=2", to="g")
    assert [row["id"] for row in read_rows(tmp_path / "g")] == [row["id"] for row in rows]
