"""TRL's side of `benchmarks/train.py`, in TRL's environment: SFTTrainer packing, DPOTrainer with references first."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from sq.models.load import ModelConfig, locate

MARKS: list[float] = []
LOSSES: list[float] = []


class Clock(TrainerCallback):
    """Notes the CPU time after each step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        MARKS.append(time.process_time())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            LOSSES.append(logs["loss"])


def main(s: dict[str, Any]) -> None:
    """Train for so many steps and print the rate."""
    torch.set_num_threads(s["threads"])
    path = locate(ModelConfig(name="model", path=s["model"]))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        AutoTokenizer.from_pretrained(path),
    )
    with open(s["rows"]) as file:
        rows = [json.loads(line) for line in file]
    common = {
        "max_steps": s["steps"], "learning_rate": 1e-6, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "bf16": s["precision"] == "bf16_mixed", "gradient_checkpointing": False, "use_cpu": True,
        "optim": "adamw_torch_fused",
        "disable_tqdm": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        make = _sft if s["task"] == "qft" else _dpo
        MARKS.append(time.process_time())
        make(model, tokenizer, rows, {**common, "output_dir": output}, s["batch"]).train()
    begin, steps = (0, len(MARKS) - 1) if s["task"] == "qpo" else (1, len(MARKS) - 2)
    rate = steps * s["batch"] / (MARKS[-1] - MARKS[begin])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"rate": rate, "peak_mb": peak, "loss": LOSSES[-1]}))


def _sft(model: Any, tokenizer: Any, rows: list[dict[str, str]], common: dict[str, Any], batch: int) -> Any:
    from trl import SFTConfig, SFTTrainer

    prefix, end = _prefix(tokenizer)
    tokens = [prefix + tokenizer(row["question"], add_special_tokens=False)["input_ids"] + end for row in rows]
    # Packs whose rows add up to `batch` in a step: eight to a step keep the dense attention of a pack small.
    packs = 8
    length = max(-(-sum(map(len, tokens)) * batch // len(tokens) // packs) + 1, max(map(len, tokens)))
    data = Dataset.from_dict({"input_ids": tokens})
    config = SFTConfig(**common, packing=True, max_length=length, per_device_train_batch_size=packs)
    return SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])


def _dpo(model: Any, tokenizer: Any, rows: list[dict[str, str]], common: dict[str, Any], batch: int) -> Any:
    from trl import DPOConfig, DPOTrainer

    prefix = tokenizer.decode(_prefix(tokenizer)[0])
    data = Dataset.from_list([{"prompt": prefix, **row} for row in rows])
    size = min(8, batch)
    config = DPOConfig(
        **common, beta=0.1, precompute_ref_log_probs=True, max_length=512,
        per_device_train_batch_size=size, gradient_accumulation_steps=batch // size,
    )  # fmt: skip
    return DPOTrainer(model, None, config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])


def _prefix(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The same ids before and after a question as on our side."""
    from sq.core.chat import ChatFormat

    chat = ChatFormat.from_tokenizer(tokenizer)
    return list(chat.question_prefix_ids), list(chat.end_ids)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
