"""Packs in training order: every row once a pass, the same from any step on and over any number of processes."""

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.core.errors import ConfigError
from sq.data import module
from sq.data.module import PackLoader, follow_plan, plan_packs
from sq.data.tokens import TokenizedExample, TokenRows
from sq.models.pack import TokenSequence


@pytest.fixture
def rows(tmp_path):
    items = (TokenizedExample((TokenSequence([7, *range(100, 104 + i % 9)], 1),), str(i)) for i in range(120))
    return TokenRows.of(items, tmp_path / "rows")


def example(number):
    """One of many lengths."""
    return TokenizedExample((TokenSequence([7, *range(100, 104 + number * number % 23)], 1),), str(number))


def loader(rows, world=1, batch_packs=4, plan=None, **settings):
    plan = plan or plan_packs(rows, capacity=64, seed=3, prefix=1, batch_packs=batch_packs, world=world)
    settings = {
        "length": plan.length(2, None),
        "divisor": lambda items: sum(rows.supervised(i) for i in items),
    } | settings
    return PackLoader(rows, plan, seed=3, world=world, **settings)


def listed(batches):
    return [(batch.pack.rows, batch.divisor) for batch in batches]


def shares(every):
    """What each process is given of the same training."""
    found = []
    for rank in range(every.world):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "process", lambda rank=rank: (rank, every.world))
            found.append(list(every))
    return found


def test_each_pass_has_its_own_order(rows):
    every = loader(rows)
    packs = [pack for pack, divisor in listed(every) if divisor]
    assert packs != sorted(packs) and packs[: len(every.packs)] != packs[len(every.packs) :]


