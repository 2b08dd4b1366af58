"""Rows: the schemas grow and never change, ids never collide, and what is unusable is named."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.core import rows
from sq.core.rows import (
    COLUMNS,
    LABEL,
    LINEAGE,
    PAIR,
    QUESTION,
    SCHEMAS,
    SCORE,
    check_row,
    content_id,
    fit_row,
    row_id,
    text_problem,
)

LINEAGE_ROW = {"id": "a" * 32, "run": "r", "model": None, "seed": 1, "parents": ["b" * 32]}
ROW = {**LINEAGE_ROW, "question": "How many?"}
CHAIN = ["lineage", "question", "judged", "candidate", "example"]
# What is written in people's data: a name or a type that changes here makes their data unreadable. Add, never edit.
# Each entry: the schema it grows from, and the columns it adds ("!": required).
GOLDEN = {
    "lineage": (
        None,
        """
        id string! | run string! | model string | seed int64 | parents list<string>!
    """,
    ),
    "question": (
        "lineage",
        """
        question string! | domain string | generator string | prefix string | index int64 |
        question_finish_reason string | question_tokens int64 | question_prompt_tokens int64 | solution string |
        answer string | steps int64 | level string | topic string | source string | source_row int64 | source_id
        string | question_source string | operation string | round int64 | concepts list<string> |
        rated_difficulty double | answers_wanted int64 | extra string
    """,
    ),
    "annotated": ("question", "benchmark string | item string | correct bool | fail_rate double"),
    "judged": (
        "question",
        """
        language string | language_score double | solvable string | solvable_yes int64 | solvable_votes int64 |
        judge_model string | judge_reply string | judge_tokens int64 | judge_prompt_tokens int64 | difficulty
        double | difficulty_model string | pass_rate double | pass_rate_low double | pass_rate_high double |
        pass_rate_answer string | pass_rate_samples int64 | pass_rate_tokens int64 | pass_rate_model string |
        duplicate_of string | duplicate_kind string | duplicate_similarity double |
        overlap double | overlap_benchmark string | overlap_item string | overlap_ngram string |
        well_formed bool | format_problem string
    """,
    ),
    "candidate": (
        "judged",
        """
        question_id string! | response string! | response_index int64! | response_model string | response_prompt
        string | response_seed int64 | response_answer string | reasoning_end int64 |
        response_finish_reason string | response_tokens int64 | response_prompt_tokens int64 | correct bool |
        reward double | reward_model string | votes int64
        | agreement double | rank int64
    """,
    ),
    "example": (
        "candidate",
        """
        query string! | selected_by string! | candidates int64
    """,
    ),
    "pair": (
        "lineage",
        """
        chosen string! | rejected string! | direction string! | question_id string | pair_source string | domain
        string | generator string | prefix string | rewrite_model string | rewrite_prompt string | rewrite_reply
        string | rewrite_finish_reason string | rewrite_tokens int64 | rewrite_prompt_tokens int64 |
        chosen_solvable string | judge_model string | judge_reply string | chosen_score double | rejected_score
        double | extra string
    """,
    ),
    "label": (
        "question",
        """
        k int64! | n int64! | fail_rate double! | ci_low double! | ci_high double! | ci_level double |
        solver_model string | solver_prompt string | solver_answers list<string> |
        solver_solutions list<string> | solver_right list<bool> |
        solver_tokens int64 | solver_prompt_tokens int64 | stopped string
    """,
    ),
    "score": (
        "question",
        """
        benchmark string! | item string! | sample int64! | profile string! | prediction string! | reference
        string! | extracted string | correct bool! | verdict string! | reason string | prediction_model string |
        prediction_prompt string | prediction_finish_reason string | prediction_tokens int64 |
        prediction_prompt_tokens int64
    """,
    ),
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _typed(value):
    """`value` with its types spelled out, so that 1, 1.0 and True compare as different."""
    if isinstance(value, dict):
        return {k: _typed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_typed(v) for v in value]
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("name", SCHEMAS)
def test_golden_columns(name):
    base, added = GOLDEN[name]
    expected = [*_fields(base)] if base else []
    expected += [tuple(field.split()) for field in " ".join(added.split()).split(" | ")]
    assert list(_fields(name)) == expected


def _fields(name):
    for f in SCHEMAS[name]:
        kind = f"list<{f.type.value_type}>" if pa.types.is_list(f.type) else str(f.type)
        yield f.name, kind + ("" if f.nullable else "!")


@pytest.mark.parametrize(("earlier", "later"), list(zip(CHAIN, CHAIN[1:], strict=False)))
def test_each_stage_keeps_every_column_of_the_one_before(earlier, later):
    before, after = SCHEMAS[earlier], SCHEMAS[later]
    assert [after.field(n) for n in before.names] == list(before)
    assert len(after) > len(before)


@pytest.mark.parametrize("schema", [PAIR, LABEL, SCORE])
def test_the_others_carry_lineage(schema):
    assert list(schema)[: len(LINEAGE)] == list(LINEAGE)


def test_a_name_means_one_type_everywhere():
    for schema in SCHEMAS.values():
        assert len(set(schema.names)) == len(schema)
        assert all(COLUMNS[f.name] == f.type for f in schema)


def test_schemas_write_and_read_parquet(tmp_path):
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([fit_row(ROW, QUESTION)], schema=QUESTION)
    pq.write_table(table, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [fit_row(ROW, QUESTION)]


@given(plain, plain)
@settings(max_examples=300)
def test_different_determinants_never_share_an_id(a, b):
    assert (row_id("k", x=a) == row_id("k", x=b)) == (_typed(a) == _typed(b))
    assert (content_id({"x": a}) == content_id({"x": b})) == (_typed(a) == _typed(b))


def test_types_names_kinds_and_grouping_are_told_apart():
    values = [1, "1", 1.0, True, "true", None, "null", "None", [1], ["1"], [[1]], {"1": 1}, "", [], {}, -0.0, 0.0]
    values += ["\ud800\udc00", "\U00010000", "a,b", ["a", "b"], ["a,b"]]
    ids = [row_id("question", x=v) for v in values] + [row_id("pair", x=1), row_id("question", y=1), row_id("question")]
    ids += [row_id("question", a="1", b="2"), row_id("question", a="2", b="1"), row_id("question", ab="12")]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in ids)


def test_order_of_determinants_and_numpy_make_no_difference():
    assert row_id("q", a=1, b=2) == row_id("q", b=2, a=1)
    assert row_id("q", a=np.int64(1), b=np.float64(0.5)) == row_id("q", a=1, b=0.5)
    assert row_id("q", a=(1, 2)) == row_id("q", a=[1, 2])


@pytest.mark.parametrize("value", [{1: "a"}, b"x", {"a", "b"}, object()])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(TypeError, match="plain values|keys must be texts"):
        row_id("q", x=value)


def test_ids_are_the_same_in_every_process_and_for_ever():
    assert row_id("question", generator="qwen", index=7, seed=0) == "c4c36fd7df443d5bdb5ddc63a7dbf581"
    assert content_id({"question": "2+2?"}, 1) == "ead21325f040be5d1d03b8b811cbe137"
    code = (
        "from sq.core.rows import row_id, content_id;"
        "print(row_id('question', generator='qwen', index=7, seed=0), content_id({'question': '2+2?'}, 1))"
    )
    for hash_seed in ("1", "2"):
        env = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(p for p in sys.path if p)}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert out.stdout.split() == ["c4c36fd7df443d5bdb5ddc63a7dbf581", "ead21325f040be5d1d03b8b811cbe137"]


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), st.integers(0, 50), st.integers(0, 50))
def test_occurrence_tells_equal_rows_apart(content, one, other):
    assert (content_id(content, one) == content_id(content, other)) == (one == other)


def test_a_good_row_has_no_problem():
    assert check_row(ROW, QUESTION) == []
    assert check_row({**ROW, "level": None, "steps": np.int64(3)}, QUESTION) == []
    assert check_row({**LINEAGE_ROW, "chosen": "a", "rejected": "b", "direction": "d", "chosen_score": 1}, PAIR) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": None}, ["'question' is null", "every row needs it"]),
        ({"question": 5}, ["'question': 5 (int) is not a string"]),
        ({"question": "\ud800"}, ["surrogates not allowed"]),
        ({"seed": "1"}, ["'seed': '1' (str) is not an integer"]),
        ({"seed": True}, ["True (bool) is not an integer"]),
        ({"seed": 1.0}, ["1.0 (float) is not an integer"]),
        ({"seed": 2**63}, ["is not in the range of int64"]),
        ({"parents": "abc"}, ["'abc' (str) is not a list"]),
        ({"parents": ["a", 3]}, ["3 (int) is not a string"]),
        ({"questoin": "x"}, ["'questoin' is not in the schema", "did you mean 'question'?"]),
    ],
)
def test_each_problem_of_a_row_is_named(change, words):
    problems = check_row({**ROW, **change}, QUESTION)
    assert len(problems) == 1
    assert all(word in problems[0] for word in words), problems


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 10**400, "0.5", True])
def test_a_score_must_be_a_finite_number(score):
    row = {**LINEAGE_ROW, "chosen": "a", "rejected": "b", "direction": "d", "chosen_score": score}
    assert "number" in check_row(row, PAIR)[0] or "too large" in check_row(row, PAIR)[0]


def test_all_problems_are_reported_at_once():
    assert len(check_row({"id": 1, "run": None, "parents": []}, QUESTION)) == 3


good = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "run", "question"), st.text()),
        "parents": st.lists(st.text(), max_size=3),
        **dict.fromkeys(("seed", "steps"), st.none() | st.integers(-(2**63), 2**63 - 1)),
        "level": st.none() | st.text(),
    }
)
at_the_edge = st.sampled_from([2**63, -(2**63) - 1, "\ud83d", "a\udc00", ["\ud800"], [None], True, 2.0])


@given(good, st.sampled_from(["id", "run", "question", "parents", "seed", "steps", "level"]), plain | at_the_edge)
@settings(max_examples=300)
def test_a_row_without_problems_can_be_written(row, name, value):
    assert check_row(row, QUESTION) == []
    changed = row | {name: value}
    for each in (row, changed) if not check_row(changed, QUESTION) else (row,):
        table = pa.Table.from_pylist([each], schema=QUESTION)
        table.validate(full=True)
        assert {k: v for k, v in table.to_pylist()[0].items() if v is not None} == {
            k: v for k, v in each.items() if v is not None
        }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \t\n\u00a0", "is blank"),
        ("\u200b\ufeff", "is blank"),
        ("a\x00b", "NUL character (at 1)"),
        ("a \x1b[0m", "control character U+001B"),
        ("\x0crac{1}{2}", "single \\f"),
        ("\x08oxed{2}", "single \\b"),
        ("a\ud83d", "lone surrogate, U+D83D (at 1)"),
        ("\x7f", "control character U+007F"),
    ],
)
def test_unusable_text_is_named(text, words):
    assert words in text_problem(text)


@pytest.mark.parametrize("text", ["2+2?", "a\tb\r\nc", "π ≤ “4” €5", "¿Cuánto?", "多少", "👨‍👩‍👧", "\u202e"])
def test_usable_text_passes(text):
    assert text_problem(text) is None


@given(st.text(alphabet=st.characters(), max_size=30))
def test_text_without_a_problem_can_be_encoded(text):
    if text_problem(text) is None:
        text.encode()


def test_fit_row_keeps_foreign_columns_in_extra():
    row = fit_row({**ROW, "type": "Algebra", "π": "\ud800", "extra": '{"a": 1}'}, QUESTION)
    assert check_row(row, QUESTION) == []
    assert list(row) == QUESTION.names
    assert json.loads(row["extra"]) == {"a": 1, "type": "Algebra", "π": "\ud800"}
    assert fit_row(ROW, QUESTION)["extra"] is None
    assert json.loads(rows.with_extra("not JSON", {"b": 2})) == {"extra": "not JSON", "b": 2}
