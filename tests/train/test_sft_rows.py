"""What carries loss: a question and its end, or the response that a stage has chosen, not the reference beside it."""

import json

import pytest

from sq.data.sources import read_source
from sq.train.fit import prepare


@pytest.mark.parametrize(
    ("row", "learnt"),
    [
        ({"question": "2 + 2?", "solution": "It is \\boxed{4}.", "response": "So \\boxed{5}."}, "So \\boxed{5}."),
        ({"question": "2 + 2?", "solution": None, "response": "So \\boxed{5}."}, "So \\boxed{5}."),
        ({"question": "2 + 2?", "solution": "It is \\boxed{4}."}, "It is \\boxed{4}."),
    ],
)
def test_the_response_is_learnt_where_there_is_one(job, tmp_path, row, learnt):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    one = job("sft", f"data.input={tmp_path / 'rows.jsonl'}")
    given = prepare(one)
    (read,) = read_source(one.data, given.reader.encoding.need)
    (learning,) = given.reader.encoding.encode(read).sequences
    assert given.tokenizer.decode(learning.ids[learning.start :], skip_special_tokens=True).strip() == learnt


def test_a_question_writer_learns_the_question_and_its_end_and_not_the_prefix(job):
    given = prepare(job("qft"))
    (learning,) = given.reader.encoding.encode({"question": "2 + 2?"}).sequences
    assert given.tokenizer.decode(learning.ids[learning.start :]) == "2 + 2?<|im_end|>"
    assert learning.ids[: learning.start] == given.reader.chat.question_prefix_ids
