"""What training leaves is loaded by vLLM as it is: generators and students generate, a difficulty classifier scores."""

from __future__ import annotations

import json
import os

import pytest
import torch
from forked_command import preload_vllm, run
from transformers import AutoModelForCausalLM

from sq.train.fit import fit

pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_trained_models_generate_and_score_in_vllm_as_here(job, labels):
    """In one process of its own: vLLM leaves much behind in the one it ran in."""
    from sq.data.scoring import score_questions
    from sq.models.load import ModelConfig
    from sq.models.regressor import Regressor

    few = ("model.path=package:tiny", "data.limit=40", "stage.max_steps=3", "stage.lr=1e-4")
    paths = [fit(job(stage, *few, f"output_dir={labels.parent / stage}")) for stage in ("qft", "sft")]
    scorer = fit(job("difficulty", "model.path=package:tiny", f"data.input={labels}", "stage.lr=3e-4",
                     "stage.head_lr=0.02", "stage.epochs=2", "stage.batch_rows=8"))  # fmt: skip
    regressor = Regressor(ModelConfig(name="scorer", path=str(scorer)))
    questions = [json.loads(line)["question"] for line in labels.read_text().splitlines()[:12]]
    ours = score_questions(regressor, questions, pack_tokens=128)
    assert max(ours) - min(ours) > 0.02  # it tells questions apart
    rows = [list(regressor.chat.question_ids(text).ids) for text in questions]

    preload_vllm()
    words = [json.dumps(rows), str(scorer), *map(str, paths)]
    done = run("tests/train/in_vllm.py", words, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    generated, scores = json.loads(done.stdout.strip().splitlines()[-1])
    for path, (completions, prompts) in zip(paths, generated, strict=True):
        model = AutoModelForCausalLM.from_pretrained(path).eval()
        for key, (ids, reason) in completions.items():
            prompt = torch.tensor([prompts[key]])
            expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24,
                                      do_sample=False)  # fmt: skip
            wanted = expected[0, len(prompts[key]) :].tolist()
            assert ids == wanted[: len(ids)] and len(ids) >= 1 and reason in ("stop", "length"), (path, key)
    bias = json.loads((scorer / "regressor.json").read_text())["bias"]
    assert [score[0] + bias for score in scores] == pytest.approx(ours, abs=1e-3)
