"""Rows on their way to tokens: nothing is cut or dropped without a word, the split is seeded, tokens are made once."""

import json
import random
import re

import pytest

from sq.core.errors import ConfigError, RowError
from sq.data.tokens import TokenizedExample, TokenRows, TokenWriter, fill_once
from sq.models.pack import TokenSequence
from sq.train.fit import prepare


def made(job, stage, *words):
    given = prepare(job(stage, *words))
    data = given.reader.read(given.cache / given.tokens)
    rejects = [json.loads(line) for line in (data.directory / "rejects.jsonl").read_text().splitlines()]
    return data, rejects, given.reader.chat, given.tokenizer


def questions(path, texts):
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    return f"data.input={path}"


LONG = "What is " + " + ".join(str(i) for i in range(60)) + "?"


def test_a_row_above_the_limit_is_rejected_with_its_length(job, tmp_path):
    source = questions(tmp_path / "q.jsonl", ["What is 1 + 1?", LONG, "What is 2 + 2?"])
    data, rejects, *_ = made(job, "qft", source, "data.max_tokens=40", "stage.validation=0")
    assert len(data.train) == 2 and data.counts == {"too-long": 1}
    assert rejects[0]["reason"] == "too-long" and re.fullmatch(r"\d+ tokens, limit 40", rejects[0]["detail"])
    assert rejects[0]["row"]["question"] == LONG


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.max_tokens=40", r"rows may have 40 tokens, as data\.max_tokens says: raise it"),
        ("stage.pack_tokens=64", r"rows may have 64 tokens, as stage\.pack_tokens says: raise it"),
        ("model.max_length=48", r"rows may have 48 tokens, the context of model .*: model\.positions=N"),
    ],
)
def test_what_bounds_a_rows_length_is_named(job, tmp_path, caplog, words, told):
    source = questions(tmp_path / "q.jsonl", ["What is 1 + 1?", LONG, "What is 2 + 2?"])
    made(job, "qft", source, words, "stage.validation=0")
    assert re.search(told, caplog.text)


def test_rows_of_the_same_tokens_are_counted_and_trained_on(job, tmp_path, caplog):
    rows = [f"What is {i} + {i}?" for i in range(20)]
    data, rejects, *_ = made(job, "qft", questions(tmp_path / "q.jsonl", [*rows, *rows[:5], rows[0]]))
    assert data.counts == {"duplicate": 6} and len(data.train) + len(data.held_out) == 26 and not rejects
    assert data.summary == "26 rows in, 0 rejected"
    assert "6 rows are the same as an earlier one, and trained on all the same" in caplog.text
    assert "others:" not in caplog.text


