"""Our arguments as vLLM on a GPU takes them, through its own configuration and checks (vllm_as_on_cuda.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaForSequenceClassification

from sq.models.load import ModelConfig, load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
HERE = Path(__file__).parent


def as_on_cuda(model, *settings):
    command = [sys.executable, str(HERE / "vllm_as_on_cuda.py"), str(model), *settings]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_is_served_by_model_runner_v2_with_cuda_graphs():
    said = as_on_cuda("package:tiny", "max_num_seqs=64")
    assert said["v2"] and said["processors"] == 0 and said["runner"] == "generate" and said["max_num_seqs"] == 64
    assert not said["eager"] and said["graphs"] == "FULL_AND_PIECEWISE" and said["chunked_prefill"]


def test_a_reward_model_scores_there(random_tiny, tmp_path):
    LlamaForSequenceClassification.from_pretrained(random_tiny, num_labels=1).save_pretrained(tmp_path)
    load_tokenizer(ModelConfig(name="tiny", path=str(random_tiny))).save_pretrained(tmp_path)
    said = as_on_cuda(tmp_path, "eager=true")
    assert said["v2"] and said["runner"] == "pooling" and said["processors"] == 0
    assert said["eager"] and said["graphs"] == "NONE"
