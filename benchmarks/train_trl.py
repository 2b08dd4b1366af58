"""TRL's side of `benchmarks/train.py`, in TRL's environment: SFTTrainer packing, DPOTrainer with references first.

Its settings are those that were fastest here (`--peer` tries others). SFT: packs of about 860 tokens, one at a time,
gathered to the step's size (longer ones pay for a mask over the whole pack, shorter ones for casting the weights more
often), without checkpointing. DPO: eight pairs at a time, which is as many tokens.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from sq.core.chat import ChatFormat
from sq.models.load import ModelConfig, locate

MARKS: list[float] = []
LOSSES: list[float] = []
REFERENCE: list[float] = []
ROWS: list[int] = [0]
PACK_TOKENS = 860


class Clock(TrainerCallback):
    """Notes the CPU time when training begins and after each step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        MARKS.append(time.process_time())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        MARKS.append(time.process_time())
        ROWS.append(0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            LOSSES.append(float(logs["loss"]))


class CountedSFT(SFTTrainer):
    """SFTTrainer, with a count of the rows in each step: positions restart with every row of a pack."""

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        ROWS[-1] += int((inputs["position_ids"] == 0).sum())
        return super().training_step(model, inputs, *args, **kwargs)


class TimedDPO(DPOTrainer):
    """DPOTrainer, with a clock around the pass of the reference."""

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        found = super()._precompute_ref_logps(*args, **kwargs)
        REFERENCE.append(time.process_time() - started)
        return found


def main(s: dict[str, Any]) -> None:
    """Train for so many steps and print the rate."""
    torch.set_num_threads(s["threads"])
    path = locate(ModelConfig(name="model", path=s["model"]))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    with open(s["rows"]) as file:
        rows = [json.loads(line) for line in file]
    common = {
        "max_steps": s["steps"], "learning_rate": 1e-6, "lr_scheduler_type": "constant", "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "bf16": s["precision"] == "bf16_mixed", "use_cpu": True,
        "gradient_checkpointing": False, "optim": "adamw_torch_fused", "disable_tqdm": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        make = _dpo if s["task"] == "qpo" else _sft
        make(model, tokenizer, rows, {**common, "output_dir": output}, s).train()
    counts = [s["batch"] if s["task"] == "qpo" else count for count in ROWS]
    steps = zip(MARKS[1:], MARKS[2:], counts[1:], strict=False)  # the first is not counted
    step = statistics.median((after - before) / count for before, after, count in steps)
    rate = 1 / (step + sum(REFERENCE) / len(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"rate": rate, "peak_mb": peak, "loss": LOSSES[0]}))


def _sft(model: Any, tokenizer: Any, rows: list[dict[str, str]], common: dict[str, Any], s: dict[str, Any]) -> Any:
    """Rows of our ids. With a loss on part of each row, TRL takes a mask beside the ids."""
    chat = ChatFormat.from_tokenizer(tokenizer)
    made = [chat.question_ids(r["question"]) if s["task"] == "qft" else _answer(chat, r, s) for r in rows]
    ids = [list(tokens.ids) for tokens in made]
    data = {"input_ids": ids, "completion_mask": [[int(i >= t.start) for i in range(len(t.ids))] for t in made]}
    tokens = sum(map(len, ids)) * s["batch"] / len(ids)
    packs = s["peer"].get("packs", max(1, round(tokens / PACK_TOKENS)))
    length = max(round(tokens / packs), max(map(len, ids)))
    config = SFTConfig(
        **common, packing=True, packing_strategy="bfd", max_length=length, per_device_train_batch_size=1,
        completion_only_loss=True, gradient_accumulation_steps=packs,
    )  # fmt: skip
    dataset = Dataset.from_dict(data)
    return CountedSFT(model, config, train_dataset=dataset, processing_class=tokenizer, callbacks=[Clock()])


def _answer(chat: ChatFormat, row: dict[str, str], s: dict[str, Any]) -> Any:
    return chat.training_ids(row["question"], row["response"], instruction=s["instruction"])


def _dpo(model: Any, tokenizer: Any, rows: list[dict[str, str]], common: dict[str, Any], s: dict[str, Any]) -> Any:
    prefix = ChatFormat.from_tokenizer(tokenizer).question_prefix
    size = min(s["peer"].get("size", 8), s["batch"])
    config = DPOConfig(
        **common, beta=0.1, precompute_ref_log_probs=True, max_length=512, per_device_train_batch_size=size,
        gradient_accumulation_steps=s["batch"] // size, padding_free=s["peer"].get("padding_free", False),
        precompute_ref_batch_size=size,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": prefix, **row} for row in rows])
    return TimedDPO(model, None, config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