@pytest.mark.parametrize(("of", "warned"), [("math", True), ("arithmetic", False), ("whatever", False)])
def test_rows_of_another_domain_are_said_to_be(job, tmp_path, caplog, of, warned):
    rows = [{"question": f"What is {i} + {i}?", "domain": of} for i in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, *_ = made(job, "qft", f"data.input={tmp_path / 'q.jsonl'}", "stage.validation=0")
    assert ("rows are of domain=math, and the stage has domain=arithmetic" in caplog.text) is warned
    assert len(data.train) == 3


def test_reading_rows_is_said_before_it_begins_and_now_and_then(job, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("sq.train.rows.LINE_SECONDS", -1)
    with caplog.at_level("INFO"):
        made(job, "qft", questions(tmp_path / "q.jsonl", ["What is 1 + 1?", "What is 2 + 2?"]), "stage.validation=0")
    assert caplog.messages == ["reading and tokenizing rows", "0 rows tokenized", "1 row tokenized"]


def test_truncating_keeps_the_end_token_and_is_counted(job, tmp_path, caplog):
    source = questions(tmp_path / "q.jsonl", ["What is 1 + 1?", LONG])
    with caplog.at_level("WARNING"):
        data, _, chat, _ = made(
            job, "qft", source, "data.max_tokens=40", "data.too_long=truncate", "stage.validation=0"
        )
    assert data.counts == {"truncated": 1} and "1 truncated" in caplog.text
    longest = data.train.rows(1)[0]
    assert len(longest.ids) == 40 and longest.ids[-1] == chat.end_ids[0]
    assert tuple(longest.ids[:39]) == chat.question_ids(LONG).ids[:39]


def test_a_pair_is_chosen_then_rejected_with_the_prefix_of_sampling(job, pairs):
    data, _, chat, _ = made(job, "qpo", f"data.input={pairs}", "stage.validation=0")
    first = json.loads(pairs.read_text().splitlines()[0])
    chosen, rejected = data.train.rows(0)
    assert tuple(chosen.ids) == chat.question_ids(first["chosen"]).ids
    assert tuple(rejected.ids) == chat.question_ids(first["rejected"]).ids
    assert data.train.common_prefix()[: len(chat.question_prefix_ids)] == chat.question_prefix_ids
    assert chosen.start == rejected.start == len(chat.question_prefix_ids)
    assert chosen.ids[-1] == rejected.ids[-1] == chat.end_ids[0]


def test_pairs_that_teach_nothing_are_rejected(job, tmp_path):
    file = tmp_path / "pairs.jsonl"
    pairs = [("What is 1 + 1?", "What?"), ("Same?", "  Same? "), ("  ", "What is 3?"), ("What is 4?", "")]
    file.write_text("".join(json.dumps({"chosen": a, "rejected": b}) + "\n" for a, b in pairs))
    data, rejects, *_ = made(job, "qpo", f"data.input={file}", "stage.validation=0")
    assert len(data.train) == 1
    assert len(rejects) == 3 and {"same"} <= {r["reason"] for r in rejects}


def test_rates_outside_0_to_1_and_labels_without_n_are_rejected(job, tmp_path):
    file = tmp_path / "labels.jsonl"
    rows = [
        {"question": "A?", "fail_rate": 0.4, "n": 5},
        {"question": "B?", "fail_rate": 40, "n": 5},
        {"question": "C?", "fail_rate": 1.0},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, rejects, *_ = made(
        job, "difficulty", f"data.input={file}", "stage.validation=0", "stage.certainty_weights=true"
    )
    assert len(data.train) == 1 and sorted(r["reason"] for r in rejects) == ["no-n", "rate"]
    assert data.train.values[0, 0] == pytest.approx(0.4) and data.train.values[0, 1] > 0


def test_the_end_token_carries_loss_where_pad_is_eos_too(job, tiny_model, tmp_path):
    import shutil

    place = tmp_path / "same"
    shutil.copytree(tiny_model, place)
    config = json.loads((place / "tokenizer_config.json").read_text())
    config["pad_token"] = config["eos_token"]
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    data, _, chat, tokenizer = made(job, "qft", f"model.path={place}", "data.limit=4", "stage.validation=0")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == chat.end_ids[0]
    row = data.train.rows(0)[0]
    assert row.ids[-1] == chat.end_ids[0] and data.train.supervised(0) == len(row.ids) - row.start


def test_a_share_that_holds_out_no_row_is_said(job, tmp_path, caplog):
    source = questions(tmp_path / "q.jsonl", [f"What is {i} + 1?" for i in range(20)])
    made(job, "qft", source, "stage.validation=0")
    assert "holds out none" not in caplog.text
    data, *_ = made(job, "qft", source, "stage.validation=0.001", f"output_dir={tmp_path / 'b'}")
    assert not len(data.held_out) and "stage.validation=0.001 of 20 rows holds out none" in caplog.text
    assert "stage.validation=0.5 would hold out some" in caplog.text


def test_the_validation_split_is_seeded_and_disjoint(job, tmp_path):
    source = questions(tmp_path / "q.jsonl", [f"What is {i} + {i}?" for i in range(200)])
    data, *_ = made(job, "qft", source, "stage.validation=0.3", f"output_dir={tmp_path / 'a'}")
    again, *_ = made(job, "qft", source, "stage.validation=0.3", f"output_dir={tmp_path / 'b'}")
    other, *_ = made(job, "qft", source, "stage.validation=0.3", "seed=1", f"output_dir={tmp_path / 'c'}")
    held = {data.held_out.name(i) for i in range(len(data.held_out))}
    assert 35 < len(held) < 85 and held.isdisjoint(data.train.name(i) for i in range(len(data.train)))
    assert held == {again.held_out.name(i) for i in range(len(again.held_out))}
    assert held != {other.held_out.name(i) for i in range(len(other.held_out))}


def test_a_mix_keeps_its_shares_and_a_limit(job, tmp_path):
    a = questions(tmp_path / "a.jsonl", [f"What is {i} + 0?" for i in range(90)]).split("=")[1]
    b = questions(tmp_path / "b.jsonl", [f"What is {i} * 1?" for i in range(90)]).split("=")[1]
    mix = f"data.mix={{one: {{input: {a}, weight: 2}}, two: {{input: {b}, weight: 1}}}}"
    data, _, _, tokenizer = made(job, "qft", mix, "data.limit=60", "stage.validation=0")
    texts = [tokenizer.decode(data.train.rows(i)[0].ids) for i in range(len(data.train))]
    assert len(texts) == 60 and sum("+ 0" in text for text in texts) == 40


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["data.max_tokens=2000"], ConfigError, r"data\.max_tokens=2000 is more than fits: stage\.pack_tokens=256"),
        (["data.input=nowhere.jsonl"], RowError, r"nowhere\.jsonl"),
        (
            ["data.limit=3", "stage.validation=0.9999"],
            RowError,
            r"all 80 rows are held out by stage\.validation=0\.9999",
        ),
        (["data.max_tokens=8", "data.limit=20"], RowError, r"no row is left to train on: .* too-long"),
    ],
)
def test_bad_input_ends_in_a_clear_error(job, words, error, message):
    with pytest.raises(error, match=message):
        made(job, "qft", *words)


