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
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_parity import attempt, parity
from benchmarks.gpu_rows import SHAPES, new_model, synchronize
from benchmarks.gpu_training import Case, plain_loop, trained
from benchmarks.gpu_wheels import pack_wheels, use_wheels

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


if __name__ == "__main__":
    main()
