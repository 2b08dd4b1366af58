"""Duplicates: exact, near, recall at the similarity that is promised, and what is seen before counts."""

import itertools
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from forked_workers import children_of

from sq.core.errors import SqError
from sq.synth.filters.base import FilterItem
from sq.synth.filters.duplicates import DuplicateIndex, DuplicatesFilter
from sq.synth.filters.minhash import MinHash, jaccard, similarities
from sq.synth.filters.sorted_runs import SortedRuns
from sq.synth.filters.words import words_of

WORDS = [f"{a}{b}" for a in "bcdfghklmnprstvw" for b in ("at", "elo", "iri", "omu", "ust", "are", "ond", "ima")]


def find(index, texts):
    return index.find([name for name, _ in texts], index.signer.sign([text for _, text in texts]))


def matches(texts, **settings):
    return find(DuplicateIndex(DuplicatesFilter(**settings)), [(str(i), text) for i, text in enumerate(texts)])


def test_the_same_text_in_another_dress_is_exact():
    texts = ["What is 1.5 + 2?", "what is  1.5 + 2 ", "What is 15 + 2?", "What is 1.5 - 2?", "“What” is 1.5 + 2"]
    assert [f and f[:2] for f in matches(texts)] == [None, ("0", "exact"), None, None, ("0", "exact")]


def test_nearly_the_same_is_found_and_the_first_stays():
    base = "A farmer has forty sheep and sixty goats on his land and sells a third of the sheep to his neighbour in May"
    texts = [base, base + " . How many are left?", base.replace("farmer", "teacher"), "Something else entirely, is it?"]
    kinds = matches(texts, similarity=0.6)
    assert kinds[0] is None and kinds[3] is None
    assert kinds[1][:2] == kinds[2][:2] == ("0", "near") and 0.6 <= kinds[1][2] < 1
    assert matches(texts, similarity=1.0) == [None] * 4


def test_recall_is_at_least_95_percent_at_jaccard_0_8():
    rng = random.Random(0)
    originals, changed = [], []
    while len(originals) < 400:
        words = [rng.choice(WORDS) for _ in range(60)]
        other = list(words)
        for place in rng.sample(range(60), 2):
            other[place] = rng.choice(WORDS)
        one, two = (MinHash().shingles([w])[0] for w in (words, other))
        if 0.8 <= jaccard(one, two) < 0.84:
            originals.append(" ".join(words))
            changed.append(" ".join(other))
    hits = matches([*originals, *changed])
    assert not any(hits[:400])
    assert sum(hit is not None and hit[0] == str(i) for i, hit in enumerate(hits[400:])) >= 0.95 * 400


def test_shingles_are_sets_of_word_triples_exactly():
    rng = random.Random(1)
    for _ in range(50):
        one, two = ([rng.choice("abcd") for _ in range(rng.randint(3, 20))] for _ in range(2))
        triples = [{tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (one, two)]
        exact = len(triples[0] & triples[1]) / len(triples[0] | triples[1])
        assert jaccard(*MinHash().shingles([one, two])) == pytest.approx(exact)


@pytest.mark.parametrize("texts", [["Hi", "Hi there", "hi"], ["?", "!"], ["x"]])
def test_short_texts_do_no_harm(texts):
    kinds = matches(texts)
    assert kinds[0] is None and len(kinds) == len(texts)


def test_seeds_count_as_seen(run, tmp_path):
    for name, texts in (("seeds", ["How many legs have 3 dogs?"]), ("q", ["How many legs have 3 dogs", "And 4 cats?"])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"question": t}) + "\n" for t in texts))
    more = ["filters=[duplicates]", f"filters.duplicates.against=[{tmp_path / 'seeds.jsonl'}]"]
    metrics = run("filter", *more, f"input={tmp_path / 'q.jsonl'}", to="f")
    assert metrics["rows"] == 1 and metrics["rejects/duplicate"] == 1


def test_words_keep_what_matters_in_mathematics():
    assert words_of("If x^2 = 1,000.5, what’s −x?") == words_of("if x^2 = 1,000.5 what s −x")
    texts = ["2 + 2", "2 - 2", "2 2", "1.5", "15", "1 5", "1,5", "x = -3", "x = 3", "x < 3", "x² + 1", "x + 1"]
    assert len({tuple(words_of(text)) for text in texts}) == len(texts)


def test_numbers_come_in_the_order_in_which_they_were_added_whatever_was_merged():
    rng, runs, expected = random.Random(2), SortedRuns(), {}
    for start in range(0, 600, 20):
        keys = [rng.randrange(50) for _ in range(20)]
        runs.add(np.array(keys, dtype=np.uint64), np.arange(start, start + 20, dtype=np.uint32))
        for number, key in enumerate(keys, start):
            expected.setdefault(key, []).append(number)
    asked = [rng.randrange(60) for _ in range(80)]
    found = {}
    for place, number in zip(*runs.find(np.array(asked, dtype=np.uint64)), strict=True):
        found.setdefault(place, []).append(number)
    assert found == {place: expected[key] for place, key in enumerate(asked) if key in expected}