def test_a_missing_column_names_what_is_there(job, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("querstion,solution\nWhat?,1\n")
    with pytest.raises(RowError, match=r"no column 'question', did you mean 'querstion'"):
        made(job, "sft", f"data.input={file}")


def test_token_rows_come_back_from_disk_as_they_were(tmp_path):
    draw = random.Random(0)
    items = [
        TokenizedExample(
            (TokenSequence([draw.randrange(2**20) for _ in range(draw.randrange(2, 40))], 1),), f"row {i}", (i / 7,)
        )
        for i in range(5000)
    ]
    rows = TokenRows.of(iter(items), tmp_path / "rows")
    assert len(rows) == 5000 and rows.segments == 1
    for i in draw.sample(range(5000), 50):
        assert rows.rows(i)[0].ids == items[i].rows[0].ids and rows.name(i) == f"row {i}"
        assert rows.lengths[i] == len(items[i].rows[0].ids) and rows.values[i, 0] == pytest.approx(i / 7)


def test_no_rows_are_no_error(tmp_path):
    with TokenWriter(tmp_path / "none"):
        pass
    rows = TokenRows.open(tmp_path / "none")
    assert len(rows) == 0 and rows.longest == 0 and rows.common_prefix() == () and list(rows.lengths) == []


def test_what_is_made_once_is_whole_or_not_there(tmp_path):
    def broken(directory):
        (directory / "half").write_text("x")
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        fill_once(tmp_path / "cache" / "a", broken)
    assert not (tmp_path / "cache" / "a").exists()
    calls = []
    for _ in range(2):
        fill_once(tmp_path / "cache" / "a", lambda directory: calls.append(directory))
    assert len(calls) == 1 and sorted(p.name for p in (tmp_path / "cache").iterdir()) == [".a.lock", "a"]


def names(rows):
    return {rows.name(i) for i in range(len(rows))}


@pytest.mark.parametrize(
    ("source", "shuffle"),
    [("file", "false"), ("file", "true"), ("domain", "false"), pytest.param("domain", "true", marks=pytest.mark.slow)],
)
def test_held_out_rows_are_the_same_at_any_limit(job, tmp_path, source, shuffle):
    """And training rows of a smaller limit are among those of a larger one, and none is held out."""
    texts = [f"What is {i} + {i % 7}?" for i in range(500)]
    given = (questions(tmp_path / "q.jsonl", texts),) if source == "file" else ()
    if source == "domain":  # one that has no more than some hundred problems
        given = ("data.input=domain", "domain.families=[shape]", "domain.max_steps=1")
    made_of = {}
    for limit in ("20", "80", "null"):
        words = (*given, f"data.shuffle={shuffle}", f"data.limit={limit}", "stage.validation=0.1")
        made_of[limit], *_ = made(job, "qft", *words, f"output_dir={tmp_path / limit}")
    small, large, whole = made_of.values()
    assert len(small.train) == 20 and len(large.train) == 80 and len(whole.train) > 300
    assert 20 < len(whole.held_out) < 100
    assert {data.held_out.digest() for data in made_of.values()} == {whole.held_out.digest()}
    assert names(small.held_out) == names(large.held_out) == names(whole.held_out)
    assert names(small.train) < names(large.train) < names(whole.train)
    assert names(whole.train).isdisjoint(names(whole.held_out))


def test_a_domain_gives_more_than_it_has_by_default_and_holds_out_the_same(job, tmp_path, monkeypatch):
    from sq.data import sources
    from sq.train import rows

    for module in (sources, rows):
        monkeypatch.setattr(module, "DOMAIN_ROWS", 100)
    found = []
    for limit in (30, 150):
        words = (
            "data.input=domain",
            f"data.limit={limit}",
            "stage.validation=0.1",
            f"output_dir={tmp_path / str(limit)}",
        )
        found.append(made(job, "qft", *words)[0])
    assert [len(data.train) for data in found] == [30, 150]
    assert len({data.held_out.digest() for data in found}) == 1 and 3 < len(found[0].held_out) < 25


def test_other_rows_held_out_have_another_digest(job, tmp_path):
    source = questions(tmp_path / "q.jsonl", [f"What is {i} + {i}?" for i in range(200)])
    digests = {
        made(job, "qft", source, "stage.validation=0.3", *words, f"output_dir={tmp_path / str(i)}")[0].held_out.digest()
        for i, words in enumerate([(), ("seed=1",), ("stage.validation=0.2",)])
    }
    assert len(digests) == 3
