"""Which rows an expression takes, what it may hold, and that rows left out are counted and traced."""

import json
from dataclasses import replace

import pytest

from sq.core.errors import ConfigError, RowError
from sq.data.sources import SourceConfig, digest, read_source, seeks
from sq.data.where import RowFilter

ROW = {
    "question": "How many?", "fail_rate": 0.5, "level": "easy", "k": 3, "none": None, "nan": float("nan"),
    "right": True, "tags": ["a", "b"],
    "text": "0.7", "huge": 10**400, "my level": 4, "extra": '{"score": 2, "other": null, "class (old)": "B"}',
}  # fmt: skip
TAKES = [
    ("fail_rate >= 0.5 and level != 'easy'", False),
    ("fail_rate >= 0.5 and level == 'easy'", True),
    ("fail_rate > 0.5 or k == 3", True),
    ("not fail_rate > 0.5", True),
    ("0.2 <= fail_rate < 0.6", True),
    ("0.2 <= fail_rate < 0.5", False),
    ("level in ['easy', 'medium']", True),
    ("level not in ('easy', 'medium')", False),
    ("'many' in question and 'x' not in question", True),
    ("'a' in tags", True),
    ("right", True),
    ("k * 2 + 1 == 7 and k % 2 == 1 and -k < 0 and k / 2 > 1", True),
    ("len(question) == 9 and lower(question) == 'how many?' and abs(-k) == 3", True),
    ("float(text) > 0.5", True),
    ("score == 2", True),
    ("other == None and none is None and k is not None", True),
    ("none > 1", False),
    ("none <= 1", False),
    ("none + 1 > 0", False),
    ("none in ['a']", False),
    ("none not in ['a']", False),
    ("len(none) > 0", False),
    ("none != 'easy'", False),
    ("none == None and level != None", True),
    ("nan == None and nan is None", True),
    ("nan != 0.7 or not (nan >= 0.5)", False),
    ("none != none or none == none", False),
    ("not none >= 0.5", False),
    ("not (none in ['a'])", False),
    ("not (level in ['hard', none])", False),
    ("level in ['easy', none]", True),
    ("none - 0.9 != 0", False),
    ("not (none > 1 and k == 3)", False),
    ("not (none > 1 and k == 4)", True),
    ("none > 1 or k == 3", True),
    ("not (none > 1 or k == 4)", False),
    ("not none", False),
    ("k == 3.0 and right == 1", True),
    ("str(k) == '3'", True),
    ("k != 3 and 1 / (k - 3) > 0", False),
    ("column('my level') > 3 and column('class (old)') in ['A', 'B']", True),
    ("float(column('my level')) < column('k')", False),
]


@pytest.mark.parametrize(("text", "taken"), TAKES)
def test_what_an_expression_takes(text, taken):
    assert (RowFilter(text).problem(ROW, "here") is None) is taken


