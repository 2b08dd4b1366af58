"""What training leaves is loaded by vLLM as it is: generators and students generate, a difficulty classifier scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from sq.train.fit import fit

pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

GENERATE = """
import json, sys
from sq.core.chat import ChatFormat
from sq.engine.base import Request, Sampling
from sq.engine.vllm import VLLMConfig
from sq.models.load import ModelConfig, eos_ids, load_tokenizer

model = ModelConfig(name="trained", path=sys.argv[1], dtype="fp32")
chat = ChatFormat.from_tokenizer(load_tokenizer(model), eos_ids=eos_ids(model))
asked = [Request(key="question", seed=1, prompt_ids=chat.question_prefix_ids,
                 sampling=Sampling(temperature=0, max_tokens=24, stop_token_ids=chat.stop_ids)),
         Request(key="answer", seed=1, prompt_ids=chat.answer_ids("Tom has 3 pens. How many?"),
                 sampling=Sampling(temperature=0, max_tokens=24, stop_token_ids=chat.answer_stop_ids))]
engine = VLLMConfig(max_model_len=128, dtype="float32").create(model)
found = {r.key: [list(r.completions[0].token_ids), r.completions[0].finish_reason] for r in engine.generate(asked)}
engine.close()
prompts = {request.key: list(request.prompt_ids) for request in asked}
print(json.dumps([found, prompts]))
"""
CLASSIFY = """
import json, sys
from vllm import LLM
rows = json.loads(sys.argv[2])
llm = LLM(sys.argv[1], runner="pooling", dtype="float32", enforce_eager=True, max_model_len=128)
out = llm.encode([{"prompt_token_ids": ids} for ids in rows], pooling_task="classify")
print(json.dumps([o.outputs.data.flatten().tolist() for o in out]))
"""


def in_vllm(program: str, *args: str) -> object:
    """What `program` prints at last, in a process of its own: vLLM leaves much behind in the one it ran in."""
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("stage", ["qft", "sft"])
def test_a_trained_model_generates_in_vllm_what_it_generates_here(stage, job):
    path = fit(job(stage, "model.path=package:tiny", "data.limit=40", "stage.max_steps=3", "stage.lr=1e-4"))
    found, prompts = in_vllm(GENERATE, str(path))
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    for key, (ids, reason) in found.items():
        prompt = torch.tensor([prompts[key]])
        expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False)
        wanted = expected[0, len(prompts[key]) :].tolist()
        assert ids == wanted[: len(ids)] and len(ids) >= 1 and reason in ("stop", "length"), key


def test_a_difficulty_classifier_scores_in_vllm_as_here(job, labels):
    from sq.data.scoring import score_questions
    from sq.models.load import ModelConfig
    from sq.models.regressor import Regressor

    path = fit(job("difficulty", "model.path=package:tiny", f"data.input={labels}", "stage.lr=3e-4",
                   "stage.head_lr=0.02", "stage.epochs=2", "stage.batch_rows=8"))  # fmt: skip
    regressor = Regressor(ModelConfig(name="scorer", path=str(path)))
    questions = [json.loads(line)["question"] for line in labels.read_text().splitlines()[:12]]
    ours = score_questions(regressor, questions, pack_tokens=128)
    assert max(ours) - min(ours) > 0.02  # it tells questions apart
    bias = json.loads((path / "regressor.json").read_text())["bias"]
    rows = [list(regressor.chat.question_ids(text).ids) for text in questions]
    theirs = in_vllm(CLASSIFY, str(path), json.dumps(rows))
    assert [score[0] + bias for score in theirs] == pytest.approx(ours, abs=1e-3)
