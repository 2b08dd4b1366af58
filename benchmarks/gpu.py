"""Training on one GPU, in about eight minutes: is it right, how fast is it, and what would a plain loop do there.

    python benchmarks/gpu.py [--device cpu] [--shapes tiny] [--json FILE] [--minutes 8] [--wheels DIR] [--only CASE]
    python benchmarks/gpu.py --pack DIR     # with a network: the wheels that an image with torch and lightning lacks

Weights are random and of the shapes of Qwen2-7B, rows are random tokens with the lengths of real ones; the code is
`train.py`'s own from packs to the optimiser. Each case stands in the JSON file as soon as it has ended, so that a kill
loses one. What is printed: packed = unpacked in bf16 (loss and gradients, beside what bf16 alone does), how far from
ln 2 QPO starts, and of each case tokens/s, MFU (recomputed activations not counted), peak memory and seconds to the
first step. Goals: 55% MFU for SFT and QFT, 45% for QPO with its reference pass counted.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PREFIX = 24
NEEDED = ("hydra-core==1.3.2", "omegaconf==2.3.0", "antlr4-python3-runtime==4.9.3", "liger-kernel", "bitsandbytes")
OTHER_GPUS = ("cuda11", "cuda12", "rocm", "xpu")
LIMIT = 64 << 20
SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    },
}  # fmt: skip


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


CASES = (
    Case(name="sft-4k-compiled", compiled=True),
    Case(name="qpo-4k-compiled", stage="qpo", compiled=True, seconds=80),
    Case(name="sft-16k-compiled", tokens=16384, packs=2, compiled=True, checkpointing=True, seconds=75),
    Case(name="qft-4k-compiled", stage="qft", compiled=True),
    Case(name="plain-loop-4k", stage="plain", seconds=20),
    Case(name="sft-4k", seconds=30),
    Case(name="sft-4k-lora", lora=32, optimizer="adamw", seconds=30),
)
"""The most important first: parity goes before them, and serving after them."""
SECONDS = {"parity": 30, "serving": 240} | {case.name: case.seconds for case in CASES}


def main() -> None:
    """Run the cases in turn, while there is time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try the script")
    parser.add_argument("--shapes", default="7b", choices=tuple(SHAPES), help="tiny: to try it on a CPU")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the results; default: gpu.json here")
    parser.add_argument("--minutes", type=float, default=8, help="no case begins that would end later; default: 8")
    parser.add_argument("--wheels", type=Path, help="a directory that --pack has made, where there is no network")
    parser.add_argument("--pack", type=Path, help="fetch into this directory the wheels that --wheels takes, and end")
    parser.add_argument("--only", default="", help=f"cases whose names hold this: {', '.join(SECONDS)}")
    asked = parser.parse_args()
    if not any(asked.only in name for name in SECONDS):
        parser.error(f"--only {asked.only}: no case is called that; there are {', '.join(SECONDS)}")
    if asked.pack:
        pack_wheels(asked.pack)
        return
    if asked.wheels:
        use_wheels(asked.wheels)
    if asked.device == "cuda" and not has_gpu():
        parser.error(
            "PyTorch sees no GPU here. On a machine with one: make setup EXTRAS=cuda. To try the script: --device cpu "
            "--shapes tiny"
        )
    ends = time.monotonic() + 60 * asked.minutes
    results: dict[str, Any] = {"machine": machine(asked.device), "shapes": asked.shapes}
    print(json.dumps(results["machine"], indent=1))
    work: list[tuple[str, Callable[[], dict[str, Any]]]] = [("parity", lambda: parity(asked.device, asked.shapes))]
    for case in CASES:
        way = plain_loop if case.stage == "plain" else partial(trained, case)
        work.append((case.name, lambda way=way: way(asked.device, asked.shapes)))  # type: ignore[misc]
    work.append(("serving", lambda: serving(asked, ends - time.monotonic())))
    for name, run in work:
        if asked.only and asked.only not in name:
            continue
        started = time.monotonic()
        needed = 20 if asked.shapes == "tiny" else SECONDS[name]
        results[name] = no_time(name) if started > ends - needed else attempt(run, asked.device)
        results[name]["seconds"] = round(time.monotonic() - started, 1)
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    print(f"\n{table(results)}\n-> {asked.json}")
    if bad := wrong(results):
        sys.exit(f"not right: {', '.join(bad)}")


