"""Mixes, order and domains: weighted, seeded, the same on every run; and what is wrong with a mix is said."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core.config import build
from sq.core.errors import ConfigError, RowError
from sq.core.rows import QUESTION, check_row, fit_row
from sq.data.order import mixed, shuffled
from sq.data.sources import SourceConfig, digest, read_source

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.fixture
def files(tmp_path):
    for name, count in (("a", 300), ("b", 100)):
        lines = (json.dumps({"question": f"{name} {i}?"}) for i in range(count))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return {name: str(tmp_path / f"{name}.jsonl") for name in "ab"}


def read(need=QUESTION, domain=None, **settings):
    return [r["question"] for r in read_source(build(settings, SourceConfig), need, domain=domain)]


def shares(questions):
    return Counter(q[0] for q in questions)


def test_without_weights_every_row_of_every_source_comes(files):
    rows = read(mix={n: {"input": f} for n, f in files.items()})
    assert shares(rows) == {"a": 300, "b": 100} and len(set(rows)) == 400
    assert shares(rows[:100]) == {"a": 50, "b": 50}


def test_weights_are_shares_and_hold_at_every_point(files):
    parts = {"a": {"input": files["a"], "weight": 1}, "b": {"input": files["b"], "weight": 3}}
    rows = read(mix=parts)
    assert 130 <= len(rows) <= 136 and shares(rows)["b"] == 100
    assert shares(read(mix=parts, limit=40)) == {"a": 10, "b": 30}
    assert all(abs(shares(rows[:n])["b"] - 0.75 * n) <= 1 for n in range(1, len(rows)))


def test_a_number_is_the_weight_of_the_input_it_stands_by(files):
    assert shares(read(mix={files["a"]: 0.25, files["b"]: 0.75}, limit=40)) == {"a": 10, "b": 30}


def test_a_mix_is_the_same_on_every_run_and_differs_by_seed(files):
    mix = {n: {"input": f, "shuffle": True} for n, f in files.items()}
    assert read(mix=mix, seed=1) == read(mix=mix, seed=1)
    assert read(mix=mix, seed=1) != read(mix=mix, seed=2)
    assert sorted(read(mix=mix, seed=1)) == sorted(read(mix=mix, seed=2))


def test_parts_keep_their_own_limit_and_columns(files, tmp_path):
    (tmp_path / "c.csv").write_text("c,d\nc 1?,2\nc 2?,3\n")
    other = {"input": str(tmp_path / "c.csv"), "columns": {"question": "c"}, "limit": 1}
    assert shares(read(mix={"a": {"input": files["a"], "limit": 7}, "c": other})) == {"a": 7, "c": 1}


def test_a_source_mixed_with_itself_has_no_id_twice(files):
    config = build({"mix": {"x": {"input": files["b"]}, "y": {"input": files["b"]}}}, SourceConfig)
    ids = [r["id"] for r in read_source(config, QUESTION)]
    assert len(ids) == len(set(ids)) == 200


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        ({}, "mix={} names no source"),
        ({"a.jsonl": 0}, r"mix.a.jsonl.weight=0 must be a number above 0"),
        ({"a.jsonl": -1}, "must be a number above 0"),
        ({"a.jsonl": float("nan")}, "must be a number above 0"),
        ({"a.jsonl": True}, "must be a number above 0"),
        ({"a.jsonl": "much"}, "weight='much' must be a number"),
        ({"a": {"weight": 1}}, "mix.a has no input"),
        ({"a": {"inptu": "x"}}, "unknown key 'mix.a.inptu'.*did you mean 'input'"),
        ({"a": {"input": "x", "limit": 0}}, "mix.a.limit=0 must be at least 1"),
        ({"a": {"input": "x", "weight": 1}, "b": {"input": "y"}}, "a weight, or none; b has none"),
    ],
)
def test_a_bad_mix_is_refused_before_anything_is_read(mix, words):
    with pytest.raises(ConfigError, match=words):
        build({"mix": mix}, SourceConfig)


def test_input_and_mix_exclude_each_other(files):
    with pytest.raises(ConfigError, match="input and mix are both given"):
        build({"input": "x", "mix": {"a": {"input": "x"}}}, SourceConfig)
    with pytest.raises(RowError, match="no input is given"):
        read()


def test_every_source_of_a_mix_is_checked_at_once(files):
    config = build({"mix": {"a": {"input": files["a"]}, "z": {"input": files["b"] + "x.jsonl"}}}, SourceConfig)
    with pytest.raises(RowError, match="no file or directory"):
        read_source(config, QUESTION)


def test_shuffling_is_seeded_and_keeps_every_row(files):
    plain = read(input=files["a"])
    one, same, other = (read(input=files["a"], shuffle=True, seed=s) for s in (1, 1, 2))
    assert one == same != other and sorted(one) == sorted(plain) and one != plain
    assert read(input=files["a"], shuffle=True, seed=1, limit=10) == one[:10]


@given(st.integers(0, 200), st.integers(1, 50), st.integers())
def test_a_small_buffer_loses_and_doubles_nothing(count, buffer, seed):
    rows = [{"n": i} for i in range(count)]
    assert sorted(r["n"] for r in shuffled(rows, seed, buffer)) == list(range(count))


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 30), max_size=5), st.integers())
def test_a_mix_without_weights_loses_nothing(sizes, seed):
    streams = {n: (iter([{"n": n}] * size), None) for n, size in sizes.items()}
    assert Counter(r["n"] for r in mixed(streams, seed)) == Counter({n: s for n, s in sizes.items() if s})


@pytest.mark.parametrize(("sizes", "left"), [((4, 9), "rows of b are left out"), ((4, 4), None)])
def test_a_mix_with_weights_says_whose_rows_it_leaves(caplog, sizes, left):
    streams = {name: (iter([{"n": name}] * size), 0.5) for name, size in zip("ab", sizes, strict=True)}
    assert len(list(mixed(streams, 0))) in (8, 9)
    assert (left in caplog.text and "the mix ends after" in caplog.text) if left else not caplog.text


def test_the_end_of_a_mix_is_said_once(tmp_path, caplog):
    for name, count in (("a", 2), ("b", 9)):
        (tmp_path / f"{name}.jsonl").write_text('{"question": "1 + 1?"}\n' * count)
    parts = {name: {"input": f"{tmp_path}/{name}.jsonl", "weight": 0.5} for name in "ab"}
    for log_counts in (False, True):  # a look at the first rows, then all
        list(read_source(SourceConfig(mix=parts), ["question"], log_counts=log_counts))
        assert caplog.text.count("the mix ends after") == log_counts


class Sums:
    """A domain that makes its own problems, as `sq.domains` has them."""

    name = "sums"
    digest = "sums"

    def seeds(self, count, seed, split):
        for i in range(count):
            yield {"question": f"{split} {seed}: {i} + 1?", "answer": str(i + 1), "steps": 1}


@pytest.mark.parametrize("name", [None, "domain", "domain:sums"])
def test_a_domain_gives_its_problems(name):
    rows = list(read_source(SourceConfig(input=name, limit=3, seed=5), QUESTION, domain=Sums()))
    assert [r["question"] for r in rows] == ["train 5: 0 + 1?", "train 5: 1 + 1?", "train 5: 2 + 1?"]
    assert all(check_row(fit_row(r, QUESTION), QUESTION) == [] and r["steps"] == 1 for r in rows)
    assert read(input=name, limit=2, split="validation", domain=Sums())[0].startswith("validation")
    assert digest(SourceConfig(input=name), Sums()) != digest(SourceConfig(input=name, seed=1), Sums())


def test_the_arithmetic_domain_gives_its_problems():
    from sq.domains.arithmetic import ArithmeticConfig

    rows = list(
        read_source(SourceConfig(limit=50), ["question", "answer", "solution"], domain=ArithmeticConfig().create())
    )
    assert len({r["id"] for r in rows}) == 50
    assert all(check_row(fit_row(r, QUESTION), QUESTION) == [] for r in rows)


def test_a_domain_that_is_not_the_runs_is_refused():
    with pytest.raises(RowError, match="the run's domain is sums; say domain=code"):
        read(input="domain:code", domain=Sums())
    with pytest.raises(RowError, match="this run has none"):
        read(input="domain")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.mix={a.jsonl: 0.7, dir/b.csv.gz: 0.3}"], {"mix": {"a.jsonl": 0.7, "dir/b.csv.gz": 0.3}}),
        (["data.columns={question: 0, answer: 1}", "data.header=false"], {"columns": {"question": "0", "answer": "1"}}),
        (["data.input=a.jsonl", "data.limit=5", "+seed=7"], {"input": "a.jsonl", "limit": 5, "seed": 7}),
    ],
)
def test_the_command_line_sets_them(overrides, expected):
    from hydra import compose, initialize_config_dir

    from sq.core.config import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = build(compose("data/default", overrides=overrides).data, SourceConfig)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside this checkout")
def test_the_papers_mix_on_the_real_files():
    from hydra import compose, initialize_config_dir

    from sq.core.config import conf_dir

    files = {"gsm8k": "gsm8k_train.jsonl", "math": "math_train.jsonl"}
    overrides = [f"data.mix.{name}.input={DATA / file}" for name, file in files.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = build(compose("data/gsm8k-math", overrides=overrides).data, SourceConfig)
    rejects = []
    rows = list(read_source(config, QUESTION, rejects))
    assert len(rows) == len({r["id"] for r in rows}) == 7473 + 7500 and rejects == []
    assert 4000 < sum(r["source"].startswith("gsm8k") for r in rows[:10_000]) < 6000
    assert {r.get("topic") for r in rows} >= {None, "Algebra"}