REFUSED = [
    ("__import__('os').system('x')", r"may not hold \"__import__\('os'\).system\('x'\)\""),
    ("question.upper()", "may not hold 'question.upper"),
    ("tags[0] == 'a'", "Subscript"),
    ("2 ** 10 ** 10 > k", "may not hold"),
    ("'a' * 9 == level or [x for x in tags]", "ListComp"),
    ("lambda: 1", "Lambda"),
    ("f'{k}' == '3'", "JoinedStr"),
    ("len(question, k)", "Call"),
    ("len(*tags)", "may not hold"),
    ("(k := 2)", "may not hold"),
    ("fail_rate => 0.5", "is no expression .* it may use columns"),
    ("", "is no expression"),
    ("k" + " + k" * 600, "2,401 characters; 2,000 are allowed"),
    ("(" * 900 + "k" + ")" * 900, "nested too deeply|is no expression"),
    ("k > 1, k < 2", "asks nothing of a row; compare a column"),
    ("'k > 1'", "asks nothing of a row"),
    ("k == 1j", "may not hold '1j'"),
    ("my level > 3", r"is no expression .* columns \(column\('my level'\) for a name with spaces\)"),
    ("'my level' > 3", r"'my level' > 3\" asks nothing of a row.* with(?:out| spaces).* is column\('my level'\)"),
    ("k > 1 and 3 <= 'my level'", r"one whose name has spaces is column\(3\)"),
    ("column(k) > 1", "may not hold 'column"),
    ("level in ['easy', None]", "nothing is in a list by None; say: ... or level == None"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_an_expression_may_not_hold(text, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(where=text)


WRONG = [
    ("column('my levl') > 3", r"here has no column 'my levl', .*did you mean 'my level'"),
    ("column('text') > 3", r"column\('text'\) is '0.7', which has no order with 3; float\(column\('text'\)\) reads"),
    ("len == 3", r"here has no column 'len'"),
    ("fail_rat > 0", r"here has no column 'fail_rat', which .* asks for, did you mean 'fail_rate'\? It has: .*score"),
    (
        "text > 0.5",
        r"here: where='text > 0.5': text is '0.7', which has no order with 0.5; float\(text\) reads a number",
    ),
    ("0.5 < text", r"text is '0.7', which has no order with 0.5"),
    ("level > k", r"level is 'easy', which has no order with 3"),
    ("'a' * 1000000000 == level", r"'a' is 'a', and 'a' \* 1000000000 takes numbers"),
    ("k / (k - 3) > 1", r"k - 3 is 0, by which k / \(k - 3\) has no value"),
    ("float(level) > 1", r"level is 'easy', which float\(\) does not take"),
    ("len(k) > 1", r"k is 3, which len\(\) does not take"),
    ("k in level", r"level is 'easy', in which 3 cannot be; give a list"),
    ("text != 5", r"text is '0.7', which can never be 5; compare it with a text, as '0.7', or float\(text\)"),
    ("0.7 == text", r"text is '0.7', which can never be 0.7"),
    ("text == True", r"text is '0.7', which can never be True; compare it with a text, as '0.7'$"),
    ("text not in ['0.7', 5]", r"text is '0.7', which can never be 5"),
    ("k == '3'", r"k is 3, which can never be '3'; compare it with a number, as 3, or str\(k\)"),
    ("k in ['3']", r"k is 3, which can never be '3'"),
    ("3 in tags", r"tags is 'a', which can never be 3"),
    ("tags == 'a'", r"tags is \['a', 'b'\], which can never be 'a'; ask for 'a' in tags"),
    ("not text", r"text is '0.7', which is neither true nor false; say text == '0.7'"),
    ("float(huge) > 1", r"huge is 10000.*\.\.\., which float\(\) does not take"),
    ("huge / 2 > 1", r"2, by which huge / 2 has no value"),
    ("str(huge * huge * huge * huge * huge * huge * huge * huge * huge * huge * huge) == 'a'", "thousands of digits"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_value_that_an_expression_cannot_take_is_named(text, message):
    with pytest.raises(RowError, match=message):
        RowFilter(text).problem(ROW, "here")


@pytest.fixture
def labels(tmp_path):
    rows = [
        {"question": f"Question {i}?", "fail_rate": i / 10, "level": "easy" if i % 2 else "hard"} for i in range(10)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "rows.jsonl")


def test_rows_left_out_are_noted_with_their_place(labels, caplog):
    rejects = []
    config = SourceConfig(input=labels, where="fail_rate >= 0.5 and level != 'easy'", limit=3)
    assert [row["fail_rate"] for row in read_source(config, ["question"], rejects)] == [0.6, 0.8]
    assert [(bad.line, bad.reason) for bad in rejects] == [(n, "left_out") for n in (1, 2, 3, 4, 5, 6, 8, 10)]
    assert "2 rows used, 8 rejected (8 left_out)" in caplog.text and all(bad.row()["id"] for bad in rejects)
    whole = SourceConfig(input=labels)
    assert digest(config) != digest(whole) != digest(SourceConfig(input=labels, where="level == 'easy'"))
    with pytest.raises(RowError, match="no usable row; rejected: 10 left_out"):
        list(read_source(SourceConfig(input=labels, where="fail_rate > 1"), ["question"]))


def test_a_mix_hands_it_to_its_sources(labels):
    mix = {"all": {"input": labels, "where": "level == 'easy' # odd"}, "hard": {"input": labels}}
    config = SourceConfig(mix=mix, where="fail_rate > 0.7")
    assert sorted(row["fail_rate"] for row in read_source(config, ["question"])) == [0.8, 0.9, 0.9]
    with pytest.raises(ValueError, match="is no expression"):
        SourceConfig(mix={"all": {"input": labels, "where": "k > 1) or (k < 2"}}, where="fail_rate > 0.7")
    assert digest(config) != digest(SourceConfig(mix=mix))


def test_a_stages_rows_are_found_by_number_only_without_it(labels):
    assert not seeks(SourceConfig(input=labels, where="fail_rate > 0"))


def test_a_wrong_expression_is_a_config_error():
    from sq.core.config import build

    with pytest.raises(ConfigError, match="where='a b' is no expression"):
        build({"where": "a b"}, SourceConfig)


@pytest.mark.parametrize("where", ["level != 5", "level == 5", "level not in [4, 5]", "answer == 5", "topic in [5]"])
def test_a_number_that_is_kept_as_text_is_no_number(tmp_path, where):
    (tmp_path / "q.jsonl").write_text('{"question": "Why?", "level": 5, "answer": 5, "topic": 5}\n')
    column = where.split()[0]
    with pytest.raises(RowError, match=rf"q.jsonl, row 1: .*: {column} is '5', which can never be .*float\({column}\)"):
        list(read_source(SourceConfig(input=str(tmp_path / "q.jsonl"), where=where), ["question"]))
    (tmp_path / "q.csv").write_text("question,right\nWhy?,true\n")
    with pytest.raises(RowError, match="q.csv, row 2: .*: right is 'true', which can never be False"):
        list(read_source(SourceConfig(input=str(tmp_path / "q.csv"), where="right == False"), ["question"]))


def test_a_files_own_column_is_asked_where_a_stage_has_none_of_that_name(tmp_path):
    from sq.core.rows import JUDGED, fit_row

    lines = ('{"question": "Why?", "difficulty": "hard"}', '{"question": "How?", "difficulty": "easy"}')
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    kept = [fit_row(row, JUDGED) for row in read_source(SourceConfig(input=str(tmp_path / "q.jsonl")), ["question"])]
    assert all(row["difficulty"] is None for row in kept)
    for where, taken in (("difficulty == 'hard'", ["Why?"]), ("difficulty != 'hard'", ["How?"])):
        assert [row["question"] for row in kept if RowFilter(where).problem(row, "here") is None] == taken
    with pytest.raises(RowError, match="difficulty is 'hard', which has no order with 0.5"):
        RowFilter("difficulty > 0.5").problem(kept[0], "here")
    assert RowFilter("difficulty == 0.5").problem({**kept[0], "difficulty": 0.5}, "here") is None


class CountingDomain:
    """Problems without end, each harder than the one before."""

    name, digest = "counting", "counting"

    def seeds(self, count, seed, split):
        return ({"question": f"What is {n} plus 0?", "steps": n} for n in range(count))


def test_the_limit_counts_the_problems_of_a_domain_that_are_taken():
    config = SourceConfig(input="domain", limit=200, where="steps % 2 == 1")
    rows = list(read_source(config, ["question"], domain=CountingDomain()))
    assert [row["steps"] for row in rows] == list(range(1, 400, 2))
    message = "none of 15,001 problems in a row holds where='steps < 3', after 3 that do; .* limit=3"
    with pytest.raises(RowError, match=message):
        list(read_source(replace(config, where="steps < 3"), ["question"], domain=CountingDomain()))