def wrong(results: dict[str, Any]) -> list[str]:
    """The cases that failed or were found wrong."""
    cases = {name: found for name, found in results.items() if name in SECONDS}
    return [name for name, found in cases.items() if "error" in found or found.get("holds") is False]


def has_gpu() -> bool:
    """Whether PyTorch is built for CUDA and sees a GPU."""
    import torch

    return torch.cuda.is_available()


def no_time(name: str) -> dict[str, Any]:
    """The result of a case that there is no time for."""
    return {"skipped": f"no time left: --only {name}"}


def attempt(run: Callable[[], dict[str, Any]], device: str) -> dict[str, Any]:
    """The result of a case, or what went wrong or is missing here: the next one is run all the same."""
    import torch

    from sq.core.errors import ConfigError

    try:
        return run()
    except ConfigError as error:
        return {"not_available": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    finally:
        gc.collect()
        torch._dynamo.reset()
        if device == "cuda":
            torch.cuda.empty_cache()


def machine(device: str) -> dict[str, Any]:
    """What it runs on, and what a plain product of matrices reaches there."""
    import torch

    from sq.train.progress import peak_flops

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = seconds_of(lambda: a @ b, device, 10)
    packages = {}
    for package in (
        "torch",
        "triton",
        "transformers",
        "lightning",
        "liger_kernel",
        "flash_attn",
        "bitsandbytes",
        "vllm",
    ):
        packages[package] = version(package)
    return {
        "device": name, "date": time.strftime("%Y-%m-%d"), "peak_tflops": (peak_flops(name) or 0) / 1e12 or None,
        "matmul_tflops": round(2 * size**3 / product / 1e12, 2), "packages": packages,
    }  # fmt: skip


def version(package: str) -> str | None:
    """Of an installed package."""
    import importlib.metadata as metadata

    try:
        return metadata.version(package.replace("_", "-")) if importlib.util.find_spec(package) else None
    except metadata.PackageNotFoundError:
        return "unknown"


def seconds_of(run: Callable[[], Any], device: str, times: int) -> float:
    """Seconds of one run, after three to warm up."""
    for _ in range(3):
        run()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        run()
    synchronize(device)
    return (time.perf_counter() - started) / times


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


# Rows and models


def rows_of(stage: str, vocabulary: int, tokens: int, scale: float) -> Iterator[Any]:
    """Rows of `tokens` in all: a prefix, and a question and a solution (SFT), two questions (QPO) or one (QFT)."""
    from sq.data.tokens import TokenizedExample
    from sq.models.pack import TokenSequence

    draw = random.Random(0)
    prefix = [draw.randrange(vocabulary) for _ in range(PREFIX)]

    def text(low: int, high: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(max(2, int(draw.randint(low, high) * scale)))]

    made, number = 0, 0
    while made < tokens:
        question = text(60, 200)
        if stage == "sft":
            answer = text(150, 900)
            sequences = [TokenSequence([*prefix, *question, *answer], PREFIX + len(question))]
        else:
            sides = [question] if stage == "qft" else [question, text(60, 200)]
            sequences = [TokenSequence([*prefix, *side], PREFIX) for side in sides]
        made += sum(len(sequence.ids) for sequence in sequences)
        yield TokenizedExample(tuple(sequences), f"row {number}")
        number += 1


def new_model(shapes: str, device: str, dtype: Any, **more: int) -> Any:
    """Random weights of Qwen2's architecture, made on the device."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Qwen2ForCausalLM(Qwen2Config(**SHAPES[shapes] | more, tie_word_embeddings=False))
    finally:
        torch.set_default_dtype(before)


# Is it right?


def parity(device: str, shapes: str) -> dict[str, Any]:
    """Packed against row by row in bf16, on each kernel, beside bf16 row by row against fp32."""
    import torch

    from sq.models.attention import Kernel

    layers = min(2, SHAPES[shapes]["num_hidden_layers"])
    model = new_model(shapes, device, torch.float32, num_hidden_layers=layers, vocab_size=512)
    rows = [row for item in rows_of("sft", 512, 2000, 0.3) for row in item.rows]
    exact = loss_and_gradient(model, rows, Kernel.UNPACKED, 0)
    model = model.bfloat16()
    half = loss_and_gradient(model, rows, Kernel.UNPACKED, 0)
    kernels = (Kernel.FLEX, Kernel.FLASH, Kernel.SDPA) if device == "cuda" else (Kernel.SDPA,)
    found: dict[str, Any] = {"rows": len(rows), "bf16_alone": apart(half, exact)}
    for kernel in kernels:
        for prefix in (0, PREFIX):
            if prefix and kernel is Kernel.FLASH:
                continue
            name = f"{kernel.value}{'_shared' if prefix else ''}"
            found[name] = attempt(lambda k=kernel, p=prefix: apart(loss_and_gradient(model, rows, k, p), exact), device)  # type: ignore[misc]
    return found | {"holds": holds(found, kernels[0].value)}


def holds(found: dict[str, Any], required: str) -> bool:
    """Whether each kernel that runs here is right, and `required` is one of them."""
    ran = {name: v for name, v in found.items() if isinstance(v, dict) and "not_available" not in v}
    bound = 2 * found["bf16_alone"]["gradient"] + 1e-3
    return required in ran and all(v.get("gradient", math.inf) <= bound for v in ran.values())


def loss_and_gradient(model: Any, rows: list[Any], kernel: Any, prefix: int) -> tuple[float, Any]:
    """Mean loss of the rows in one pack, or in a pack each, and the gradient as one vector."""
    import torch

    from sq.data.collate import collate
    from sq.models.attention import Kernel, choose_attention
    from sq.models.packed_forward import pack_loss

    attention = choose_attention(model, kernel, share_prefix=prefix > 0)
    groups = [[row] for row in rows] if kernel is Kernel.UNPACKED else [rows]
    packs = [collate(group, prefix=prefix).to(model.device) for group in groups]
    count, total = sum(pack.supervised for pack in packs), 0.0
    sums = [torch.zeros_like(p, dtype=torch.float32) for p in model.parameters()]
    for pack in packs:
        loss = pack_loss(model, pack, attention).total / count
        for held, gradient in zip(sums, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            held += gradient
        total += float(loss.detach())
    return total, torch.cat([held.flatten() for held in sums])


def apart(found: tuple[float, Any], expected: tuple[float, Any]) -> dict[str, float]:
    """How far off, relative to what is expected."""
    (loss, gradient), (wanted, wanted_gradient) = found, expected
    off = float((gradient - wanted_gradient).norm() / wanted_gradient.norm())
    return {"loss": abs(loss - wanted) / abs(wanted), "gradient": off}


# How fast is it?


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
        module, figures = timed_module(model, loss, rows, packs, stage, trainer, directory, device)
        references = directory / "references" if stage.needs_reference else None
        final = run_training(module, packs, Unlogged(), references, lambda weights: None)  # type: ignore[arg-type]
    return figures(final, case)


class Unlogged:
    """Stands where the tracked run does."""

    id = "benchmark"

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Nothing is kept."""

    def table(self, name: str, rows: Any) -> None:
        """Nothing is kept."""


def timed_module(
    model: Any, loss: Any, rows: Any, packs: Any, stage: Any, trainer: Any, directory: Path, device: str
) -> tuple[Any, Callable[..., dict[str, Any]]]:
    """The module of training with a clock, and what turns its marks into figures."""
    import torch

    from sq.train.module import TrainingModule
    from sq.train.progress import flops_per_token, peak_flops

    marks: list[tuple[int, float, int, int]] = []
    began = time.perf_counter()

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

    def figures(final: dict[str, float], case: Case) -> dict[str, Any]:
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
            found["ln2_off"] = module.first_loss - math.log(2)
            found["seconds_of_references"] = round(before, 2)
            found["mfu_with_references"] = round(
                work * 4 / 3 / (seconds + before * share * tokens / max(1, last[2])) / peak, 4
            )
        return found

    return module, figures


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


def serving(asked: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Our engine beside `vllm bench throughput`, by `benchmarks/serving.py`, where vLLM is installed."""
    ends = time.monotonic() + seconds
    if importlib.util.find_spec("vllm") is None:
        return {"skipped": "vLLM is not installed"}
    import torch

    from sq.domains import base

    tiny = asked.shapes == "tiny"
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = Path(base.__file__).parent / "tiny" / "tiny"
        place = str(tokenizer if tiny else scratch)  # vLLM's attention on a CPU has no heads of 16
        if not tiny:
            model = new_model(asked.shapes, asked.device, torch.bfloat16)
            model.save_pretrained(scratch)
            del model
            torch.cuda.empty_cache()  # for the engines, each in a process of its own
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                (Path(scratch) / name).write_bytes((tokenizer / name).read_bytes())
        file = Path(scratch) / "found.json"
        sizes = ["--prompts", "8", "--bench", "16", "--tokens", "8"] if tiny else ["--prompts", "256", "--bench", "128"]
        command = [sys.executable, str(Path(__file__).with_name("serving.py")), place, *sizes, "--json", str(file)]
        # With what it starts, which would keep the GPU, it is a group of its own.
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, start_new_session=True, **pipes) as process:
            try:
                _, errors = process.communicate(timeout=max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                return no_time("serving")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return json.loads(file.read_text()) if process.returncode == 0 else {"error": errors[-500:]}


def table(results: dict[str, Any]) -> str:
    """The cases as lines."""
    lines = [f"{'case':<20}{'tokens/s':>12}{'MFU':>8}{'GiB':>8}{'first step':>12}{'s/step':>9}  note"]
    for name, found in results.items():
        if not isinstance(found, dict) or name == "machine":
            continue
        cells = [found.get(k) for k in ("tokens_per_s", "mfu", "peak_gib", "seconds_to_first_step", "seconds_per_step")]
        note = found.get("error") or found.get("not_available") or found.get("skipped") or ""
        if name == "parity":
            missing = [kernel for kernel, v in found.items() if isinstance(v, dict) and "not_available" in v]
            note = note or f"packed = unpacked: {'holds' if found['holds'] else 'FAILS'}"
            note += f"; not available: {', '.join(missing)}" if missing else ""
        if "ln2_off" in found:
            note = f"ln 2 {found['ln2_off']:+.1e}, MFU with references {found['mfu_with_references']:.1%}"
        shown = ["" if c is None else f"{c:.1%}" if i == 1 else f"{c:,.2f}" for i, c in enumerate(cells)]
        lines.append(f"{name:<20}{shown[0]:>12}{shown[1]:>8}{shown[2]:>8}{shown[3]:>12}{shown[4]:>9}  {note[:80]}")
    return "\n".join(lines)


# Wheels for a machine without a network


def pack_wheels(directory: Path) -> None:
    """Fetch what is needed into `directory`; of bitsandbytes only the builds for CUDA 13 and CPUs are kept."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), *NEEDED]
    subprocess.run(command, check=True)
    for wheel in directory.glob("bitsandbytes-*.whl"):
        smaller = wheel.with_suffix(".part")
        with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as kept:
            for name in whole.namelist():
                if not (name.endswith(".so") and any(gpu in name for gpu in OTHER_GPUS)):
                    kept.writestr(name, whole.read(name))
        smaller.replace(wheel)
    size = sum(wheel.stat().st_size for wheel in directory.glob("*.whl"))
    print(f"{size / 2**20:.1f} MiB in {directory}; with the tree it must stay below {LIMIT >> 20} MiB")


def use_wheels(directory: Path) -> None:
    """Unpack wheels where this process finds them, behind what is installed."""
    place = tempfile.mkdtemp(prefix="wheels-")
    for wheel in sorted(directory.glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(place)
    sys.path.append(place)


if __name__ == "__main__":
    main()
