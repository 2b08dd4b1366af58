"""Rows and scores in one number format are never taken for those in another: a real model, in a stage and its store."""

import json

import pytest

from sq.core.errors import DirectoryError
from sq.core.ledger import read_rows

TINY = ("engine=hf", "model=tiny-other", "model.dtype=auto", "engine.device=cpu", "limit=3")


@pytest.fixture(autouse=True)
def bf16(monkeypatch):
    monkeypatch.setattr("sq.models.load.cpu_has_bf16", lambda: True)


def test_a_stage_goes_on_in_the_format_it_began_in(run, tmp_path):
    def answers(*more, to="a"):
        return run("answers", "input=domain", "stage.max_tokens=4", "stage.n=2", *TINY, *more, to=to)

    assert answers()["items"] == 3
    assert answers("engine.batch_size=1", "engine.dtype=bfloat16")["resumed"] == 3
    with pytest.raises(DirectoryError, match='- engine.dtype: "bfloat16" there, "float32" now'):
        answers("engine.dtype=float32")
    answers("engine.dtype=float32", to="b")
    rows = {kind: list(read_rows(tmp_path / kind)) for kind in "ab"}
    assert not {r["id"] for r in rows["a"]} & {r["id"] for r in rows["b"]}
    assert {r["model"] for r in rows["a"]} == {r["model"] for r in rows["b"]}, "the weights are the same"


def test_a_judges_reply_in_one_format_is_not_reused_in_another(run, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps({"question": f"Tom has {i} apples. How many has he?"}) + "\n" for i in range(3)))

    def asked(dtype, to):
        judged = ("filters=[solvability]", "filters.solvability.max_tokens=4", f"stage.scores={tmp_path / 's'}")
        return run("filter", f"input={file}", *judged, *TINY, f"engine.dtype={dtype}", to=to)["usage/requests"]

    assert [asked("bfloat16", "a"), asked("float32", "b"), asked("bfloat16", "c"), asked("auto", "d")] == [3, 3, 0, 0]


def test_a_reward_in_one_format_is_not_another_ones(run, tmp_path, random_tiny):
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    reward = tmp_path / "reward"
    LlamaForSequenceClassification.from_pretrained(random_tiny, num_labels=1).save_pretrained(reward)
    AutoTokenizer.from_pretrained(random_tiny).save_pretrained(reward)
    file = tmp_path / "c.jsonl"
    rows = [{"question": "What is 2 + 3?", "response": f"It is \\boxed{{{n}}}."} for n in (4, 5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = (f"input={file}", "engine=hf", "engine.device=cpu", "model.name=reward", f"model.path={reward}")
    run("select", *chosen, "engine.dtype=float32", to="a")
    with pytest.raises(DirectoryError, match='- engine.dtype: "float32" there, "bfloat16" now'):
        run("select", *chosen, "engine.dtype=bfloat16", to="a")
