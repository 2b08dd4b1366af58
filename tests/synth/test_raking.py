"""The filter that keeps the seeds' proportions: what is rare among the questions and not among seeds stays."""

import json

import numpy as np
import pytest

from sq.core.ledger import read_rejects, read_rows
from sq.domains.arithmetic import ArithmeticConfig
from sq.synth.filters import raking
from sq.synth.filters.base import FilterContext, FilterItem
from sq.synth.filters.raking import RakingFilter, features, fit, frequencies

TOTAL = [f"Tom has {i} apples. Ann has {i} more. How many apples do they have altogether?" for i in range(1, 601)]
MORE = [f"Tom has {i} apples. Ann has {i} more. How many more apples does Ann have than Tom?" for i in range(1, 601)]
SEEDS = [text for pair in zip(TOTAL[:50], MORE[:50], strict=True) for text in pair]


def cases(texts, gone=()):
    items = [FilterItem(row={"id": f"q{i}", "question": text}) for i, text in enumerate(texts)]
    for i in gone:
        items[i].remove("before")
    return items


@pytest.fixture
def like(tmp_path):
    """A file of seeds, half of which ask for more."""
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in SEEDS))
    return [str(tmp_path / "seeds.jsonl")]


def chosen(items, tmp_path, *, seed=0, domain=None, **settings):
    """The numbers of those that stay, with the filter's metrics."""
    context = FilterContext(domain=domain, models=None, scores=tmp_path / "scores", seed=seed)
    passed = list(RakingFilter(**settings).apply(iter(items), context))
    assert [case.row for case in passed] == [case.row for case in items] and not any((tmp_path / "scores").iterdir())
    return {i for i, case in enumerate(passed) if case.reason is None}, context.metrics


@pytest.mark.parametrize("sample", [None, 150], ids=["fitted to all", "fitted to a sample"])
def test_what_is_rarer_than_in_seeds_stays(tmp_path, like, monkeypatch, sample):
    if sample:
        monkeypatch.setattr(raking, "SAMPLE", sample)
    items = cases(TOTAL[:500] + MORE[:100])  # one in six, in seeds one in two
    kept, metrics = chosen(items, tmp_path, keep=0.4, like=like)
    more = sum(i >= 500 for i in kept)
    assert len(kept) == 240 and 85 <= more <= 100, f"{more} of the 100"
    assert metrics["raking/gap_kept"] < metrics["raking/gap"] / 2
    kept, _ = chosen(items, tmp_path, keep=0.15, like=like)
    assert len(kept) == 90 and 35 <= sum(i >= 500 for i in kept) <= 57, "half of them, and no more than in seeds"
    kept, _ = chosen(items, tmp_path, keep=0.4, like=like, penalty=1e6)
    assert 25 <= sum(i >= 500 for i in kept) <= 55, "a plain sample has 40"


def test_without_a_file_the_domains_seeds_are_the_measure(tmp_path):
    def share(texts):
        return sum(" than " in text.rpartition(". ")[2] for text in texts) / len(texts)

    domain = ArithmeticConfig().create()
    texts = [row["question"] for row in domain.seeds(1500, 5)]
    texts = [text for i, text in enumerate(texts) if share([text]) == 0 or i % 4 == 0]
    of_seeds = share([row["question"] for row in domain.seeds(800, 0)])
    kept, _ = chosen(cases(texts), tmp_path, domain=domain, seeds=800, keep=0.25)
    lacking = of_seeds - share(texts)
    assert lacking > 0.05 and abs(share([texts[i] for i in kept]) - of_seeds) < lacking / 2


def test_what_was_removed_before_passes_and_counts_for_nothing(tmp_path, like):
    kept, _ = chosen(cases(TOTAL[:40] + MORE[:40], gone=range(20)), tmp_path, like=like)
    assert len(kept) == 30 and min(kept) >= 20
    assert chosen(cases(MORE[:3], gone=range(3)), tmp_path, like=like) == (set(), {})
    assert chosen([], tmp_path, like=like)[0] == set()


def test_the_sample_follows_from_the_seed_and_the_ids(tmp_path, like):
    texts = TOTAL[:300] + MORE[:60]
    first, again, other = (chosen(cases(texts), tmp_path, like=like, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again != other


def test_the_chances_are_fitted_until_features_are_as_frequent_as_wanted():
    questions, wanted = list(map(features, TOTAL[:400] + MORE[:200])), frequencies(map(features, SEEDS))
    fitted = fit(questions, wanted, 0.4, 1e-4)
    assert fitted.before > 0.1 and fitted.after < 0.01
    assert np.flatnonzero(fitted.weights).size <= len({int(b) for q in questions for b in q})


def test_features_are_words_what_is_asked_and_the_number_of_sentences():
    def same(a, b):
        return np.array_equal(features(a), features(b))

    assert same("Tom has 3 apples. How many?", "tom has 4711 Apples.\nHow many?")
    assert not same("Tom has 3. How many more?", "How many more? Tom has 3."), "what is asked is the last sentence"
    assert not same("Go. Go. Go.", "Go. Go."), "their number"
    assert len(features("他有三个。一共多少？")) > 4 and len(features("")) > 0


def test_a_stage_samples_and_a_rerun_changes_nothing(run, tmp_path, like):
    questions = TOTAL[:60] + MORE[:20]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in questions))
    words = [
        f"input={tmp_path / 'q.jsonl'}", "filters=[format,raking]", f"stage.scores={tmp_path / 's'}",
        f"filters.raking.like={like}", "filters.raking.keep=0.5",
    ]  # fmt: skip
    first = run("filter", *words, to="f")
    assert first["raking/gap_kept"] < first["raking/gap"]
    rows, rejects = list(read_rows(tmp_path / "f")), list(read_rejects(tmp_path / "f"))
    assert len(rows) == 40 and len(rejects) == 40 and {reject["reason"] for reject in rejects} == {"overrepresented"}
    run("filter", *words, "workers=2", to="g")
    assert [row["id"] for row in read_rows(tmp_path / "g")] == [row["id"] for row in rows]
