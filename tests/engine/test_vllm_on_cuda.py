"""Our arguments as vLLM on a GPU takes them, through its own configuration and checks (vllm_as_on_cuda.py)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaForSequenceClassification

from sq.models.load import ModelConfig, load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
HERE = Path(__file__).parent


def as_on_cuda(*models, vllm=""):
    command = [sys.executable, str(HERE / "vllm_as_on_cuda.py"), *models]
    environment = os.environ | {"PYTHONPATH": f"{vllm}:{HERE.parent.parent}".lstrip(":")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_is_served_by_model_runner_v2_with_cuda_graphs_and_a_reward_model_scores_there(random_tiny, tmp_path):
    LlamaForSequenceClassification.from_pretrained(random_tiny, num_labels=1).save_pretrained(tmp_path)
    load_tokenizer(ModelConfig(name="tiny", path=str(random_tiny))).save_pretrained(tmp_path)
    made, scorer = as_on_cuda("package:tiny max_num_seqs=64", f"{tmp_path} eager=true")
    assert made["v2"] and made["processors"] == 0 and made["runner"] == "generate" and made["max_num_seqs"] == 64
    assert not made["eager"] and made["graphs"] == "FULL_AND_PIECEWISE" and made["chunked_prefill"]
    assert scorer["v2"] and scorer["runner"] == "pooling" and scorer["processors"] == 0
    assert scorer["eager"] and scorer["graphs"] == "NONE"


@pytest.fixture
def newest(tmp_path):
    """The newest release of vLLM that pip offers, without what it depends on; its build is for CUDA."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(tmp_path)]
    done = subprocess.run([*pip, "vllm"], capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"pip offers no vLLM here: {done.stderr.strip().splitlines()[-1]}")
    yield tmp_path
    shutil.rmtree(tmp_path / "vllm")


def test_the_newest_release_takes_our_arguments_too(newest):
    (made,) = as_on_cuda("package:tiny max_num_seqs=64", vllm=newest)
    print(made["version"])
    assert made["v2"] and made["processors"] == 0 and made["runner"] == "generate" and made["max_num_seqs"] == 64
    assert not made["eager"] and made["graphs"] == "FULL_AND_PIECEWISE" and not made["unknown"]
