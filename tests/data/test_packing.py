"""Packing plans: every row once, no pack over capacity, first-fit-decreasing, deterministic, nothing cut."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.data.bin_packing import pack_rows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
lengths_st = st.lists(st.integers(1, 60), max_size=80)


def plain_first_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    packs: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[row] > capacity:
            continue
        for pack in packs:
            if sum(lengths[i] for i in pack) + lengths[row] <= capacity:
                pack.append(row)
                break
        else:
            packs.append([row])
    return packs


@given(lengths_st, st.integers(1, 70), st.one_of(st.none(), st.integers(0, 5)))
def test_every_row_stands_in_one_pack_or_is_reported(lengths: list[int], capacity: int, seed: int | None) -> None:
    plan = pack_rows(lengths, capacity, seed=seed)
    assert sorted(i for pack in plan.packs for i in pack) == [i for i, n in enumerate(lengths) if n <= capacity]
    assert list(plan.too_long) == [i for i, n in enumerate(lengths) if n > capacity]
    assert all(pack and sum(lengths[i] for i in pack) <= capacity for pack in plan.packs)
    assert plan.tokens == sum(n for n in lengths if n <= capacity)


@given(lengths_st, st.integers(1, 70))
def test_the_plan_is_first_fit_decreasing(lengths: list[int], capacity: int) -> None:
    assert [list(p) for p in pack_rows(lengths, capacity).packs] == plain_first_fit_decreasing(lengths, capacity)


@given(lengths_st, st.integers(0, 20), st.integers(30, 70), st.integers(1, 2))
def test_a_shared_prefix_counts_once_a_pack(own: list[int], prefix: int, capacity: int, segments: int) -> None:
    lengths = [n + prefix * segments for n in own]
    plan = pack_rows(lengths, capacity, prefix=prefix, segments=segments)
    assert sorted(i for pack in plan.packs for i in pack) + sorted(plan.too_long) == sorted(
        range(len(own)), key=lambda i: (own[i] + prefix > capacity, i)
    )
    assert all(prefix + sum(own[i] for i in pack) <= capacity for pack in plan.packs)
    assert plan.tokens == sum(prefix + sum(own[i] for i in pack) for pack in plan.packs)


def test_a_seed_repeats_and_another_differs() -> None:
    lengths = [random.Random(0).randrange(5, 40) for _ in range(200)]
    first = pack_rows(lengths, 64, seed=1)
    assert first == pack_rows(lengths, 64, seed=1)
    assert first.packs != pack_rows(lengths, 64, seed=2).packs
    assert len(first.packs) == len(pack_rows(lengths, 64).packs)


def test_nothing_to_pack() -> None:
    plan = pack_rows([], 100)
    assert plan.packs == () and plan.efficiency == 0.0
    assert pack_rows([7, 9], 5).too_long == (0, 1)


def test_impossible_settings_are_named() -> None:
    with pytest.raises(ValueError, match="capacity=20 leaves no room beside a shared prefix of 20"):
        pack_rows([30], 20, prefix=20)
    with pytest.raises(ValueError, match="row 1 has 3 tokens, fewer than 1 times the prefix of 5"):
        pack_rows([9, 3], 50, prefix=5)
    with pytest.raises(ValueError, match="segments=0"):
        pack_rows([9], 50, segments=0)


def test_a_quarter_million_rows_are_planned() -> None:
    """Takes half a second; placing by search from the first pack on would take many minutes."""
    draw = random.Random(3)
    lengths = [min(2000, int(draw.lognormvariate(4, 0.6)) + 1) for _ in range(250_000)]
    plan = pack_rows(lengths, 2048, seed=0)
    assert plan.efficiency > 0.995


@pytest.mark.parametrize("capacity", [2048, 256])
@pytest.mark.parametrize("prefix", [0, 24])
def test_real_questions_fill_their_packs(capacity: int, prefix: int) -> None:
    files = [DATA / "gsm8k_train.jsonl", DATA / "math_train.jsonl"]
    if not all(f.exists() for f in files):
        pytest.skip(f"no GSM8K and MATH in {DATA}")
    questions = [row.get("question") or row["problem"] for f in files for row in map(json.loads, f.open())]
    lengths = [24 + len(q.encode()) // 4 + 1 for q in questions]
    plan = pack_rows(lengths, capacity, prefix=prefix, seed=0)
    assert plan.efficiency >= 0.98
    assert len(plan.too_long) == sum(n > capacity for n in lengths)
