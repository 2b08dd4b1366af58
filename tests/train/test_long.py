"""Whole chains of thought: a student whose context grows, rows as long as a pack, and none of them cut."""

import json

import pytest

from sq.train.fit import fit

MARKED = "<think>\n{}\n</think>\nThe answer is \\boxed{{7}}."


@pytest.mark.slow
def test_a_student_learns_traces_of_sixteen_thousand_tokens(job, tmp_path):
    step = "Let me add 12 and 7 once more, to be sure of it. "  # 16 to 20 tokens
    rows = [
        {"question": f"What is {i} + 3?", "response": MARKED.format(step * n)} for i, n in enumerate((640, 300, 90))
    ]
    source = tmp_path / "traces.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = job(
        "sft", f"data.input={source}", "model.positions=16384", "stage.pack_tokens=16384", "stage.batch_packs=1",
        "stage.epochs=1", "stage.validation=0", "trainer.gradient_checkpointing=true",
    )  # fmt: skip
    model = fit(made)
    told = json.loads((model.parent / "train.json").read_text())
    assert told["rows"] == 3 and not (model.parent / "rejects.jsonl").read_text()
    assert told["tokens"] > 15_000 and told["figures"]["train/loss"] > 0
    assert json.loads((model / "config.json").read_text())["max_position_embeddings"] == 16384


@pytest.mark.parametrize("tokens", [16384, 32768])
def test_packs_of_that_size_compose(job, tokens):
    made = job("sft", f"stage.pack_tokens={tokens}", f"model.positions={tokens}", "trainer.gradient_checkpointing=true")
    assert made.stage.pack_tokens == made.model.positions == tokens
