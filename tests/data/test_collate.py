"""What stands where in a pack: positions, targets, the shared prefix, pairs, and rows that cannot be packed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core.errors import RowError
from sq.data.collate import collate, shared_prefix
from sq.models.pack import TokenSequence

END = 2
ROWS = [TokenSequence([7, 8, 10, 11, END], 2), TokenSequence([7, 8, 20, END], 2), TokenSequence([7, 8, END], 2)]


def test_rows_side_by_side() -> None:
    pack = collate(ROWS)
    assert pack.input_ids.tolist() == [7, 8, 10, 11, 7, 8, 20, 7, 8]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert pack.segment_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert pack.sources.tolist() == [1, 2, 3, 5, 6, 8]
    assert pack.targets.tolist() == [10, 11, END, 20, END, END]
    assert pack.owners.tolist() == [0, 0, 0, 1, 1, 2]
    assert (pack.tokens, pack.supervised, pack.lengths, pack.rows) == (9, 6, (4, 3, 2), (0, 1, 2))


def test_the_prefix_stands_once_and_positions_continue_from_it() -> None:
    pack = collate(ROWS, prefix=2)
    assert pack.input_ids.tolist() == [7, 8, 10, 11, 20]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 2]
    assert pack.segment_ids.tolist() == [-1, -1, 0, 0, 1]
    assert pack.sources.tolist() == [1, 2, 3, 1, 4, 1]  # each row's first target comes from the prefix's last token
    assert pack.targets.tolist() == [10, 11, END, 20, END, END]
    assert pack.lengths == (2, 1, 0)


def test_the_last_token_is_kept_for_a_regression() -> None:
    pack = collate([TokenSequence([7, 8, 10, END], 4), TokenSequence([7, 8, 20], 3)], prefix=2, keep_last=True)
    assert pack.input_ids.tolist() == [7, 8, 10, END, 20]
    assert pack.input_ids[pack.last].tolist() == [END, 20]
    assert pack.supervised == 0


def test_the_end_token_is_a_target_whatever_else_it_is() -> None:
    """Pad equal to eos masks the end token in many trainers; here no token is special, even in the text."""
    pack = collate([TokenSequence([END, END, 5, END, 6, END], 2)])
    assert pack.targets.tolist() == [5, END, 6, END]


def test_pretraining_supervises_all_but_the_first() -> None:
    for start in (0, 1):
        assert collate([TokenSequence([3, 4, 5], start)]).targets.tolist() == [4, 5]


def test_pairs() -> None:
    pack = collate([ROWS[0], ROWS[1], ROWS[1], ROWS[0]], paired=True, prefix=2, indices=[40, 41])
    assert pack.paired and pack.rows == (40, 41) and len(pack.lengths) == 4
    with pytest.raises(RowError, match="pairs two each; got 3"):
        collate(ROWS, paired=True)


def test_to_moves_every_tensor() -> None:
    moved = collate(ROWS, prefix=2).to("meta")
    assert {v.device.type for v in vars(moved).values() if hasattr(v, "device")} == {"meta"}
    assert moved.lengths == (2, 1, 0)


def test_rows_without_a_target_are_refused() -> None:
    with pytest.raises(RowError, match="row 1 has 2 tokens and supervises from 2: nothing to predict"):
        collate([ROWS[0], TokenSequence([7, 8], 2)])
    with pytest.raises(RowError, match="row 0 has 1 tokens"):
        collate([TokenSequence([7], 0)])
    with pytest.raises(RowError, match="at least one row"):
        collate([])


def test_a_wrong_prefix_is_refused() -> None:
    with pytest.raises(RowError, match="row 1 of the pack does not begin with the 2 tokens"):
        collate([ROWS[0], TokenSequence([7, 9, 20, END], 2)], prefix=2)
    with pytest.raises(RowError, match="row 0 supervises token 2, inside the shared prefix of 3"):
        collate([ROWS[0]], prefix=3)


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 6)), max_size=5))
def test_the_longest_prefix_that_can_be_shared(drawn: list[tuple[list[int], int]]) -> None:
    rows = [TokenSequence(ids, min(start, len(ids))) for ids, start in drawn]
    found = shared_prefix(rows)
    if not rows:
        assert found == 0
        return
    limit = min(min(r.start, len(r.ids) - 1) for r in rows)

    def common(n: int) -> bool:
        return all(r.ids[:n] == rows[0].ids[:n] for r in rows)

    assert 0 <= found <= limit and common(found)
    assert found == limit or not common(found + 1)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 4))
def test_every_target_is_predicted_from_the_token_before_it(own: list[list[int]], start: int) -> None:
    head = [11, 12, 13, 14][:start]
    rows = [TokenSequence(head + ids, start) for ids in own]
    for prefix in (0, shared_prefix(rows)):
        pack = collate(rows, prefix=prefix)
        expected = [(r.ids[i - 1], r.ids[i], i - 1) for r in rows for i in range(start, len(r.ids))]
        found = zip(
            pack.input_ids[pack.sources].tolist(),
            pack.targets.tolist(),
            pack.position_ids[pack.sources].tolist(),
            strict=True,
        )
        assert list(found) == expected
        assert all(s in (-1, o) for s, o in zip(pack.segment_ids[pack.sources], pack.owners, strict=True))