@given(
    count=st.integers(1, 150),
    world=st.integers(1, 8),
    size=st.one_of(
        st.builds(dict, batch_packs=st.integers(1, 40)),
        st.builds(dict, batch_rows=st.integers(1, 99)),
    ),
    epochs=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_a_pass_is_every_row_once_and_every_divisor_is_that_of_its_step(count, world, size, epochs):
    if size.get("batch_packs", 0) > world:
        size["batch_packs"] -= size["batch_packs"] % world
    with tempfile.TemporaryDirectory() as place:
        rows = TokenRows.of((example(i) for i in range(count)), Path(place))
        plan = plan_packs(rows, capacity=64, seed=3, prefix=1, world=world, **size)
        every = loader(rows, plan=plan, world=world, length=plan.length(epochs, None))
        parts = shares(every)
    assert {len(share) for share in parts} == {len(every)}, "processes would wait for each other"
    packs = len(plan.packing.packs)
    seen = {batch.number: batch.pack.rows for share in parts for batch in share if batch.divisor}
    assert sorted(seen) == list(range(epochs * packs))
    for first in range(0, epochs * packs, packs):
        assert sorted(row for n in range(first, first + packs) for row in seen[n]) == list(range(count))
    for step in range(every.steps):
        own = slice(step * every.accumulate, (step + 1) * every.accumulate)
        real = [batch for share in parts for batch in share[own] if batch.divisor]
        assert {batch.divisor for batch in real} == {float(sum(batch.pack.supervised for batch in real))}
        assert len(real) == plan.batch_packs or step == every.steps - 1, "only the last step may be smaller"


@given(
    planned=st.integers(1, 8),
    batch_rows=st.integers(1, 60),
    stops=st.lists(st.integers(0, 40), max_size=3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_plan_is_followed_by_every_number_of_processes_that_divides_its_steps(planned, batch_rows, stops, data):
    """Stopped at any steps and continued on other numbers of processes: the packs and divisors of the planned run."""
    with tempfile.TemporaryDirectory() as place:
        rows = TokenRows.of((example(i) for i in range(150)), Path(place))
        plan = plan_packs(rows, capacity=64, seed=3, prefix=1, batch_rows=batch_rows, world=planned)
        whole = loader(rows, plan=plan, world=planned)
        wanted = sorted(batch for share in shares(whole) for batch in listed(share) if batch[1])
        able = [n for n in range(1, plan.batch_packs + 1) if plan.batch_packs % n == 0]
        found, bounds = [], [0, *sorted(min(stop, whole.steps) for stop in stops), whole.steps]
        for first, last in itertools.pairwise(bounds):
            again = follow_plan(rows, json.loads(json.dumps(plan.record())), seed=3)
            part = loader(rows, plan=again, world=data.draw(st.sampled_from(able)))
            part.first_step = first
            for share in shares(part):
                found += [batch for batch in listed(share[: (last - first) * part.accumulate]) if batch[1]]
    assert sorted(found) == wanted


def test_a_later_start_gives_the_rest(rows):
    whole, later = loader(rows), loader(rows)
    later.first_step = 3
    assert listed(later) == listed(whole)[3 * 4 :] and len(listed(whole)) == len(whole)


def test_parts_of_a_pass_and_a_bound_on_steps_are_kept(rows):
    plan = loader(rows).plan
    packs = len(plan.packing.packs)
    assert plan.length(0.5, None) == round(packs / 2) and plan.length(0.001, None) == 1
    assert plan.length(9, 2) == 2 * plan.batch_packs and plan.length(1, 10**6) == packs


def test_processes_share_each_step_and_its_divisor(rows):
    alone = listed(loader(rows))
    first, second = (listed(share) for share in shares(loader(rows, world=2)))
    assert len(first) == len(second) == len(alone) // 2
    for step in range(len(alone) // 4):
        mine = first[2 * step : 2 * step + 2] + second[2 * step : 2 * step + 2]
        assert sorted(mine) == sorted(alone[4 * step : 4 * step + 4])


def test_the_divisor_is_the_supervised_tokens_of_the_whole_step(rows):
    step = list(loader(rows))[:4]
    assert {batch.divisor for batch in step} == {float(sum(batch.pack.supervised for batch in step))}


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_one_pass_over_processes_counts_every_pack_once(rows, world, monkeypatch):
    seen, lengths = Counter(), set()
    for rank in range(world):
        monkeypatch.setattr(module, "process", lambda rank=rank: (rank, world))
        batches = list(loader(rows, world=world, batch_packs=world).once())
        lengths.add(len(batches))
        seen.update(row for batch in batches if batch.divisor for row in batch.pack.rows)
    assert seen == Counter(range(120)) and len(lengths) == 1


def test_a_planned_number_of_processes_must_be_there(rows):
    with pytest.raises(ConfigError, match="planned for 2 processes, but 1 are running"):
        list(loader(rows, world=2))


@pytest.mark.parametrize("batch_rows", [4, 16, 40, 110])
@pytest.mark.parametrize("world", [1, 2])
def test_a_step_comes_near_the_rows_asked_for(rows, batch_rows, world):
    plan = plan_packs(rows, capacity=64, seed=0, batch_rows=batch_rows, world=world)
    assert plan.batch_packs % world == 0 and plan.packing.capacity <= 64
    found = plan.batch_packs * len(rows) / len(plan.packing.packs)
    assert found == pytest.approx(batch_rows, rel=0.35, abs=2)


@pytest.mark.parametrize("batch_rows", [4, 16, 40])
def test_no_step_is_left_with_a_few_tokens(rows, batch_rows):
    plan = plan_packs(rows, capacity=4096, seed=0, prefix=1, batch_rows=batch_rows)
    sizes = [int(rows.lengths[list(pack)].sum()) for pack in plan.packing.packs]
    assert plan.batch_packs == 1 and min(sizes) >= 0.6 * max(sizes)


@pytest.mark.parametrize(("world", "tokens"), [(8, 32), (16, 16), (64, 13)])
def test_fewer_packs_than_processes_become_smaller_ones(rows, world, tokens, caplog):
    """The presets' steps of four packs run on eight devices as they are: as many tokens a step, a pack for each."""
    with caplog.at_level("INFO"):
        plan = plan_packs(rows, capacity=64, seed=0, prefix=1, batch_packs=4, world=world)
    assert (plan.batch_packs, plan.packing.capacity) == (world, tokens)
    assert not plan.packing.too_long
    assert f"4 packs of 64 tokens a step for {world} processes: a pack of {tokens} each" in caplog.text


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_step_is_no_more_than_one_pass(rows, world, caplog):
    """The paper's 64 packs a step, on a few rows: none comes twice in it beyond what evens the processes."""
    with caplog.at_level("INFO"):
        plan = plan_packs(rows, capacity=256, seed=0, batch_packs=60, world=world)
    assert 0 <= plan.batch_packs - len(plan.packing.packs) < world
    assert "a step of 60 packs is more than all the data" in caplog.text
    assert plan.length(3, None) == 3 * len(plan.packing.packs)


def test_what_does_not_fit_is_reported(rows):
    with pytest.raises(ConfigError, match=r"rows do not fit into a pack of 9 tokens \(the longest has 13\)"):
        plan_packs(rows, capacity=9, seed=0)
    with pytest.raises(ConfigError, match=r"batch_packs=3 cannot be shared evenly by 2"):
        plan_packs(rows, capacity=64, seed=0, batch_packs=3, world=2)