def test_a_block_without_keys_leaves_no_run():
    """Each run is looked through for each question."""
    runs, one = SortedRuns(), (np.array([7], dtype=np.uint64), np.array([3], dtype=np.uint32))
    for block in (one, one, *[(one[0][:0], one[1][:0])] * 100):
        runs.add(*block)
    assert len(runs._runs) == 1 and runs.find(one[0]) == ([0, 0], [3, 3])


def test_a_question_is_found_across_blocks_and_within_one_alike():
    texts = [(str(i), f"a farmer has {i} sheep and sells some of them to his neighbour in spring") for i in range(9)]
    texts += [("again", texts[2][1]), ("near", texts[2][1] + " again")]
    whole = find(DuplicateIndex(DuplicatesFilter(similarity=0.75, bands=30, rows=2)), texts)
    one_by_one = DuplicateIndex(DuplicatesFilter(similarity=0.75, bands=30, rows=2))
    assert whole == [match for text in texts for match in find(one_by_one, [text])]
    assert whole[2] is None and whole[9] == ("2", "exact", 1.0) and whole[10][1] == "near"


def test_questions_of_one_template_are_each_compared_with_a_few_and_near_ones_are_found(monkeypatch):
    """Whatever their number, and whatever the blocks."""
    compared = []

    def counted(one, others, lengths):
        compared.append(len(lengths))
        return similarities(one, others, lengths)

    for name, value in (("BUCKET", 2), ("COMMON", 8), ("similarities", counted)):
        monkeypatch.setattr(f"sq.synth.filters.duplicates.{name}", value)
    rng, rule = random.Random(4), " ".join(WORDS[:40])
    numbers = [[rng.randint(2, 99999) for _ in range(3)] for _ in range(150)]
    numbers += [[rng.randint(2, 99999), b, c] for _, b, c in numbers]
    texts = [(str(i), f"{rule} {a} + {b} * {c}") for i, (a, b, c) in enumerate(numbers)]
    whole = find(DuplicateIndex(DuplicatesFilter()), texts)
    assert whole[:150] == [None] * 150
    assert sum(match is not None and match[0] == str(i) for i, match in enumerate(whole[150:])) >= 0.95 * 150
    assert max(compared) <= 10 * 2 + 8 * 8  # of its buckets and of its rarest shingles
    one_by_one = DuplicateIndex(DuplicatesFilter())
    assert whole == [match for text in texts for match in find(one_by_one, [text])]


def filtered(count, **settings):
    """What the filter makes of questions of which every third nearly repeats another."""
    rng = random.Random(3)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(4, 40))) for _ in range(count)]
    texts = [text if i % 3 else texts[rng.randrange(count)] + " again" for i, text in enumerate(texts)]
    cases = iter([FilterItem(row={"id": str(i), "question": text}) for i, text in enumerate(texts)])
    return DuplicatesFilter(**settings).apply(cases, None)


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_finds_the_same(monkeypatch, processes):
    monkeypatch.setattr("sq.synth.filters.duplicates.BATCH", 16)
    rows = [[case.row for case in filtered(90, processes=n)] for n in (1, processes)]
    assert rows[0] == rows[1] and sum("duplicate_of" in row for row in rows[0]) > 10


def test_processes_end_with_the_filter_and_one_that_is_killed_is_said(monkeypatch):
    monkeypatch.setattr("sq.synth.filters.duplicates.BATCH", 4)
    cases = filtered(90, processes=2)
    before = set(children_of(os.getpid()))
    next(itertools.islice(cases, 8, None))
    started = set(children_of(os.getpid())) - before
    assert len(started) == 2
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SqError, match="has ended with exit code -9.*filters.duplicates.processes=1"):
        list(cases)
    assert not started & set(children_of(os.getpid()))
    started = filtered(90, processes=2)
    next(itertools.islice(started, 8, None))
    started.close()
    assert set(children_of(os.getpid())) == before


def test_processes_end_with_whoever_started_them_however_that_ends(monkeypatch):
    monkeypatch.setattr("sq.synth.filters.duplicates.BATCH", 4)
    parent = os.fork()
    if parent == 0:
        cases = filtered(90, processes=2)
        next(itertools.islice(cases, 8, None))
        signal.pause()
    while len(started := children_of(parent)) < 2:
        time.sleep(0.02)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        time.sleep(0.02)
