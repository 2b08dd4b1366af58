"""How fast is training on this GPU? Cases by the code of `train.py`, and a plain loop beside them, for `gpu.py`."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_rows import SHAPES, new_model, rows_of, synchronize

Mark = tuple[int, float, int, int]
"""A step, when it had ended, and how many tokens and targets there had been."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way of training; `tokens` are those of a pack at 7B shapes."""

    name: str
    stage: str = "sft"
    tokens: int = 4096
    packs: int = 8
    steps: int = 5
    compiled: bool = False
    checkpointing: bool = False
    lora: int = 0
    optimizer: str = "adamw_8bit"
    seconds: int = 60
    """What it takes on an H200, estimated."""


def trained(case: Case, device: str, shapes: str) -> dict[str, Any]:
    """A few steps of a case by the code of `train.py`, from packs on."""
    import torch

    from sq.core.config import build
    from sq.data.tokens import TokenRows
    from sq.train.config import TrainerConfig
    from sq.train.hardware import checked_trainer, tf32_products
    from sq.train.model import fit_to_packs, prepared
    from sq.train.packs import training_packs
    from sq.train.rows import TrainingRows
    from sq.train.stage import StageConfig
    from sq.train.trainer import prepare_process, run_training

    tiny = shapes == "tiny"
    case = replace(case, tokens=case.tokens // 16, packs=2, steps=3) if tiny else case
    names = {"sft": "sq.train.sft.SFTStage", "qft": "sq.train.qft.QFTStage", "qpo": "sq.train.qpo.QPOStage"}
    stage = build(
        {
            "_target_": names[case.stage], "name": case.stage, "lr": 1e-6, "optimizer": case.optimizer, "epochs": 9,
            "pack_tokens": case.tokens, "batch_packs": case.packs, "max_steps": case.steps, "validation": 0,
        },
        StageConfig,
    )  # fmt: skip
    trainer = build(
        {
            "_target_": "sq.train.config.TrainerConfig", "accelerator": "gpu" if device == "cuda" else "cpu",
            "precision": "bf16", "gradient_checkpointing": case.checkpointing, "compile": case.compiled,
            "log_every": case.steps, "parity_check": False, "lora": {"rank": case.lora},
        },
        TrainerConfig,
    )  # fmt: skip
    trainer = checked_trainer(trainer, stage)
    prepare_process(1 if device == "cpu" else None, 0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tf32_products(trainer), tempfile.TemporaryDirectory() as scratch:
        directory, vocabulary = Path(scratch), SHAPES[shapes]["vocab_size"]
        wanted = case.tokens * case.packs * (case.steps if case.stage != "qpo" else 2)
        items = rows_of(case.stage, vocabulary, wanted, 0.1 if tiny else 1.0)
        train, none = TokenRows.of(items, directory / "rows"), TokenRows.of([], directory / "none")
        rows = TrainingRows(train=train, held_out=none, counts={}, directory=directory)
        model = prepared(shapes, new_model(shapes, device, torch.bfloat16), torch.bfloat16, trainer, stage, rows)
        loss = stage.make_loss(model)
        packs = training_packs(rows, stage, loss, prefix=model.prefix, world=1, seed=0, record=None)
        fit_to_packs(model.model, loss, trainer, packs.largest)
        began = time.perf_counter()
        module, marks = timed_module(model, loss, rows, packs, stage, trainer, directory, device)
        references = directory / "references" if stage.needs_reference else None
        final = run_training(module, packs, Unlogged(), references, lambda weights: None)  # type: ignore[arg-type]
    return measured(case, model, packs, marks, began, final | {"first": module.first_loss}, device)


class Unlogged:
    """Stands where the tracked run does."""

    id = "benchmark"

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Nothing is kept."""

    def table(self, name: str, rows: Any) -> None:
        """Nothing is kept."""


def timed_module(
    model: Any, loss: Any, rows: Any, packs: Any, stage: Any, trainer: Any, directory: Path, device: str
) -> tuple[Any, list[Mark]]:
    """The module of training with a clock, and the marks that it makes."""
    from sq.train.module import TrainingModule

    marks: list[Mark] = []

    class Timed(TrainingModule):
        """Notes the time when the first step has ended, the second, and the last; nothing waits in between.

        Of the first its loss too, which is that of the weights as they came: `log_every` would give the mean of all.
        """

        first_loss = math.nan

        def on_train_start(self) -> None:
            synchronize(device)
            marks.append((0, time.perf_counter(), 0, 0))

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            step = self.global_step
            if step in (1, 2, self.steps) and step != marks[-1][0]:
                synchronize(device)
                if step == 1:
                    self.first_loss = self.metrics("train")["train/loss"]
                marks.append((step, time.perf_counter(), self.tokens_seen, self.targets_seen))

    module = Timed(
        model, loss, rows, stage=stage, trainer=trainer, steps=packs.train.steps, seed=0,
        checkpoints=directory / "checkpoints",
    )  # fmt: skip

    return module, marks


def measured(
    case: Case, model: Any, packs: Any, marks: list[Mark], began: float, final: dict[str, float], device: str
) -> dict[str, Any]:
    """Figures from the marks of a case that began at `began`."""
    import torch

    from sq.train.progress import flops_per_token, peak_flops

    warm, last = marks[-2], marks[-1]
    seconds, tokens, targets = (last[i] - warm[i] for i in (1, 2, 3))
    body, head = flops_per_token(model.model)
    work = body * tokens + head * targets
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = peak_flops(gpu) or 1e12
    found = {
        "tokens_per_s": round(tokens / seconds, 1),
        "mfu": round(work / seconds / peak, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
        "seconds_to_first_step": round(marks[1][1] - began, 2),
        "seconds_per_step": round(seconds / (last[0] - warm[0]), 4),
        "loss": final["train/loss"],
        "attention": f"{model.attention.kernel.value} ({model.attention.reason})",
        "head": f"{model.head.kernel.value} ({model.head.reason})",
        "filled": round(packs.plan.packing.efficiency, 3),
    }
    if case.stage == "qpo":
        # An epoch's reference pass is a third of the work of its training, and comes on top of its time.
        before = marks[0][1] - began
        share = last[2] / max(1, packs.plan.packing.tokens)
        found["ln2_off"] = final["first"] - math.log(2)
        found["seconds_of_references"] = round(before, 2)
        found["mfu_with_references"] = round(
            work * 4 / 3 / (seconds + before * share * tokens / max(1, last[2])) / peak, 4
        )
    return found


def plain_loop(device: str, shapes: str) -> dict[str, Any]:
    """What a trainer of whole batches does: rows padded to the longest, all logits, the model's own loss, AdamW."""
    import torch

    from sq.train.progress import flops_per_token, peak_flops

    tiny = shapes == "tiny"
    model = new_model(shapes, device, torch.bfloat16).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)
    scale, batch, steps = (0.1, 4, 3) if tiny else (1.0, 8, 5)
    items = rows_of("sft", SHAPES[shapes]["vocab_size"], 10**9, scale)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    tokens, targets, started, began = 0, 0, 0.0, time.perf_counter()
    first = 0.0
    for step in range(steps):
        rows = [next(items).rows[0] for _ in range(batch)]
        longest = max(len(row.ids) for row in rows)
        ids, labels = torch.zeros(batch, longest, dtype=torch.long), torch.full((batch, longest), -100)
        mask = torch.zeros(batch, longest, dtype=torch.long)
        for i, row in enumerate(rows):
            size = len(row.ids)
            ids[i, :size], mask[i, :size] = torch.tensor(row.ids), 1
            labels[i, row.start : size] = ids[i, row.start : size]
        out = model(
            **{k: v.to(device) for k, v in {"input_ids": ids, "attention_mask": mask, "labels": labels}.items()}
        )
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            synchronize(device)
            first, started = time.perf_counter() - began, time.perf_counter()
        else:
            tokens, targets = tokens + int(mask.sum()), targets + int((labels >= 0).sum())
    synchronize(device)
    seconds = time.perf_counter() - started
    body, head = flops_per_token(model)
    peak = peak_flops(torch.cuda.get_device_name() if device == "cuda" else "") or 1e12
    return {
        "tokens_per_s": round(tokens / seconds, 1), "mfu": round((body * tokens + head * targets) / seconds / peak, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
        "seconds_to_first_step": round(first, 2), "seconds_per_step": round(seconds / (steps - 1), 4),
        "loss": float(out.loss.detach()),
    }  # fmt: skip
