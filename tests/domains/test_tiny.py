"""The tiny models that ship with the package: small, whole, and as good as their README says."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from forked_command import run

from sq.core.chat import ChatFormat
from sq.models.load import PACKAGED, ModelConfig, load_tokenizer

ROOT = Path(__file__).parent.parent.parent
MODELS = ("tiny-base", "tiny", "tiny-other", "tiny-judge")


def config(name):
    return ModelConfig(name=name, path=f"package:{name}")


def test_all_together_stay_below_24_mib_and_are_safetensors_only():
    files = [p for name in MODELS for p in (PACKAGED / name).iterdir()]
    assert sum(p.stat().st_size for p in files) <= 24 * 2**20
    assert {p.suffix for p in files} <= {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_those_that_were_measured(name):
    recorded = json.loads((PACKAGED / "made.json").read_text())[name]
    weights = (PACKAGED / name / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == recorded["sha256"]
    assert recorded["command"].startswith("python train.py stage=")


@pytest.mark.parametrize("name", MODELS)
def test_a_llama_of_at_most_five_million_parameters_with_heads_of_64(name):
    with (PACKAGED / name / "model.safetensors").open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    sizes = [math.prod(tensor["shape"]) for tensor in tensors.values() if "shape" in tensor]
    assert 1.5e6 <= sum(sizes) <= 5e6
    shape = json.loads((PACKAGED / name / "config.json").read_text())
    assert shape["model_type"] == "llama" and shape["head_dim"] == 64


@pytest.mark.parametrize("name", MODELS)
def test_the_tokenizer_keeps_numbers_up_to_50_whole_and_the_chat_contract(name):
    tokenizer = load_tokenizer(config(name))
    chat = ChatFormat.from_tokenizer(tokenizer)
    assert chat.question_prefix == "<|im_start|>user\n" and chat.end == "<|im_end|>"
    assert all(len(tokenizer.tokenize(f" {number}")) == 1 for number in range(51))
    assert tokenizer.tokenize("375") == ["37", "5"]
    assert tokenizer.decode(tokenizer.encode("A café has 1/2 of 40 = 20.")) == "A café has 1/2 of 40 = 20."


@pytest.mark.vllm
@pytest.mark.slow
def test_the_solver_solves_as_its_record_says_through_vllm(tmp_path):
    """Greedy, held-out problems, the oracle decides: nine of ten of one to three steps, about seven of ten of more."""
    pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
    from sq.core.ledger import read_rows

    command = [sys.executable, str(ROOT / "evaluate.py"), "model=tiny", "benchmark=[arithmetic]", "tracking=none"]
    done = subprocess.run([*command, "output_dir=out"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = list(read_rows(tmp_path / "out" / "arithmetic" / "scores"))
    easy = [r["correct"] for r in rows if r["steps"] <= 3]
    hard = [r["correct"] for r in rows if r["steps"] > 3]
    assert len(easy) > 200 and len(hard) > 150
    assert sum(easy) / len(easy) >= 0.90
    assert sum(hard) / len(hard) >= 0.65


@pytest.mark.slow
def test_the_base_solves_few_of_what_the_solver_solves(tmp_path):
    """It has seen few worked solutions: at most a tenth, with two standard errors of 200."""
    from sq.core.ledger import read_rows

    words = ["model=tiny-base,tiny", "benchmark=[arithmetic]", "limit=200", "max_tokens=160", "tracking=none",
             "engine=hf", "engine.batch_size=256", "engine.window=1024", "engine.device=cpu"]  # fmt: skip
    done = run("evaluate.py", ["-m", *words, "output_dir=out"], tmp_path)
    assert done.returncode == 0, done.stderr
    places = {name: tmp_path / "out" / f"model={name}" / "arithmetic" / "scores" for name in ("tiny-base", "tiny")}
    right = {name: [float(r["correct"]) for r in read_rows(place)] for name, place in places.items()}
    before, after = (sum(values) / 200 for values in right.values())
    assert len(right["tiny"]) == 200 and before <= 0.14 and after >= 0.75
